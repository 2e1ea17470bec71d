package broker

import (
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// The calls on a group that connections make, from any goroutine; the calls of
// one caller are kept in order.

// attach adds a consumer. done is called before its first delivery.
func (g *group) attach(c queue.Consumer, to *receiver, done func(error)) {
	ok := g.call(func() {
		err := g.dispatcher.Attach(c)
		if err == nil {
			a := &attached{Consumer: c, to: to}
			g.consumers[c.ID] = a
			g.holders[c.Holder] = append(g.holders[c.Holder], a)
		}
		done(err)
	})
	if !ok {
		done(g.takesNothing())
	}
}

// detach removes a consumer. After done no delivery comes; what was given to
// it stays with its holder.
func (g *group) detach(id queue.ConsumerID, done func()) {
	ok := g.call(func() {
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
	})
	if !ok {
		done()
	}
}

func (g *group) consumerGone(q entry.QueueID, then func()) {
	if g.dispatcher.Consumers(q) == 0 && g.err == nil {
		g.orphaned(q, then)
		return
	}
	then()
}

// credit tells that n deliveries of a consumer were written to the socket.
func (g *group) credit(id queue.ConsumerID, n int) {
	g.ask(request{consumer: id, credit: n})
}

// settled tells that the holder acked, rejected or returned messages, whose op
// follows in a submission.
func (g *group) settled(h queue.HolderID, q entry.QueueID, ranges []entry.Range) {
	g.ask(request{holder: h, queue: q, ranges: ranges})
}

func (g *group) handleSpecial(r *request) {
	if r.credit == 0 {
		g.counts.acked.Add(g.dispatcher.Settled(r.holder, r.queue, r.ranges))
		return
	}
	g.dispatcher.Credit(r.consumer, uint32(r.credit))
	a := g.consumers[r.consumer]
	if a == nil || !a.NoAck {
		return
	}
	written := a.unwritten[:min(r.credit, len(a.unwritten))]
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
		g.counts.acked.Add(uint64(len(ids)))
	}
}

// limit is basic.qos with global=true: prefetch shared by all of a holder's
// consumers, 0 for none.
func (g *group) limit(h queue.HolderID, prefetch uint32) {
	g.call(func() { g.dispatcher.HolderLimit(h, prefetch) })
}

// get takes one message for a holder. With noAck the message is settled once
// the reply's written is called.
func (g *group) get(q entry.QueueID, h queue.HolderID, noAck bool, done func(getReply)) {
	ok := g.call(func() {
		if !g.take(q, h, noAck, done) {
			// What this client published before may still be on its way.
			g.after(func() {
				if !g.take(q, h, noAck, done) {
					done(getReply{err: g.err})
				}
			})
		}
	})
	if !ok {
		done(getReply{err: g.takesNothing()})
	}
}

// take answers a get if there is a message.
func (g *group) take(q entry.QueueID, h queue.HolderID, noAck bool, done func(getReply)) bool {
	g.dispatcher.Clock(time.Now().UnixNano())
	d, remaining, found := g.dispatcher.Get(q, h, false)
	if !found {
		return false
	}
	reply := getReply{found: true, delivery: d, remaining: remaining}
	if noAck {
		reply.written = func() {
			g.call(func() {
				g.dispatcher.Settled(h, q, []entry.Range{{First: d.Message, Last: d.Message}})
				g.settleOwn(q, []entry.MessageID{d.Message})
			})
		}
	}
	done(reply)
	return true
}

// closeHolder detaches the consumers of a holder and requeues all it has.
func (g *group) closeHolder(h queue.HolderID, done func()) {
	ok := g.call(func() {
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
	})
	if !ok {
		done()
	}
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

// queueCounts are the ready and unacked messages and the consumers of a queue.
type queueCounts struct {
	ready, unacked uint64
	consumers      int
	bytes          uint64
}

// countedAfter is counted after all that was handed in before.
func (g *group) countedAfter(queues []entry.QueueID, done func([]queueCounts)) {
	if !g.call(func() { g.after(func() { g.counted(queues, done) }) }) {
		done(nil)
	}
}

// counted calls done with the counts of the queues, in their order; nil if the
// group takes nothing more.
func (g *group) counted(queues []entry.QueueID, done func([]queueCounts)) {
	ok := g.call(func() {
		counts := make([]queueCounts, len(queues))
		for i, q := range queues {
			info, _ := g.state.Queue(q)
			counts[i] = queueCounts{
				ready: g.dispatcher.Ready(q), unacked: g.dispatcher.Unacked(q),
				consumers: g.dispatcher.Consumers(q), bytes: info.Bytes,
			}
		}
		done(counts)
	})
	if !ok {
		done(nil)
	}
}
