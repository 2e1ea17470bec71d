package client

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// pending is a message between Publish and its end.
type pending struct {
	message  Message
	sequence int64
	since    time.Time // when it was accepted
	// observed is the observer's, to be called with the end.
	observed func(error)
	// alone says that one Publish waits for it, who gives it back: done gets one
	// value. Else done is closed.
	alone bool
	done  chan struct{}

	// Guarded by the producer's mu until done.
	confirmation *amqp.DeferredConfirmation // nil before it is sent
	sent         bool                       // it was, maybe over another connection
	ended        bool
	err          error            // set when ended
	returned     *UnroutableError // it came back
	gone         bool             // nobody but its publisher holds it any more
}

// settled says whether the broker has confirmed or nacked it, or its connection
// is gone.
func (r *pending) settled() bool {
	select {
	case <-r.confirmation.Done():
		return true
	default:
		return false
	}
}

// Confirmation is the promise of what becomes of a message that was published
// asynchronously.
type Confirmation struct{ record *pending }

// Done is closed when it is known what became of the message.
func (c Confirmation) Done() <-chan struct{} { return c.record.done }

// Err is nil for a confirmed message, else why it was not: what Publish would
// return. It is nil before Done is closed.
func (c Confirmation) Err() error {
	select {
	case <-c.record.done:
		return c.record.err
	default:
		return nil
	}
}

// Wait waits for the end of the message, or of ctx: that gives up only the
// waiting. It returns what Err does, or why ctx has ended.
func (c Confirmation) Wait(ctx context.Context) error {
	select {
	case <-c.record.done:
		return c.record.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// deque is a queue of messages, in a ring. Places may be emptied in the middle.
type deque struct {
	ring  []*pending // its length is a power of two
	first int
	len   int
}

func (d *deque) at(i int) *pending { return d.ring[(d.first+i)&(len(d.ring)-1)] }

func (d *deque) clear(i int) { d.ring[(d.first+i)&(len(d.ring)-1)] = nil }

func (d *deque) push(r *pending) {
	if d.len == len(d.ring) {
		d.grow()
	}
	d.ring[(d.first+d.len)&(len(d.ring)-1)] = r
	d.len++
}

// pushFront puts a message before all others.
func (d *deque) pushFront(r *pending) {
	if d.len == len(d.ring) {
		d.grow()
	}
	d.first = (d.first - 1) & (len(d.ring) - 1)
	d.ring[d.first] = r
	d.len++
}

func (d *deque) grow() {
	ring := make([]*pending, max(16, 2*len(d.ring)))
	for i := range d.len {
		ring[i] = d.at(i)
	}
	d.ring, d.first = ring, 0
}

func (d *deque) pop() *pending {
	r := d.at(0)
	d.clear(0)
	d.first = (d.first + 1) & (len(d.ring) - 1)
	d.len--
	return r
}

// remove takes a message out of the middle, and reports whether it was there.
// O(n).
func (d *deque) remove(r *pending) bool {
	for i := range d.len {
		if d.at(i) != r {
			continue
		}
		for ; i > 0; i-- {
			d.ring[(d.first+i)&(len(d.ring)-1)] = d.at(i - 1)
		}
		d.pop()
		return true
	}
	return false
}
