package queue

import (
	"errors"

	"github.com/mirrormq/mirrormq/internal/entry"
)

var (
	// ErrNoQueue is returned where a queue doesn't exist.
	ErrNoQueue = errors.New("queue: no such queue")
	// ErrExclusiveUse is returned where an exclusive consumer is, or would be,
	// beside another.
	ErrExclusiveUse = errors.New("queue: in exclusive use")
	// ErrConsumer is returned for a consumer id that is in use, or 0.
	ErrConsumer = errors.New("queue: consumer id is in use")
)

// Dispatcher is the leader's memory of who was given what, and decides who
// gets what is ready. It looks at its Machine and never changes it: the owner
// proposes what the dispatcher and the clients want, and when that was applied
// tells the dispatcher with Applied.
//
// A message is ready, or held (given to a holder that has not settled it), or
// in limbo (settled, expired or given without ack, and the op on its way). A leader
// makes its dispatcher after it applied all entries of earlier terms, and
// forgets it when it steps down: all messages are ready in a new one.
//
// Consumers and holders are known from the first call that names them; each
// holder must be closed in the end.
//
// A message that was given out costs 8 bytes until it is gone; O(1) in order,
// else O(log messages), whatever the number of queues and consumers.
type Dispatcher struct {
	machine   *Machine
	outlets   map[entry.QueueID]*outlet
	holders   map[HolderID]*holder
	consumers map[ConsumerID]*consumer
	slots     []*consumer // by slot - firstSlot; nil: free
	free      []uint32
	pending   []*outlet // where there may be something to give out
	dirty     []*outlet // which gave out new messages since the last AppendMarks
	owners    pool[uint32]
	returned  pool[uint8]
	cancelled []Consumer
	lastUsed  *outlet

	now    int64
	alarms alarms
	passed []*outlet // with expired messages for Expired to tell
	fresh  []*outlet // which got messages that expire since the last Expired
}

// NewDispatcher starts with nothing given out. O(queues).
func NewDispatcher(m *Machine) *Dispatcher {
	d := &Dispatcher{
		machine:   m,
		outlets:   map[entry.QueueID]*outlet{},
		holders:   map[HolderID]*holder{},
		consumers: map[ConsumerID]*consumer{},
		now:       m.now,
	}
	d.armAll()
	return d
}

// Attach adds a consumer. The errors are ErrNoQueue, ErrExclusiveUse and
// ErrConsumer.
func (d *Dispatcher) Attach(spec Consumer) error {
	if spec.ID == 0 || d.consumers[spec.ID] != nil {
		return ErrConsumer
	}
	o := d.open(spec.Queue)
	if o == nil {
		return ErrNoQueue
	}
	if o.exclusive || spec.Exclusive && o.consumers > 0 {
		return ErrExclusiveUse
	}
	c := &consumer{Consumer: spec, outlet: o, holder: d.holder(spec.Holder)}
	d.admit(c)
	d.consumers[spec.ID] = c
	o.consumers++
	o.exclusive = spec.Exclusive
	d.lineUp(c)
	return nil
}

// Detach removes a consumer; one that is unknown is passed over. What it was
// given stays with its holder.
func (d *Dispatcher) Detach(id ConsumerID) {
	c := d.consumers[id]
	if c == nil {
		return
	}
	delete(d.consumers, id)
	c.detached = true
	c.leave() // if it was woken, passOn lets the holder's next have its turn
	c.outlet.consumers--
	c.outlet.exclusive = false
	if c.held == 0 {
		d.dismiss(c)
	}
}

// HolderLimit sets how many unacked deliveries the consumers of a holder may
// have together (basic.qos with global), 0: no limit. Answers to Get and
// deliveries without ack don't count.
func (d *Dispatcher) HolderLimit(id HolderID, prefetch uint32) {
	h := d.holder(id)
	h.limit = prefetch
	for range h.members {
		d.wake(h)
	}
}

// Credit tells that n deliveries of a consumer reached its socket.
func (d *Dispatcher) Credit(id ConsumerID, n uint32) {
	if c := d.consumers[id]; c != nil {
		c.unwritten -= min(n, c.unwritten)
		d.lineUp(c)
	}
}

// Ready is the number of messages that wait to be given out.
func (d *Dispatcher) Ready(q entry.QueueID) uint64 {
	if o := d.find(q); o != nil {
		return o.ready()
	}
	if s := d.machine.find(q); s != nil {
		return uint64(s.waiting.live)
	}
	return 0
}

// Unacked is the number of messages held or in limbo: with Ready it makes up
// all messages of the queue.
func (d *Dispatcher) Unacked(q entry.QueueID) uint64 {
	if o := d.find(q); o != nil {
		return uint64(o.owners.live)
	}
	return 0
}

// Consumers is the number of consumers attached to the queue.
func (d *Dispatcher) Consumers(q entry.QueueID) int {
	if o := d.find(q); o != nil {
		return o.consumers
	}
	return 0
}

// PurgeOps returns the arguments of a Purge of what is ready now. It changes
// nothing: until the purge is applied, messages may be given out and purged
// all the same.
func (d *Dispatcher) PurgeOps(q entry.QueueID) (upto entry.MessageID, except []entry.Range) {
	s := d.machine.find(q)
	if s == nil {
		return 0, nil
	}
	if o := d.find(q); o != nil {
		o.owners.each(0, func(id uint64, _ uint32) bool {
			except = entry.AppendID(except, entry.MessageID(id))
			return true
		})
	}
	return s.last, except
}

// AppendMarks appends a Mark for each queue that gave out new messages since
// the last call, so that a later leader knows which may have been seen. The
// owner puts them in a submission with session 0. The mark follows the
// delivery: a message that was given out in the last moments before a crash
// comes again without the redelivered flag.
func (d *Dispatcher) AppendMarks(dst []byte) []byte {
	for _, o := range d.dirty {
		o.dirty = false
		if o.delivered > uint64(o.source.mark) {
			dst = AppendMark(dst, o.source.id, entry.MessageID(o.delivered))
		}
	}
	d.dirty = d.dirty[:0]
	return dst
}

// find returns the outlet of a queue, nil if it has none yet.
func (d *Dispatcher) find(q entry.QueueID) *outlet {
	if o := d.lastUsed; o != nil && o.source.id == q {
		return o
	}
	o := d.outlets[q]
	if o != nil {
		d.lastUsed = o
	}
	return o
}

// open returns the outlet of a queue, nil if there is no such queue.
func (d *Dispatcher) open(q entry.QueueID) *outlet {
	if o := d.find(q); o != nil {
		return o
	}
	s := d.machine.find(q)
	if s == nil {
		return nil
	}
	// Marks applied so far are earlier leaders': this one makes none for a
	// queue before its outlet is opened.
	o := &outlet{source: s, mark: uint64(s.mark), offered: uint64(s.last)}
	o.owners.pool, o.returned.pool = &d.owners, &d.returned
	d.outlets[q] = o
	return o
}

func (d *Dispatcher) holder(id HolderID) *holder {
	h := d.holders[id]
	if h == nil {
		h = &holder{id: id}
		d.holders[id] = h
	}
	return h
}

// admit gives a new consumer its slot.
func (d *Dispatcher) admit(c *consumer) {
	if n := len(d.free); n > 0 {
		c.slot = d.free[n-1]
		d.free = d.free[:n-1]
	} else {
		c.slot = uint32(len(d.slots)) + firstSlot
		d.slots = append(d.slots, nil)
	}
	d.slots[c.slot-firstSlot] = c
	c.join()
}

// dismiss forgets a consumer. REQUIRES: it is detached and holds nothing.
func (d *Dispatcher) dismiss(c *consumer) {
	d.slots[c.slot-firstSlot] = nil
	d.free = append(d.free, c.slot)
	c.part()
}

// lineUp puts a consumer in line if it is willing and doesn't stand there.
func (d *Dispatcher) lineUp(c *consumer) {
	if c.line == nil && c.willing() {
		c.outlet.ring(c.Priority).push(c)
		d.pend(c.outlet)
	}
}

// pend has DispatchPending look at an outlet.
func (d *Dispatcher) pend(o *outlet) {
	if !o.pending {
		o.pending = true
		d.pending = append(d.pending, o)
	}
}

// wake lets one blocked consumer of a holder stand in line again, if the
// holder's limit allows a delivery.
func (d *Dispatcher) wake(h *holder) {
	c := h.blocked.first
	if c == nil || h.full() {
		return
	}
	c.leave()
	if !c.woken { // else it is in the list already
		c.woken = true
		c.outlet.woken = append(c.outlet.woken, c)
	}
	d.lineUp(c)
}

// Adopt tells that a holder already has messages, from the time of another
// leader: of a consumer that was attached again, or, if that is 0, of Get.
// It returns those that it can't have: they are gone, in limbo, or another's.
func (d *Dispatcher) Adopt(id ConsumerID, h HolderID, q entry.QueueID, ranges []entry.Range) (refused []entry.Range) {
	o := d.open(q)
	if o == nil {
		return ranges
	}
	c := d.consumers[id]
	if c == nil || c.outlet != o {
		c = d.getter(d.holder(h), o)
	}
	refuse := func(first, last uint64) {
		if n := len(refused); n > 0 && uint64(refused[n-1].Last)+1 == first {
			refused[n-1].Last = entry.MessageID(last)
		} else {
			refused = append(refused, entry.Range{First: entry.MessageID(first), Last: entry.MessageID(last)})
		}
	}
	for _, r := range ranges {
		next := uint64(r.First)
		o.source.waiting.each(next, func(id uint64, _ record) bool {
			if id > uint64(r.Last) {
				return false
			}
			owner, owned := o.owners.get(id)
			switch {
			case !owned:
				o.returned.delete(id)
				o.owners.put(id, c.slot)
				d.hold(c)
			case owner == limbo || d.slots[owner-firstSlot].holder.id != h:
				return true
			}
			if next < id {
				refuse(next, id-1)
			}
			next = id + 1
			return true
		})
		if next <= uint64(r.Last) {
			refuse(next, uint64(r.Last))
		}
	}
	if !c.willing() {
		c.leave()
	}
	if o.source.expires() {
		d.arm(o)
	}
	return refused
}

// getter returns the consumer that stands for a holder's Gets from a queue.
func (d *Dispatcher) getter(h *holder, o *outlet) *consumer {
	if c := h.gets[o]; c != nil {
		return c
	}
	c := &consumer{Consumer: Consumer{Holder: h.id, Queue: o.source.id}, outlet: o, holder: h, get: true}
	if h.gets == nil {
		h.gets = map[*outlet]*consumer{}
	}
	h.gets[o] = c
	d.admit(c)
	return c
}
