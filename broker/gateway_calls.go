package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// What connections and the broker ask of a group, by its gateway.

// attach adds a consumer. done is called before its first delivery.
func (w *gateway) attach(c queue.Consumer, to *receiver, done func(error)) {
	w.mu.Lock()
	if err := w.mu.err; err != nil {
		w.mu.Unlock()
		done(err)
		return
	}
	w.askLocked(wireMessage{kind: wireAttach, consumer: c}, func(m *wireMessage) {
		err := attachError(m)
		if err != nil {
			w.mu.Lock()
			delete(w.mu.consumers, c.ID)
			w.mu.Unlock()
		}
		done(err)
	})
	w.mu.consumers[c.ID] = &follower{Consumer: c, to: to}
	w.mu.Unlock()
}

func attachError(m *wireMessage) error {
	switch {
	case m == nil:
		return errStopping
	case m.code == replyExclusiveUse:
		return queue.ErrExclusiveUse
	case m.code == replyNoQueue:
		return queue.ErrNoQueue
	case m.code != replyOK:
		return queue.ErrConsumer
	}
	return nil
}

// detach removes a consumer. After done no delivery comes; what was given to
// it stays with its holder.
func (w *gateway) detach(id queue.ConsumerID, done func()) {
	w.ask(wireMessage{kind: wireDetach, consumer: queue.Consumer{ID: id}}, func(*wireMessage) {
		w.mu.Lock()
		if f := w.mu.consumers[id]; f != nil && !f.unwritten.empty() {
			f.gone = true
		} else {
			delete(w.mu.consumers, id)
		}
		w.mu.Unlock()
		done()
	})
}

// credit tells that n deliveries of a consumer were written to the socket: those
// written, of one without acks, which settles them. Whatever link breaks and
// whoever leads then, they are told of as unwritten or their settling is on its
// way.
func (w *gateway) credit(id queue.ConsumerID, n int, written []entry.Range) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.mu.consumers[id]
	if f == nil || w.mu.err != nil {
		return
	}
	f.given -= min(n, f.given)
	if f.NoAck && len(written) > 0 {
		w.wrote(f, written)
	}
	w.toLeader(&wireMessage{kind: wireCredit, consumer: queue.Consumer{ID: id}, n: uint64(n), ranges: written})
}

// wrote settles what was written for a consumer without acks. Called with mu held.
func (w *gateway) wrote(f *follower, written []entry.Range) {
	f.unwritten.removeAll(written)
	if f.gone && f.unwritten.empty() {
		delete(w.mu.consumers, f.ID)
	}
	w.submitLocked(&submission{
		ops: queue.AppendSettle(takeOps(), f.Queue, written), lasting: true,
		settled: []settledNote{{f.Holder, f.Queue, written}},
	})
}

// limit is basic.qos with global=true: prefetch shared by all of a holder's
// consumers, 0 for none.
func (w *gateway) limit(h queue.HolderID, prefetch uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holding(h).limit = prefetch
	w.toLeader(&wireMessage{kind: wireLimit, holder: h, n: uint64(prefetch)})
}

// holding is called with mu held.
func (w *gateway) holding(h queue.HolderID) *holding {
	v := w.mu.holders[h]
	if v == nil {
		v = &holding{queues: make(map[entry.QueueID]*heldSet), by: make(map[entry.QueueID]queue.ConsumerID)}
		w.mu.holders[h] = v
	}
	return v
}

// settled notes what a holder is done with. Called with mu held, before the
// submission with the op is sent, which tells the leader.
func (w *gateway) settled(n settledNote) {
	if v := w.mu.holders[n.holder]; v != nil {
		for _, r := range n.ranges {
			v.remove(n.queue, r)
		}
	}
}

func (v *holding) remove(q entry.QueueID, r entry.Range) {
	s := v.queues[q]
	if s == nil {
		return
	}
	if s.remove(r); s.empty() && len(v.queues) > keptQueues {
		delete(v.queues, q)
		delete(v.by, q)
	}
}

// keptQueues is for how many queues a channel keeps what it needs to hold
// messages of them, while it holds none.
const keptQueues = 16

// get takes one message for a holder. With noAck the message is settled once
// the reply's written is called.
func (w *gateway) get(q entry.QueueID, h queue.HolderID, noAck bool, done func(getReply)) {
	w.mu.Lock()
	if w.mu.err != nil {
		w.mu.Unlock()
		done(getReply{err: errStopping})
		return
	}
	defer w.mu.Unlock()
	w.holding(h) // A leader that is told anew has to know that it is there.
	w.askLocked(wireMessage{kind: wireGet, queue: q, holder: h}, func(m *wireMessage) {
		switch {
		case m == nil:
			done(getReply{err: errStopping})
			return
		case m.code != replyOK || len(m.deliveries) != 1:
			done(getReply{})
			return
		}
		d := m.deliveries[0]
		reply := getReply{found: true, delivery: d, round: m.round, remaining: m.n}
		w.mu.Lock()
		w.mu.enclosed.put(m)
		w.mu.Unlock()
		if noAck {
			reply.written = func() {
				one := []entry.Range{{First: d.Message, Last: d.Message}}
				w.submit(&submission{
					ops: queue.AppendSettle(takeOps(), q, one), lasting: true, settled: []settledNote{{h, q, one}},
				})
			}
		}
		done(reply)
	})
}

// hold notes that a delivery's holder has it. Called with mu held.
func (w *gateway) hold(d *queue.Delivery, got bool) {
	v := w.holding(d.Holder)
	s := v.queues[d.Queue]
	if s == nil {
		s = &heldSet{}
		v.queues[d.Queue] = s
	}
	if s.empty() {
		v.by[d.Queue] = d.Consumer
	} else if v.by[d.Queue] != d.Consumer {
		v.by[d.Queue] = 0
	}
	if got {
		v.by[d.Queue] = 0
	}
	s.add(d.Message)
}

// deadLetter takes messages that the holder rejected, of a queue that has a
// dead-letter exchange. done is called when their dead letters are where they
// go, or the broker stops.
func (w *gateway) deadLetter(h queue.HolderID, q *topology.Queue, ranges []entry.Range, done func()) {
	w.ask(wireMessage{kind: wireDeadLetter, holder: h, queue: q.ID, ranges: ranges}, func(*wireMessage) {
		w.mu.Lock()
		if v := w.mu.holders[h]; v != nil {
			for _, r := range ranges {
				v.remove(q.ID, r)
			}
		}
		w.mu.Unlock()
		done()
	})
}

// closeHolder detaches the consumers of a holder and requeues all that it has.
func (w *gateway) closeHolder(h queue.HolderID, done func()) {
	w.mu.Lock()
	if w.mu.err != nil {
		w.mu.Unlock()
		done()
		return
	}
	delete(w.mu.holders, h)
	if len(w.mu.holders) == 0 {
		w.mu.enclosed.clear() // Of deliveries that nobody took any more.
	}
	for id, f := range w.mu.consumers {
		if f.Holder == h {
			delete(w.mu.consumers, id)
		}
	}
	unanswered := w.withdraw(h)
	told := w.mu.greeted
	if told {
		w.askLocked(wireMessage{kind: wireClose, holder: h}, func(*wireMessage) { done() })
	}
	w.mu.Unlock()
	for _, c := range unanswered {
		c.answer(&wireMessage{code: replyFailed})
	}
	if !told {
		done() // The next leader never hears of it.
	}
}

// withdraw takes back what a holder asked for and has not got. It would be given
// to nobody: what a later leader answers, and what comes on its way, since the
// holder is closed behind it. Called with mu held.
func (w *gateway) withdraw(h queue.HolderID) (calls []*gatewayCall) {
	for _, n := range slices.Sorted(maps.Keys(w.mu.calls)) {
		c := w.mu.calls[n]
		if c.message.kind == wireGet && c.message.holder == h || c.message.kind == wireAttach && c.message.consumer.Holder == h {
			delete(w.mu.calls, n)
			calls = append(calls, c)
		}
	}
	return calls
}

// count asks for a queue's counts, after all that was handed in before.
func (w *gateway) count(ctx context.Context, q entry.QueueID) (queueCounts, error) {
	counts, err := w.counts(ctx, wireMessage{kind: wireCount, numbers: []uint64{uint64(q)}})
	if err != nil {
		return queueCounts{}, err
	}
	return counts[0], nil
}

// maxCounted bounds the queues of one call.
const maxCounted = 4096

// countNow asks for the counts of queues as they are, in their order, whatever
// is still on its way: for who only looks.
func (w *gateway) countNow(ctx context.Context, queues []entry.QueueID) ([]queueCounts, error) {
	counts := make([]queueCounts, 0, len(queues))
	for part := range slices.Chunk(queues, maxCounted) {
		m := wireMessage{kind: wireCount, n: 1}
		for _, q := range part {
			m.numbers = append(m.numbers, uint64(q))
		}
		some, err := w.counts(ctx, m)
		if err != nil {
			return nil, err
		}
		counts = append(counts, some...)
	}
	return counts, nil
}

func (w *gateway) counts(ctx context.Context, ask wireMessage) ([]queueCounts, error) {
	m, err := w.await(ctx, ask)
	if err != nil {
		return nil, err
	}
	if len(m.numbers) != countFields*len(ask.numbers) {
		return nil, fmt.Errorf("%w: %d numbers count %d queues", errWire, len(m.numbers), len(ask.numbers))
	}
	counts := make([]queueCounts, 0, len(ask.numbers))
	for n := range slices.Chunk(m.numbers, countFields) {
		counts = append(counts, queueCounts{
			ready: n[0], unacked: n[1], consumers: int(n[2]), bytes: n[3], published: n[4],
			queueTraffic: queueTraffic{delivered: n[5], deliveredNoAck: n[6], redelivered: n[7], got: n[8], acked: n[9]},
		})
	}
	return counts, nil
}

// transfer asks the leader to have another broker lead, and waits until it does.
//
// Errors: remoteError where the leader refuses; that of ctx.
func (w *gateway) transfer(ctx context.Context, to string) error {
	m, err := w.await(ctx, wireMessage{kind: wireTransfer, text: to})
	switch {
	case err != nil:
		return err
	case m.code != replyOK:
		return remoteError(m.text)
	}
	return w.readyAt(ctx, to)
}

// purge removes the ready messages of a queue and returns their number.
func (w *gateway) purge(ctx context.Context, q entry.QueueID) (uint64, error) {
	m, err := w.await(ctx, wireMessage{kind: wirePurge, queue: q})
	switch {
	case err != nil:
		return 0, err
	case m.code != replyOK:
		return 0, remoteError(m.text)
	}
	return m.n, nil
}

// awaitDeaths waits until what died in a queue before is dead-lettered.
func (w *gateway) awaitDeaths(ctx context.Context, q entry.QueueID) error {
	_, err := w.await(ctx, wireMessage{kind: wireDeaths, queue: q})
	return err
}

// await makes a call and waits for its answer. When ctx ends before, the call
// is taken back: a leader who comes later is not asked any more.
func (w *gateway) await(ctx context.Context, m wireMessage) (*wireMessage, error) {
	answered := make(chan *wireMessage, 1)
	number := w.ask(m, func(m *wireMessage) { answered <- m })
	select {
	case answer := <-answered:
		if answer == nil {
			return nil, errStopping
		}
		return answer, nil
	case <-ctx.Done():
		w.mu.Lock()
		delete(w.mu.calls, number)
		w.mu.Unlock()
		return nil, ctx.Err()
	}
}

// do submits ops and waits for their end. The results are the caller's.
func (w *gateway) do(ctx context.Context, ops []byte) (outcome, error) {
	answered := make(chan outcome, 1)
	w.submit(&submission{ops: ops, done: func(o outcome) { answered <- o.clone() }})
	select {
	case o := <-answered:
		return o, o.err
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}
