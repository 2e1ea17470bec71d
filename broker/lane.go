package broker

import (
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// flushBytes is when a lane's ops are submitted although more frames are
	// there to be read.
	flushBytes = 256 << 10
	// aloneBytes is the size of a message of many frames from which it is
	// submitted alone instead of being copied to the other ops.
	aloneBytes = 64 << 10
)

// queueGroup is what a connection needs of a group (see backend.go). All calls
// return at once and are kept in the order of one caller.
type queueGroup interface {
	submit(*submission)
	attach(queue.Consumer, *receiver, func(error))
	detach(queue.ConsumerID, func())
	credit(queue.ConsumerID, int, []entry.Range)
	limit(queue.HolderID, uint32)
	get(entry.QueueID, queue.HolderID, bool, func(getReply))
	deadLetter(queue.HolderID, *topology.Queue, []entry.Range, func())
	closeHolder(queue.HolderID, func())
	judge(c claim, message entry.MessageID, came, round uint32) verdict
}

// lane is a connection's way to one queue group: the ops that wait to be
// submitted, and the receiver for what comes back. Owned by the connection's
// reader but for what says otherwise.
type lane struct {
	conn     *conn
	id       entry.GroupID
	group    queueGroup
	receiver receiver // used by the group's goroutine

	ops       []byte           // encoded, in order
	published int              // publishes in ops: acks come after them
	confirms  []confirmRange   // of the publishes in ops
	quorum    replicate.Quorum // of confirms
	held      []*held          // with acks that are not in ops yet
	listed    bool             // in conn.dirty
}

// confirmRange is adjoining publishes of one channel.
type confirmRange struct {
	to          *confirms
	first, last uint64
	op          int  // which of the submission's ops the first one is
	refused     bool // by the group, though it took the submission
	// shared is set for a single publish that goes to several groups.
	shared *sharedConfirm
}

// sharedConfirm is a publish that several groups have to confirm. Guarded by
// the outbox's mutex.
type sharedConfirm struct {
	left    int
	refused bool
}

// lane returns the way to a group, or nil if this broker can't reach it.
func (c *conn) lane(id entry.GroupID) *lane {
	if l := c.lanes[id]; l != nil {
		return l
	}
	group := c.front.group(id)
	if group == nil {
		return nil
	}
	l := &lane{conn: c, id: id, group: group}
	l.receiver.deliver, l.receiver.cancelled = l.deliver, c.consumerCancelled
	if c.lanes == nil {
		c.lanes = make(map[entry.GroupID]*lane)
	}
	c.lanes[id] = l
	return l
}

// mark lists the lane for the next flush.
func (l *lane) mark() {
	if !l.listed {
		l.listed = true
		l.conn.dirty = append(l.conn.dirty, l)
	}
}

// require has the publish that follows confirmed at a quorum. One submission has
// one: what waits for another goes first.
func (l *lane) require(quorum replicate.Quorum) {
	if quorum != l.quorum {
		if len(l.confirms) > 0 {
			l.flush()
		}
		l.quorum = quorum
	}
}

// enqueue appends a whole publish to the ops.
func (l *lane) enqueue(w *wishes, queues []entry.QueueID, exchange, key, properties, body []byte) {
	if l.ops == nil {
		l.ops = takeOps()
	}
	l.ops = w.appendOnce(l.ops, l.conn.vhost)
	l.ops = appendPublish(l.ops, queues, exchange, key, properties, len(body))
	l.ops = append(l.ops, body...)
	l.published++
	l.mark()
}

// appendPublish appends an enqueue op up to where the body begins.
func appendPublish(ops []byte, queues []entry.QueueID, exchange, key, properties []byte, body int) []byte {
	size := entry.ContentSize(len(exchange), len(key), len(properties), body)
	return entry.AppendContentHead(appendEnqueue(ops, queues, properties, size), exchange, key, properties)
}

// expect adds the last publish in ops to those that are confirmed with them, at
// the quorum that was required before it was put there.
func (l *lane) expect(to *confirms, tag uint64, shared *sharedConfirm) {
	op := l.published - 1
	if n := len(l.confirms); n > 0 && shared == nil {
		if last := &l.confirms[n-1]; last.to == to && last.shared == nil && last.last+1 == tag && last.op+int(tag-last.first) == op {
			last.last = tag
			return
		}
	}
	l.confirms = append(l.confirms, confirmRange{to: to, first: tag, last: tag, op: op, shared: shared})
}

// flush submits everything that waits in any lane.
func (c *conn) flush() {
	for _, l := range c.dirty {
		l.listed = false
		l.flush()
	}
	clear(c.dirty)
	c.dirty = c.dirty[:0]
}

// flush submits what waits in the lane. It waits while too much is on its way.
func (l *lane) flush() {
	var settled []settledNote
	for _, h := range l.held {
		h.listed = false
		if l.ops == nil {
			l.ops = takeOps()
		}
		l.ops, settled = h.appendSettled(l.ops, settled)
	}
	clear(l.held)
	l.held = l.held[:0]
	if len(l.ops) == 0 {
		return
	}
	ops, confirms, quorum := l.ops, l.confirms, l.quorum
	l.ops, l.published, l.confirms, l.quorum = nil, 0, nil, replicate.QuorumMajority
	l.submitLasting(ops, confirms, quorum, settled)
}

// deadLetterBytes is what a rejected message counts for among a connection's
// submissions until its dead letters are in their queues: so a client that
// rejects faster than the worker publishes is not read.
const deadLetterBytes = 1 << 10

// deadLetter hands rejected messages to the group.
func (l *lane) deadLetter(h queue.HolderID, q *topology.Queue, ranges []entry.Range) {
	size := 0
	for _, r := range ranges {
		size += int(r.Len()) * deadLetterBytes
	}
	c := l.conn
	c.waiting.Store(true)
	c.out.depart(size)
	c.waiting.Store(false)
	l.group.deadLetter(h, q, ranges, func() {
		c.out.mu.Lock()
		c.out.arrived(size)
		c.out.mu.Unlock()
	})
}

// flight is a submission on its way.
type flight struct {
	submission
	lane     *lane
	size     int
	confirms []confirmRange
	then     func(error)
}

// submit hands ops to the group. then, if not nil, is called on the group's
// goroutine with what became of them at the quorum.
func (l *lane) submit(ops []byte, confirms []confirmRange, quorum replicate.Quorum, then func(error)) {
	l.depart(&flight{lane: l, size: len(ops), confirms: confirms, then: then}, submission{ops: ops, quorum: quorum})
}

// submitSettling hands ops to the group, and with them who is done with what.
func (l *lane) submitSettling(ops []byte, settled []settledNote, quorum replicate.Quorum, then func(error)) {
	l.depart(&flight{lane: l, size: len(ops), then: then}, submission{ops: ops, quorum: quorum, settled: settled})
}

// submitLasting hands ops to the group, acks perhaps among them.
func (l *lane) submitLasting(ops []byte, confirms []confirmRange, quorum replicate.Quorum, settled []settledNote) {
	l.depart(&flight{lane: l, size: len(ops), confirms: confirms}, submission{
		ops: ops, quorum: quorum, settled: settled,
		lasting: len(settled) > 0 || len(confirms) == 0, awaited: len(confirms) > 0,
	})
}

// depart waits for room among what is on its way, and submits.
func (l *lane) depart(f *flight, s submission) {
	f.submission = s
	f.submission.done = f.land
	// A connection that died meanwhile still submits: acks that were read
	// count, and so do publishes.
	l.conn.waiting.Store(true)
	l.conn.out.depart(f.size)
	l.conn.waiting.Store(false)
	l.group.submit(&f.submission)
}

// land confirms the publishes of a submission. Called on the group's goroutine.
func (f *flight) land(o outcome) {
	c, err := f.lane.conn, o.err
	if err == nil && refusals(o.ops) {
		f.confirms, err = split(f.confirms, o.ops), errTooOld
	}
	out, told := &c.out, uint64(0)
	out.mu.Lock()
	for _, r := range f.confirms {
		nack := o.err != nil || r.refused
		if r.shared != nil {
			r.shared.left--
			r.shared.refused = r.shared.refused || nack
			if r.shared.left > 0 {
				continue
			}
			nack = r.shared.refused
		}
		r.to.settle(r.first, r.last, nack)
		out.confirmed(r.to)
		if !nack {
			told += r.last - r.first + 1
		}
	}
	out.arrived(f.size)
	out.mu.Unlock()
	c.front.counts.confirmed.Add(told)
	if f.then != nil {
		f.then(err)
	}
}

// deliver takes deliveries from the group. Called on the group's goroutine.
func (l *lane) deliver(deliveries []queue.Delivery, round uint32) {
	c := l.conn
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	var to *subscriber
	for i := range deliveries {
		d := &deliveries[i]
		if to == nil || to.id != d.Consumer {
			if to = c.subscribers[d.Consumer]; to == nil {
				continue // The channel was closed: its holder gives everything back.
			}
		}
		next := delivery{
			to: to, message: d.Message, ref: d.Ref, deliveries: d.Deliveries, redelivered: d.Redelivered, round: round,
		}
		if to.noAck || to.channel.shared.Load() == 0 {
			c.out.putDelivery(next)
		} else {
			to.channel.window.offer(next, &c.out)
		}
	}
}
