package queue

import (
	"cmp"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Suspend gives the consumers of holders nothing more until Resume: the way to
// them is broken. They stay attached, and what they hold stays held. Holders that
// are not known are passed over.
func (d *Dispatcher) Suspend(ids ...HolderID) {
	for _, id := range ids {
		h := d.holders[id]
		if h == nil {
			continue
		}
		h.suspended = true
		for _, c := range h.members {
			c.leave()
		}
	}
}

// Rejoin tells that a suspended consumer is there again, and that n of its
// deliveries wait for Credit. It reports whether there is one with that id.
func (d *Dispatcher) Rejoin(id ConsumerID, n uint32) bool {
	c := d.consumers[id]
	if c != nil {
		c.unwritten = n
	}
	return c != nil
}

// Resume ends Suspend. What of all that a holder was given it has is for has to
// say; the rest never reached it. fn is told of each message that a consumer is to
// be sent again, in the order of each queue; fn must not call the dispatcher.
// Answers to Get that were lost are given to the holder's next Gets.
//
// What was lost on the way to consumers that are detached since is returned, by
// queue ascending, in limbo now, for the owner to propose as Return. What was
// given without ack is not looked at: the owner knows of it, and uses Again.
//
// O(messages given out) of each queue of which the holders hold something.
func (d *Dispatcher) Resume(ids []HolderID, has func(HolderID, entry.QueueID, entry.MessageID) bool, fn func(Delivery)) (returned []Change) {
	resumed := map[*holder]bool{}
	left := map[*outlet]uint32{} // what is to be looked at in each
	for _, id := range ids {
		h := d.holders[id]
		if h == nil || !h.suspended {
			continue
		}
		h.suspended = false
		resumed[h] = true
		for _, c := range h.members {
			c.lost = nil
			left[c.outlet] += c.held
		}
	}
	for _, o := range inOrder(left) {
		if ranges := d.resume(o, left[o], resumed, has, fn); len(ranges) > 0 {
			returned = append(returned, Change{o.source.id, ranges})
		}
	}
	for _, id := range ids {
		if h := d.holders[id]; h != nil {
			for _, c := range h.members {
				d.lineUp(c)
			}
		}
	}
	return returned
}

// resume does so for n messages of one queue, held by resumed holders.
func (d *Dispatcher) resume(o *outlet, n uint32, resumed map[*holder]bool, has func(HolderID, entry.QueueID, entry.MessageID) bool, fn func(Delivery)) (returned []entry.Range) {
	o.owners.update(0, ^uint64(0), func(id uint64, owner *uint32) bool {
		if *owner == limbo || n == 0 {
			return n > 0
		}
		c := d.slots[*owner-firstSlot]
		if !resumed[c.holder] {
			return true
		}
		n--
		if message := entry.MessageID(id); has(c.Consumer.Holder, o.source.id, message) {
			return true
		}
		switch {
		case c.get:
			c.lost = append(c.lost, id)
		case c.detached:
			*owner = limbo
			returned = entry.AppendID(returned, entry.MessageID(id))
			d.drop(c)
		default:
			c.unwritten++
			r, _ := o.source.waiting.get(id)
			fn(describe(o, c, id, r))
		}
		return true
	})
	return returned
}

// Again describes a message that a consumer without acks was given and never
// got. ok is false when it is gone, or the consumer is.
func (d *Dispatcher) Again(id ConsumerID, message entry.MessageID) (delivery Delivery, ok bool) {
	c := d.consumers[id]
	if c == nil {
		return Delivery{}, false
	}
	if owner, _ := c.outlet.owners.get(uint64(message)); owner != limbo {
		return Delivery{}, false
	}
	r, ok := c.outlet.source.waiting.get(uint64(message))
	if !ok {
		return Delivery{}, false
	}
	c.unwritten++
	return describe(c.outlet, c, uint64(message), r), true
}

// found takes what a holder's Get was given before and never got.
func (c *consumer) found() (id uint64, r record, ok bool) {
	for len(c.lost) > 0 && !ok {
		id, c.lost = c.lost[0], c.lost[1:]
		if owner, _ := c.outlet.owners.get(id); owner == c.slot {
			r, ok = c.outlet.source.waiting.get(id)
		}
	}
	return id, r, ok
}

// inOrder is the outlets with something to look at, by queue.
func inOrder(left map[*outlet]uint32) (outlets []*outlet) {
	for o, n := range left {
		if n > 0 {
			outlets = append(outlets, o)
		}
	}
	slices.SortFunc(outlets, func(a, b *outlet) int { return cmp.Compare(a.source.id, b.source.id) })
	return outlets
}
