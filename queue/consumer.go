package queue

import (
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// HolderID is who holds unacked messages: a channel of some connection.
type HolderID uint64

// ConsumerID is one consumer, unique in its group. 0 is none.
type ConsumerID uint64

// Consumer is a subscription.
type Consumer struct {
	ID        ConsumerID
	Holder    HolderID
	Queue     entry.QueueID
	NoAck     bool
	Exclusive bool
	Prefetch  uint32 // unacked deliveries at most, 0: no limit; not with NoAck
	Link      uint32 // deliveries at most that wait for Credit, 0: no limit
	Priority  int32  // higher is served first
}

// consumer is a Consumer and what it was given. The messages that a holder got
// with Get are held by a consumer of its own per queue (get), which never
// stands in line.
type consumer struct {
	Consumer
	slot      uint32 // its number among the owners of deliveries
	outlet    *outlet
	holder    *holder
	held      uint32 // deliveries not settled, without those of NoAck
	unwritten uint32 // deliveries not in the socket
	get       bool
	detached  bool     // gone, but its holder still has some of its deliveries
	woken     bool     // see holder.blocked
	lost      []uint64 // of a get: answers that never arrived
	inHolder  int      // its place in holder.members
	inOutlet  int      // its place in outlet.members

	// It stands in line while its own limits allow one more delivery: in the
	// ring of its priority, or, found with its holder's limit used up, in
	// holder.blocked.
	line       *line
	prev, next *consumer
}

// willing tells whether its own limits allow one more delivery.
func (c *consumer) willing() bool {
	return !c.detached && !c.get && !c.holder.suspended &&
		(c.Link == 0 || c.unwritten < c.Link) &&
		(c.NoAck || c.Prefetch == 0 || c.held < c.Prefetch)
}

// holder is a channel: its consumers and the limit that they share.
type holder struct {
	id      HolderID
	limit   uint32
	held    uint32      // what counts to the limit: deliveries of consumers
	members []*consumer // attached, or with something held
	gets    map[*outlet]*consumer
	closing bool
	// suspended says that its consumers get nothing: see Dispatcher.Suspend.
	suspended bool

	// blocked has the consumers that were in turn, with a message there, when
	// the limit was used up. Each delivery that is settled wakes one of them;
	// a woken one that finds no message left wakes the next, so that a slot
	// is never forgotten and nobody is asked twice for nothing.
	blocked line
}

func (h *holder) full() bool { return h.limit > 0 && h.held >= h.limit }

// join enters a consumer with its holder and its outlet.
func (c *consumer) join() {
	c.inHolder = len(c.holder.members)
	c.holder.members = append(c.holder.members, c)
	c.inOutlet = len(c.outlet.members)
	c.outlet.members = append(c.outlet.members, c)
}

// part is the opposite of join.
func (c *consumer) part() {
	members := c.holder.members
	last := len(members) - 1
	members[c.inHolder] = members[last]
	members[c.inHolder].inHolder = c.inHolder
	members[last] = nil
	c.holder.members = members[:last]

	members = c.outlet.members
	last = len(members) - 1
	members[c.inOutlet] = members[last]
	members[c.inOutlet].inOutlet = c.inOutlet
	members[last] = nil
	c.outlet.members = members[:last]
	if c.get {
		delete(c.holder.gets, c.outlet)
	}
}

// line is a doubly linked list of consumers, so that leaving it is O(1).
type line struct {
	priority    int32
	first, last *consumer
}

func (l *line) push(c *consumer) {
	c.line, c.prev, c.next = l, l.last, nil
	if l.last != nil {
		l.last.next = c
	} else {
		l.first = c
	}
	l.last = c
}

// leave takes a consumer out of the line it stands in, if any.
func (c *consumer) leave() {
	l := c.line
	if l == nil {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.line, c.prev, c.next = nil, nil, nil
}

// outlet is a queue as its consumers see it.
//
// Invariants: owners and returned are disjoint sets of waiting messages;
// returned ones are below the cursor; a waiting message below the cursor is in
// one of them. So what is ready is returned, and what waits from the cursor on
// without an owner.
type outlet struct {
	source    *state
	owners    table[uint32] // who was given each message: a slot, or limbo
	returned  table[uint8]  // messages to give again
	cursor    uint64        // the lowest id not yet given to anyone
	mark      uint64        // ids up to it may have been given by an earlier leader
	delivered uint64        // the highest id given
	rings     []*line       // one per priority, highest first
	members   []*consumer   // attached, or with something held
	consumers int           // attached ones
	exclusive bool          // the only one is
	pending   bool          // in Dispatcher.pending
	dirty     bool          // in Dispatcher.dirty
	woken     []*consumer

	// Of a queue whose messages expire:
	alarm   int64         // when Expired looks at the first ready message. Invariant: not after that expires
	place   int           // in Dispatcher.alarms, from 1; 0: not there
	expired []entry.Range // in limbo, to be told by Expired
	offered uint64        // ids up to it were there at the last Expired
	fresh   bool          // in Dispatcher.fresh
}

// limbo owns messages that were settled or given without ack, until the op
// that says so is applied. Other owners are slot numbers from firstSlot on.
const (
	limbo     = 1
	firstSlot = 2
)

// ring returns the line of a priority.
func (o *outlet) ring(priority int32) *line {
	i, ok := slices.BinarySearchFunc(o.rings, priority, func(l *line, p int32) int {
		return int(int64(p) - int64(l.priority)) // descending
	})
	if !ok {
		o.rings = slices.Insert(o.rings, i, &line{priority: priority})
	}
	return o.rings[i]
}

// inTurn is the consumer to serve next, nil if none stands in line.
// O(priorities in use).
func (o *outlet) inTurn() *consumer {
	for _, l := range o.rings {
		if l.first != nil {
			return l.first
		}
	}
	return nil
}

// peek returns the ready message with the lowest id.
func (o *outlet) peek() (id uint64, r record, ok bool) {
	if o.returned.live > 0 {
		id, _, _ = o.returned.next(0)
		r, ok = o.source.waiting.get(id)
		return id, r, ok
	}
	for {
		id, r, ok = o.source.waiting.next(o.cursor)
		if !ok || id > o.owners.bound() {
			return id, r, ok
		}
		if _, owned := o.owners.get(id); !owned { // adopted ahead of the cursor
			return id, r, ok
		}
		o.cursor = id + 1
	}
}

// give notes the owner of the message that peek returned.
func (o *outlet) give(id uint64, owner uint32) {
	if id < o.cursor {
		o.returned.delete(id)
	} else {
		o.cursor = id + 1
	}
	o.owners.put(id, owner)
}

func (o *outlet) ready() uint64 { return uint64(o.source.waiting.live - o.owners.live) }
