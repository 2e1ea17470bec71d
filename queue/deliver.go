package queue

import (
	"math"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Delivery is one message for one consumer, or the answer to a Get.
type Delivery struct {
	Consumer    ConsumerID // 0 for a Get
	Holder      HolderID
	Queue       entry.QueueID
	Message     entry.MessageID
	Ref         entry.Ref
	Deliveries  uint32 // how often it was returned before
	Redelivered bool
	NoAck       bool // in limbo already: the owner proposes its Settle
}

// Dispatch gives out what the queue has ready and its consumers may take: the
// lowest id first, consumers of the highest priority first, and in turns
// within one priority. (Consumers that share a holder's limit wait for it in
// turns, whatever their priority.) fn must not call the dispatcher.
//
// It gives out as much as the limits of the consumers allow: without limits,
// all there is.
func (d *Dispatcher) Dispatch(q entry.QueueID, fn func(Delivery)) {
	if o := d.find(q); o != nil {
		d.dispatch(o, fn)
	}
}

// DispatchPending is Dispatch for every queue where, since the last call,
// messages or room for them came up.
func (d *Dispatcher) DispatchPending(fn func(Delivery)) {
	for i := 0; i < len(d.pending); i++ { // it may grow meanwhile
		o := d.pending[i]
		o.pending = false
		d.dispatch(o, fn)
	}
	clear(d.pending)
	d.pending = d.pending[:0]
}

func (d *Dispatcher) dispatch(o *outlet, fn func(Delivery)) {
	for c := o.inTurn(); c != nil; c = o.inTurn() {
		id, r, ok := d.next(o)
		if !ok {
			break
		}
		c.leave()
		if !c.NoAck && c.holder.full() {
			c.woken = false
			c.holder.blocked.push(c)
			continue
		}
		c.woken = false
		delivery := d.deliver(o, c, id, r, c.NoAck)
		c.unwritten++
		if c.willing() {
			o.ring(c.Priority).push(c)
		}
		fn(delivery)
	}
	if len(o.woken) > 0 {
		d.passOn(o)
	}
	if o.source.expires() {
		d.arm(o)
	}
}

// passOn is the end of a dispatch: consumers that were woken because their
// holder had room, and found no message, let the holder's next have it.
func (d *Dispatcher) passOn(o *outlet) {
	for i := 0; i < len(o.woken); i++ { // it grows if the next is of this queue too
		if c := o.woken[i]; c.woken {
			c.woken = false
			d.wake(c.holder)
		}
	}
	clear(o.woken)
	o.woken = o.woken[:0]
}

// deliver gives a message to a consumer and describes that.
func (d *Dispatcher) deliver(o *outlet, c *consumer, id uint64, r record, noAck bool) Delivery {
	if noAck {
		o.give(id, limbo)
	} else {
		o.give(id, c.slot)
		d.hold(c)
	}
	o.delivered = max(o.delivered, id)
	if !o.dirty && id > uint64(o.source.mark) {
		o.dirty = true
		d.dirty = append(d.dirty, o)
	}
	return describe(o, c, id, r)
}

// describe is the delivery of a message to a consumer; NoAck is as it attached.
func describe(o *outlet, c *consumer, id uint64, r record) Delivery {
	return Delivery{
		Consumer:    c.ID,
		Holder:      c.Holder,
		Queue:       o.source.id,
		Message:     entry.MessageID(id),
		Ref:         entry.Ref{Index: r.index(), Offset: r.offset, Size: r.size},
		Deliveries:  r.deliveries(),
		Redelivered: r.deliveries() > 0 || id <= o.mark,
		NoAck:       c.NoAck,
	}
}

// Get gives the ready message with the lowest id to a holder, whatever its
// limits. remaining is the number that is ready after it, those that expired
// behind it among them. ok is false if nothing is ready or there is no such
// queue.
func (d *Dispatcher) Get(q entry.QueueID, h HolderID, noAck bool) (delivery Delivery, remaining uint64, ok bool) {
	o := d.open(q)
	if o == nil {
		return Delivery{}, 0, false
	}
	d.expire(o, math.MaxInt)
	if c := d.holder(h).gets[o]; c != nil && !noAck {
		if id, r, ok := c.found(); ok {
			return describe(o, c, id, r), o.ready(), true
		}
	}
	id, r, ok := o.peek()
	if ok {
		delivery = d.deliver(o, d.getter(d.holder(h), o), id, r, noAck)
		delivery.NoAck = noAck
	}
	if o.source.expires() {
		d.arm(o)
	}
	return delivery, o.ready(), ok
}

func (d *Dispatcher) hold(c *consumer) {
	c.held++
	if !c.get {
		c.holder.held++
	}
}

// drop is the opposite of hold: the message left the consumer.
func (d *Dispatcher) drop(c *consumer) {
	c.held--
	if !c.get {
		c.holder.held--
		d.wake(c.holder)
	}
	if !c.detached {
		d.lineUp(c)
	} else if c.held == 0 {
		d.dismiss(c)
	}
}
