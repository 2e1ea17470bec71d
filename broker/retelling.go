package broker

import (
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// When a link between a group's leader and a gateway breaks, both live, and so do
// the gateway's clients: what they hold is theirs. The leader gives them nothing
// more and takes nothing from them until the gateway has told anew what it has.
// What it was given before and does not tell never reached it, and is sent again,
// to whom it was sent. Other gateways notice nothing.

// recall is what a gateway that begins anew tells of one holder.
type recall struct {
	told      bool
	held      map[entry.QueueID]*heldSet
	consumers map[queue.ConsumerID]struct{}
}

// has reports whether the holder told that it has a message.
func (r *recall) has(q entry.QueueID, id entry.MessageID) bool {
	s := r.held[q]
	return s != nil && s.has(id)
}

// lost is what of the messages in s the holder does not have.
func (r *recall) lost(q entry.QueueID, s *heldSet) (ranges []entry.Range) {
	for _, each := range s.list() {
		for id := each.First; id <= each.Last; id++ {
			if !r.has(q, id) {
				ranges = entry.AppendID(ranges, id)
			}
		}
	}
	return ranges
}

// told notes that a holder is still there, and has messages of a queue.
func (v *guest) told(h queue.HolderID, q entry.QueueID, ranges []entry.Range) {
	r := v.recalled[h]
	if r == nil {
		return
	}
	r.told = true
	if len(ranges) == 0 {
		return
	}
	s := r.held[q]
	if s == nil {
		s = &heldSet{}
		r.held[q] = s
	}
	for _, each := range ranges {
		s.addAll(each)
	}
}

// suspended gives a gateway's consumers nothing more.
func (g *group) suspended(a *attendant) {
	if v, ok := a.data.(*guest); ok && g.dispatcher != nil {
		g.dispatcher.Suspend(slices.Sorted(maps.Keys(v.holders))...)
	}
}

// recalled has a gateway go on with what it had.
func (g *group) recalled(a, was *attendant) {
	g.suspended(was)
	v, ok := was.data.(*guest)
	if !ok {
		return
	}
	a.data, v.attendant = v, a
	v.recalled = make(map[queue.HolderID]*recall)
	for h := range v.holders {
		v.recalled[h] = &recall{held: make(map[entry.QueueID]*heldSet), consumers: make(map[queue.ConsumerID]struct{})}
	}
}

// join takes a consumer that a gateway tells of, which may be here since before
// it began anew.
func (g *group) join(v *guest, m *wireMessage) error {
	c, r := g.consumers[m.consumer.ID], v.recalled[m.consumer.Holder]
	if r == nil {
		return g.attach(v, m.consumer, int(m.n), m.ranges, heldSet{})
	}
	r.consumers[m.consumer.ID] = struct{}{}
	var unwritten heldSet
	switch {
	case c != nil && !c.gone:
		g.dispatcher.Rejoin(c.ID, uint32(m.n))
		g.adopt(v, c.ID, c.Holder, c.Queue, m.ranges)
		return nil
	case c != nil: // It is to be detached again: its gateway did not hear that it was.
		g.forget(c)
		unwritten = c.unwritten
	}
	return g.attach(v, m.consumer, int(m.n), m.ranges, unwritten)
}

// adopt takes what a gateway tells that a holder has, and returns what of it the
// holder has not: it is gone, or another's. The gateway is told so.
func (g *group) adopt(v *guest, id queue.ConsumerID, h queue.HolderID, q entry.QueueID, held []entry.Range) (refused []entry.Range) {
	if len(held) == 0 {
		return nil
	}
	refused = g.dispatcher.Adopt(id, h, q, held)
	if len(refused) == 0 {
		return nil
	}
	// What is in limbo may be its own: rejected, or given without ack.
	kept := &heldSet{}
	for _, r := range refused {
		kept.addAll(r)
	}
	for _, x := range g.dying {
		if x.queue.ID == q {
			kept.removeAll(x.ranges)
		}
	}
	for _, c := range g.holders[h] {
		if c.NoAck && c.Queue == q {
			kept.removeAll(c.unwritten.list())
		}
	}
	if refused = kept.list(); len(refused) > 0 {
		v.attendant.taken = append(v.attendant.taken, &wireMessage{kind: wireTaken, holder: h, queue: q, ranges: refused})
	}
	return refused
}

// recovered gives a gateway again what was lost on the way to it, and then what
// there is for it.
func (g *group) recovered(a *attendant) {
	v, ok := a.data.(*guest)
	if !ok || v.recalled == nil {
		return
	}
	recalled := v.recalled
	v.recalled = nil
	var there []queue.HolderID
	for _, h := range slices.Sorted(maps.Keys(recalled)) {
		if _, open := v.holders[h]; !open {
			continue
		}
		if !recalled[h].told { // It was closed meanwhile.
			delete(v.holders, h)
			g.closeHolder(h, func() {})
			continue
		}
		there = append(there, h)
		g.recollect(h, recalled[h])
	}
	has := func(h queue.HolderID, q entry.QueueID, id entry.MessageID) bool { return recalled[h].has(q, id) }
	var again []queue.Delivery
	for _, change := range g.dispatcher.Resume(there, has, func(d queue.Delivery) { again = append(again, d) }) {
		g.own = queue.AppendReturn(g.own, change.Queue, change.Ranges)
	}
	for _, h := range there {
		again = g.sendUnwritten(again, h, recalled[h])
	}
	if len(again) > 0 {
		g.send(v.attendant, again)
	}
}

// recollect lets go of a holder's consumers that are gone meanwhile.
func (g *group) recollect(h queue.HolderID, r *recall) {
	for _, c := range slices.Clone(g.holders[h]) {
		switch _, told := r.consumers[c.ID]; {
		case c.gone:
			if lost := r.lost(c.Queue, &c.unwritten); len(lost) > 0 {
				g.own = queue.AppendReturn(g.own, c.Queue, lost)
				c.unwritten.removeAll(lost)
			}
			if c.unwritten.empty() {
				g.forget(c)
			}
		case !told:
			g.detach(c.ID, func() {})
		}
	}
}

// sendUnwritten appends what a holder's consumers without acks never got.
func (g *group) sendUnwritten(again []queue.Delivery, h queue.HolderID, r *recall) []queue.Delivery {
	for _, c := range g.holders[h] {
		if !c.NoAck || c.gone {
			continue
		}
		for _, each := range r.lost(c.Queue, &c.unwritten) {
			for id := each.First; id <= each.Last; id++ {
				if d, ok := g.dispatcher.Again(c.ID, id); ok {
					again = append(again, d)
				} else { // It was written and is settled.
					c.unwritten.remove(entry.Range{First: id, Last: id})
				}
			}
		}
	}
	return again
}
