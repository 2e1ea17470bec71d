package broker

import (
	"errors"
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// guest is what a queue group's leader has of one gateway.
type guest struct {
	attendant *attendant
	receiver  receiver
	holders   map[queue.HolderID]struct{}
	// recalled are the holders that it had before it began anew, while it tells
	// what they have; nil else.
	recalled map[queue.HolderID]*recall
}

func (g *group) guest(a *attendant) *guest {
	if a.data == nil {
		v := &guest{attendant: a, holders: make(map[queue.HolderID]struct{})}
		v.receiver.deliver = func(deliveries []queue.Delivery, _ uint32) { g.send(v.attendant, deliveries) }
		v.receiver.cancelled = func(id queue.ConsumerID) {
			v.attendant.reply(&wireMessage{kind: wireCancelled, consumer: queue.Consumer{ID: id}})
		}
		a.data = v
	}
	return a.data.(*guest)
}

// serve handles a gateway's message. Called on the loop's goroutine.
func (g *group) serve(a *attendant, m *wireMessage) {
	v := g.guest(a)
	reply := func(r wireMessage) {
		r.kind, r.call = wireReply, m.call
		a.reply(&r)
	}
	done := func() { reply(wireMessage{}) }
	switch m.kind {
	case wireAttach:
		v.holders[m.consumer.Holder] = struct{}{}
		v.told(m.consumer.Holder, m.consumer.Queue, m.ranges)
		err := g.join(v, m)
		if err != nil && m.call == 0 {
			// It was attached to an earlier leader, and its queue is gone.
			v.receiver.cancelled(m.consumer.ID)
			return
		}
		reply(wireMessage{code: attachCode(err)})
	case wireHold:
		v.holders[m.holder] = struct{}{}
		v.told(m.holder, m.queue, m.ranges)
		g.adopt(v, 0, m.holder, m.queue, m.ranges)
	case wireCredit:
		g.credit(m.consumer.ID, int(m.n), m.ranges)
	case wireLimit:
		v.holders[m.holder] = struct{}{}
		v.told(m.holder, 0, nil)
		g.dispatcher.HolderLimit(m.holder, uint32(m.n))
	case wireDetach:
		g.detach(m.consumer.ID, done)
	case wireGet:
		v.holders[m.holder] = struct{}{}
		g.whenGathered(func() { g.get(a, m.queue, m.holder, reply) })
	case wireClose:
		delete(v.holders, m.holder)
		g.closeHolder(m.holder, done)
	case wireCount:
		count := func() { reply(wireMessage{numbers: g.countAll(m.numbers)}) }
		if m.n != 0 {
			count()
		} else {
			g.after(count)
		}
	case wirePurge:
		g.after(func() { g.purge(m.queue, reply) })
	case wireDeaths:
		g.afterDeaths(m.queue, done)
	case wireDeadLetter:
		g.rejected(m.holder, m.queue, m.ranges, done)
	}
}

func (g *group) settled(n settledNote) { g.dispatcher.Settled(n.holder, n.queue, n.ranges) }

func attachCode(err error) uint64 {
	switch {
	case err == nil:
		return replyOK
	case errors.Is(err, queue.ErrExclusiveUse):
		return replyExclusiveUse
	case errors.Is(err, queue.ErrNoQueue):
		return replyNoQueue
	}
	return replyFailed
}

// send gives deliveries to a gateway, with their bodies where it can't have them.
func (g *group) send(a *attendant, deliveries []queue.Delivery) {
	m := &wireMessage{kind: wireDeliver, deliveries: deliveries}
	g.enclose(a.name, m)
	a.reply(m)
}

// left requeues what a gateway's consumers had and detaches them.
func (g *group) left(a *attendant) {
	for _, h := range slices.Sorted(maps.Keys(g.guest(a).holders)) {
		g.closeHolder(h, func() {})
	}
}

// attach adds a consumer, which may hold messages from an earlier leader. Some
// are still to be written: so many of those, or, without acks, these too.
func (g *group) attach(v *guest, c queue.Consumer, unwritten int, held []entry.Range, these heldSet) error {
	if err := g.dispatcher.Attach(c); err != nil {
		return err
	}
	a := &attached{Consumer: c, to: &v.receiver, unwritten: these, traffic: g.trafficOf(c.Queue)}
	g.consumers[c.ID] = a
	g.holders[c.Holder] = append(g.holders[c.Holder], a)
	g.dispatcher.Rejoin(c.ID, uint32(unwritten))
	refused := g.adopt(v, c.ID, c.Holder, c.Queue, held)
	if c.NoAck {
		for _, r := range held {
			a.unwritten.addAll(r)
		}
		a.unwritten.removeAll(refused)
	}
	return nil
}

// detach removes a consumer. After done no delivery comes; what was given to
// it stays with its holder.
func (g *group) detach(id queue.ConsumerID, done func()) {
	a := g.consumers[id]
	if a == nil || a.gone {
		done()
		return
	}
	g.dispatcher.Detach(id)
	if !a.unwritten.empty() {
		a.gone = true
	} else {
		g.forget(a)
	}
	g.consumerGone(a.Queue, done)
}

func (g *group) consumerGone(q entry.QueueID, then func()) {
	if g.dispatcher.Consumers(q) == 0 && g.err == nil {
		g.orphaned(q, func() {
			if !g.call(then) {
				then()
			}
		})
		return
	}
	then()
}

// credit tells that n deliveries of a consumer were written to its socket: those
// written, of one without acks, which its gateway settles.
func (g *group) credit(id queue.ConsumerID, n int, written []entry.Range) {
	g.dispatcher.Credit(id, uint32(n))
	a := g.consumers[id]
	if a == nil || !a.NoAck {
		return
	}
	a.unwritten.removeAll(written)
	if a.gone && a.unwritten.empty() {
		g.forget(a)
	}
}

// get takes one message for a holder.
func (g *group) get(a *attendant, q entry.QueueID, h queue.HolderID, reply func(wireMessage)) {
	// It may have waited: what it took for a channel that is closed by now, or a
	// gateway that began anew, would stay with nobody.
	waits := func() bool {
		_, open := g.guest(a).holders[h]
		return open && !a.gone && g.dispatcher != nil
	}
	if !waits() {
		return
	}
	take := func() bool {
		g.dispatcher.Clock(g.now().UnixNano())
		d, remaining, found := g.dispatcher.Get(q, h, false)
		if found {
			g.trafficOf(q).got++
			r := wireMessage{deliveries: []queue.Delivery{d}, n: remaining}
			g.enclose(a.name, &r)
			reply(r)
		}
		return found
	}
	if take() {
		return
	}
	// What this client published before may still be on its way.
	g.after(func() {
		if waits() && !take() {
			reply(wireMessage{code: replyEmpty})
		}
	})
}

// closeHolder detaches the consumers of a holder and requeues all it has.
func (g *group) closeHolder(h queue.HolderID, done func()) {
	for _, change := range g.dispatcher.CloseHolder(h) {
		g.own = queue.AppendReturn(g.own, change.Queue, change.Ranges)
	}
	list := g.holders[h]
	delete(g.holders, h)
	left := 1
	for _, a := range list {
		delete(g.consumers, a.ID)
		g.returnUnwritten(a)
		if !a.gone {
			left++
		}
	}
	wait := newCountdown(left, done)
	for _, a := range list {
		if !a.gone {
			g.consumerGone(a.Queue, wait.arrive)
		}
	}
	wait.arrive()
}

// returnUnwritten requeues what a consumer without acks never got.
func (g *group) returnUnwritten(a *attached) {
	if !a.unwritten.empty() {
		g.own = queue.AppendReturn(g.own, a.Queue, a.unwritten.list())
	}
	a.unwritten = heldSet{}
}

// purge removes the ready messages of a queue.
func (g *group) purge(q entry.QueueID, reply func(wireMessage)) {
	if g.dispatcher == nil {
		return
	}
	upto, except := g.dispatcher.PurgeOps(q)
	g.submitOwn(&submission{
		ops: queue.AppendPurge(takeOps(), q, upto, except),
		done: func(o outcome) {
			r := wireMessage{}
			if len(o.ops) > 0 {
				r.n = o.ops[0].N
			}
			if o.err != nil {
				r = wireMessage{code: replyFailed, text: o.err.Error()}
			}
			if o.err != errNotLeader {
				reply(r)
			}
		},
	})
}

// rejected takes messages that a holder rejected, of a queue that has a
// dead-letter exchange. done is called when their dead letters are where they
// go, or the broker stops.
func (g *group) rejected(h queue.HolderID, id entry.QueueID, ranges []entry.Range, done func()) {
	if g.dispatcher.Settled(h, id, ranges) == 0 {
		// A gateway that began anew asks again for what is on its way already.
		g.afterDeaths(id, done)
		return
	}
	var q *topology.Queue
	g.view(func(s *topology.State) { q = s.QueueByID(id) })
	if q == nil {
		done()
		return
	}
	g.die(q, deathRejected, ranges, done)
}

// queueTraffic counts what consumers did with a queue since this broker leads
// or last led it.
type queueTraffic struct {
	delivered, deliveredNoAck, redelivered, got, acked uint64
}

func (g *group) trafficOf(q entry.QueueID) *queueTraffic {
	t := g.traffic[q]
	if t == nil {
		t = &queueTraffic{}
		if _, there := g.state.Queue(q); there {
			g.traffic[q] = t
		}
	}
	return t
}

// queueCounts are the ready and unacked messages and the consumers of a queue,
// and its traffic.
type queueCounts struct {
	ready, unacked uint64
	consumers      int
	bytes          uint64
	published      uint64
	queueTraffic
}

func (g *group) count(q entry.QueueID) queueCounts {
	info, _ := g.state.Queue(q)
	c := queueCounts{ready: info.Messages, bytes: info.Bytes, published: uint64(info.Last)}
	if g.dispatcher == nil { // A mirror knows what there is, not who has it.
		return c
	}
	c.ready, c.unacked, c.consumers = g.dispatcher.Ready(q), g.dispatcher.Unacked(q), g.dispatcher.Consumers(q)
	c.queueTraffic = *g.trafficOf(q)
	return c
}

// countFields is how many numbers tell the counts of one queue.
const countFields = 10

// countAll appends the counts of queues to one another, as they travel.
func (g *group) countAll(queues []uint64) []uint64 {
	numbers := make([]uint64, 0, countFields*len(queues))
	for _, q := range queues {
		c := g.count(entry.QueueID(q))
		numbers = append(numbers, c.ready, c.unacked, uint64(c.consumers), c.bytes, c.published,
			c.delivered, c.deliveredNoAck, c.redelivered, c.got, c.acked)
	}
	return numbers
}
