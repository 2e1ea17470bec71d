package queue

import (
	"cmp"
	"math"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Settled tells that a holder acked, rejected or gave back messages, and
// returns how many of them it held: their place is free at once. They are in
// limbo until the op that the owner proposes, Settle or Return, was applied.
func (d *Dispatcher) Settled(h HolderID, q entry.QueueID, ranges []entry.Range) (n uint64) {
	o := d.find(q)
	if o == nil {
		return 0
	}
	for _, r := range ranges {
		o.owners.update(uint64(r.First), uint64(r.Last), func(_ uint64, owner *uint32) bool {
			if *owner == limbo {
				return true
			}
			if c := d.slots[*owner-firstSlot]; c.holder.id == h {
				*owner = limbo
				d.drop(c)
				n++
			}
			return true
		})
	}
	return n
}

// Applied is to be called after each Machine.Apply, with its effects. What was
// returned is ready again; what was settled or purged is forgotten, whoever
// had it; where new messages came, DispatchPending will look. The consumers of
// deleted queues are detached and returned, in the order of the queues and
// then of their ids, for their clients to be told; the slice is reused.
func (d *Dispatcher) Applied(fx *Effects) (cancelled []Consumer) {
	// The three lists may be gone through in any order: a message that was
	// removed leaves both tables, and only one with an owner is returned.
	for _, c := range fx.Returned {
		if o := d.find(c.Queue); o != nil {
			d.returnRanges(o, c.Ranges)
		}
	}
	for _, c := range fx.Settled {
		if o := d.find(c.Queue); o != nil {
			for _, r := range c.Ranges {
				d.forget(o, r)
			}
		}
	}
	for _, p := range fx.Purged {
		if o := d.find(p.Queue); o != nil {
			eachOther(p.Except, p.UpTo, func(r entry.Range) { d.forget(o, r) })
		}
	}
	d.cancelled = d.cancelled[:0]
	for _, q := range fx.Deleted {
		if o := d.find(q); o != nil {
			d.close(o)
		}
	}
	for _, q := range fx.Expiring {
		if o := d.open(q); o != nil && !o.fresh {
			o.fresh = true
			d.fresh = append(d.fresh, o)
		}
	}
	for _, q := range fx.Touched {
		o := d.find(q)
		if o == nil {
			continue
		}
		if o.inTurn() != nil {
			d.pend(o)
		}
		if o.source.expires() {
			d.arm(o)
		}
	}
	return d.cancelled
}

func (d *Dispatcher) returnRanges(o *outlet, ranges []entry.Range) {
	for _, r := range ranges {
		o.owners.deleteRange(uint64(r.First), uint64(r.Last), func(id uint64, owner uint32) {
			d.disown(owner)
			if id < o.cursor {
				o.returned.put(id, 1)
			}
		})
	}
}

// forget drops messages that are gone.
func (d *Dispatcher) forget(o *outlet, r entry.Range) {
	o.owners.deleteRange(uint64(r.First), uint64(r.Last), func(_ uint64, owner uint32) { d.disown(owner) })
	if o.returned.live > 0 {
		o.returned.deleteRange(uint64(r.First), uint64(r.Last), func(uint64, uint8) {})
	}
}

// disown gives the place of a message back to its holder. It is in limbo as a
// rule: not so where a purge took it, or the op of an earlier leader.
func (d *Dispatcher) disown(owner uint32) {
	if owner != limbo {
		d.drop(d.slots[owner-firstSlot])
	}
}

// close forgets the outlet of a deleted queue and detaches its consumers.
func (d *Dispatcher) close(o *outlet) {
	d.forget(o, entry.Range{First: 0, Last: math.MaxUint64})
	first := len(d.cancelled)
	for _, c := range slices.Clone(o.members) { // which leave the original
		if c.get {
			d.dismiss(c)
		} else {
			d.cancelled = append(d.cancelled, c.Consumer)
			d.Detach(c.ID)
		}
	}
	slices.SortFunc(d.cancelled[first:], func(a, b Consumer) int { return cmp.Compare(a.ID, b.ID) })
	d.disarm(o)
	o.expired = nil
	delete(d.outlets, o.source.id)
	d.lastUsed = nil
}

// CloseHolder forgets a holder: its consumers are detached, and what it held
// is returned, by queue ascending, in limbo now, for the owner to propose as
// Return.
//
// O(messages given out) of each queue of which it held something, because
// nothing is kept per holder and message.
func (d *Dispatcher) CloseHolder(id HolderID) []Change { return d.CloseHolders(id) }

// CloseHolders is CloseHolder for many at once, at the cost of one: for when a
// broker is lost, or many clients go at the same time.
func (d *Dispatcher) CloseHolders(ids ...HolderID) []Change {
	var outlets []*outlet
	held := map[*outlet]uint64{} // what is to be found in each
	for _, id := range ids {
		h := d.holders[id]
		if h == nil || h.closing {
			continue
		}
		h.closing = true
		for _, c := range slices.Clone(h.members) { // some leave the original
			if c.held > 0 && held[c.outlet] == 0 {
				outlets = append(outlets, c.outlet)
			}
			held[c.outlet] += uint64(c.held)
			switch {
			case c.detached:
			case !c.get:
				d.Detach(c.ID)
			case c.held == 0:
				d.dismiss(c)
			default:
				c.detached = true
			}
		}
	}
	slices.SortFunc(outlets, func(a, b *outlet) int { return cmp.Compare(a.source.id, b.source.id) })
	var changes []Change
	for _, o := range outlets {
		changes = append(changes, Change{o.source.id, d.takeBack(o, held[o])})
	}
	for _, id := range ids {
		delete(d.holders, id)
	}
	return changes
}

// takeBack puts in limbo what closing holders hold, n messages.
func (d *Dispatcher) takeBack(o *outlet, n uint64) (ranges []entry.Range) {
	o.owners.update(0, math.MaxUint64, func(id uint64, owner *uint32) bool {
		if *owner == limbo {
			return true
		}
		if c := d.slots[*owner-firstSlot]; c.holder.closing {
			*owner = limbo
			d.drop(c)
			ranges = entry.AppendID(ranges, entry.MessageID(id))
			n--
		}
		return n > 0
	})
	return ranges
}
