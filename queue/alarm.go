package queue

import (
	"container/heap"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// maxExpired bounds how many messages one Expired puts in limbo on its own, so
// that a large backlog that expires at one time holds nobody up for long.
const maxExpired = 1 << 16

// alarms is a heap of the outlets whose first ready message expires. An outlet
// is looked at when its alarm goes off, too early if that message is gone.
type alarms []*outlet

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].alarm < a[j].alarm }

func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = i+1, j+1
}

// Push is heap.Interface's.
func (a *alarms) Push(x any) {
	o := x.(*outlet)
	*a = append(*a, o)
	o.place = len(*a)
}

// Pop is heap.Interface's.
func (a *alarms) Pop() any {
	last := len(*a) - 1
	o := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	o.place = 0
	return o
}

// Clock tells the time, in nanoseconds of the Unix epoch, by which messages
// expire in what follows. It never goes back, nor behind the machine's.
func (d *Dispatcher) Clock(now int64) { d.now = max(d.now, now, d.machine.now) }

// Expired looks for expired messages where it is time to, and calls fn with
// each queue that has any, those that Get and the dispatches met since the last
// call among them. They are in limbo: the owner dead-letters them if the queue
// is to, and proposes their Settle. The ranges are fn's, in any order.
//
// Messages expire from the head of their queue, as in RabbitMQ's quorum queues:
// one that waits behind another which has not expired stays, but nobody gets
// it. What a holder has does not expire until it is returned.
//
// The owner calls it when it applied entries and dispatched, and now and then
// when nothing happens; after a change of leader, when it has adopted what
// holders have. O(1) if nothing expires.
func (d *Dispatcher) Expired(fn func(q entry.QueueID, ranges []entry.Range)) {
	for _, o := range d.fresh {
		o.fresh, o.offered = false, uint64(o.source.last)
	}
	clear(d.fresh)
	d.fresh = d.fresh[:0]
	for left := maxExpired; left > 0 && len(d.alarms) > 0 && d.alarms[0].alarm <= d.now; {
		o := heap.Pop(&d.alarms).(*outlet)
		left -= d.expire(o, left)
		d.arm(o)
	}
	for _, o := range d.passed {
		if ranges := o.expired; len(ranges) > 0 {
			o.expired = nil
			fn(o.source.id, ranges)
		}
	}
	clear(d.passed)
	d.passed = d.passed[:0]
}

// next is peek for a consumer in line: it passes over what has expired.
// Messages without any time are given to it if they have just come.
func (d *Dispatcher) next(o *outlet) (id uint64, r record, ok bool) {
	id, r, ok = o.peek()
	for ok && o.source.expires() {
		at := d.machine.expiry(o.source, id, r)
		if at > d.now || at == atOnce && id > o.offered {
			break
		}
		d.pass(o, id)
		id, r, ok = o.peek()
	}
	return id, r, ok
}

// expire passes over at most limit messages at the head that have expired, and
// returns how many it did.
func (d *Dispatcher) expire(o *outlet, limit int) (n int) {
	for n < limit && o.source.expires() {
		id, r, ok := o.peek()
		if !ok || d.machine.expiry(o.source, id, r) > d.now {
			break
		}
		d.pass(o, id)
		n++
	}
	return n
}

// pass puts the message that peek returned in limbo.
func (d *Dispatcher) pass(o *outlet, id uint64) {
	o.give(id, limbo)
	if len(o.expired) == 0 {
		d.passed = append(d.passed, o)
	}
	o.expired = entry.AppendID(o.expired, entry.MessageID(id))
}

// arm sets an outlet's alarm, if its first ready message expires before it goes
// off. REQUIRES: called whenever that message may have become another.
func (d *Dispatcher) arm(o *outlet) {
	id, r, ok := o.peek()
	if !ok {
		return
	}
	at := d.machine.expiry(o.source, id, r)
	switch {
	case at == never:
	case o.place == 0:
		o.alarm = at
		heap.Push(&d.alarms, o)
	case at < o.alarm:
		o.alarm = at
		heap.Fix(&d.alarms, o.place-1)
	}
}

func (d *Dispatcher) disarm(o *outlet) {
	if o.place > 0 {
		heap.Remove(&d.alarms, o.place-1)
	}
}

// armAll sets the alarms of all queues. It goes through them in order, so that
// what follows is the same in each run.
func (d *Dispatcher) armAll() {
	var queues []entry.QueueID
	for id, q := range d.machine.queues {
		if q.expires() {
			queues = append(queues, id)
		}
	}
	slices.Sort(queues)
	for _, q := range queues {
		d.arm(d.open(q))
	}
}
