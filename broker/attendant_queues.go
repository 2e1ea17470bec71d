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
	receiver receiver
	holders  map[queue.HolderID]struct{}
}

func (g *group) guest(a *attendant) *guest {
	if a.data == nil {
		v := &guest{holders: make(map[queue.HolderID]struct{})}
		v.receiver.deliver = func(deliveries []queue.Delivery) { g.send(a, deliveries) }
		v.receiver.cancelled = func(id queue.ConsumerID) {
			a.reply(&wireMessage{kind: wireCancelled, consumer: queue.Consumer{ID: id}})
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
		err := g.attach(m.consumer, &v.receiver, m.ranges)
		if err != nil && m.call == 0 {
			// It was attached to an earlier leader, and its queue is gone.
			v.receiver.cancelled(m.consumer.ID)
			return
		}
		reply(wireMessage{code: attachCode(err)})
	case wireHold:
		v.holders[m.holder] = struct{}{}
		g.dispatcher.Adopt(0, m.holder, m.queue, m.ranges)
	case wireCredit:
		g.credit(m.consumer.ID, int(m.n))
	case wireLimit:
		v.holders[m.holder] = struct{}{}
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
	case wireDeadLetter:
		g.rejected(m.holder, m.queue, m.ranges, done)
	}
}

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
	if g.node == nil && !g.here(a.name) {
		for i := range deliveries {
			ref := deliveries[i].Ref
			payload, _ := g.bodies.recent(ref.Index)
			m.bodies = append(m.bodies, payload[min(int(ref.Offset), len(payload)):min(int(ref.Offset+ref.Size), len(payload))])
		}
	}
	a.reply(m)
}

// left requeues what a gateway's consumers had and detaches them.
func (g *group) left(a *attendant) {
	for _, h := range slices.Sorted(maps.Keys(g.guest(a).holders)) {
		g.closeHolder(h, func() {})
	}
}

// taken forgets a gateway's consumers and has all that they held be ready again,
// without an op: the gateway is about to tell what of it they have.
func (g *group) taken(a *attendant) {
	var back queue.Effects
	for _, h := range slices.Sorted(maps.Keys(g.guest(a).holders)) {
		back.Returned = append(back.Returned, g.dispatcher.CloseHolder(h)...)
		for _, c := range g.holders[h] {
			delete(g.consumers, c.ID)
			var unwritten []entry.Range
			for _, id := range c.unwritten {
				unwritten = entry.AppendID(unwritten, id)
			}
			if len(unwritten) > 0 {
				back.Returned = append(back.Returned, queue.Change{Queue: c.Queue, Ranges: unwritten})
			}
		}
		delete(g.holders, h)
	}
	g.dispatcher.Applied(&back)
}

// attach adds a consumer, which may hold messages from an earlier leader.
func (g *group) attach(c queue.Consumer, to *receiver, held []entry.Range) error {
	if err := g.dispatcher.Attach(c); err != nil {
		return err
	}
	a := &attached{Consumer: c, to: to, traffic: g.trafficOf(c.Queue)}
	g.consumers[c.ID] = a
	g.holders[c.Holder] = append(g.holders[c.Holder], a)
	if len(held) == 0 {
		return nil
	}
	g.dispatcher.Adopt(c.ID, c.Holder, c.Queue, held)
	if c.NoAck {
		for _, r := range held {
			for id := r.First; id <= r.Last; id++ {
				a.unwritten = append(a.unwritten, id)
			}
		}
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
	if len(a.unwritten) > 0 {
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

// credit tells that n deliveries of a consumer were written to its socket.
func (g *group) credit(id queue.ConsumerID, n int) {
	g.dispatcher.Credit(id, uint32(n))
	a := g.consumers[id]
	if a == nil || !a.NoAck {
		return
	}
	written := a.unwritten[:min(n, len(a.unwritten))]
	g.settleOwn(a.Queue, written)
	rest := copy(a.unwritten, a.unwritten[len(written):])
	a.unwritten = a.unwritten[:rest]
	if a.gone && rest == 0 {
		g.forget(a)
	}
}

// settleOwn proposes the settling of messages, ascending but for requeued ones.
func (g *group) settleOwn(q entry.QueueID, ids []entry.MessageID) {
	var ranges []entry.Range
	for _, id := range ids {
		ranges = entry.AppendID(ranges, id)
	}
	if len(ranges) > 0 {
		g.own = queue.AppendSettle(g.own, q, ranges)
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
			if g.node == nil && !g.here(a.name) {
				payload, _ := g.bodies.recent(d.Ref.Index)
				r.bodies = [][]byte{payload[min(int(d.Ref.Offset), len(payload)):min(int(d.Ref.Offset+d.Ref.Size), len(payload))]}
			}
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
	var ranges []entry.Range
	for _, id := range a.unwritten {
		ranges = entry.AppendID(ranges, id)
	}
	if len(ranges) > 0 {
		g.own = queue.AppendReturn(g.own, a.Queue, ranges)
	}
	a.unwritten = nil
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
	g.dispatcher.Settled(h, id, ranges)
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
