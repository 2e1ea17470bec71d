package client

// Delivery is a message that was delivered from a queue. It is settled once: by
// the handler's result, or by Ack, Reject or Requeue. Settling tells the broker
// soon, not at once; when the connection breaks before that, the message is
// delivered again.
type Delivery struct {
	Message
	// Queue is where it came from.
	Queue string
	// Redelivered says that it, or another delivery of the same message, may have
	// been handled before.
	Redelivered bool
	// Attempt counts the handler's calls for this delivery, from 1.
	Attempt int

	subscription *subscription
	tag          uint64
	settled      bool
}

// Ack takes the message out of its queue. The error is ErrSettled, or ErrStale
// if the message is to be delivered again.
func (d *Delivery) Ack() error { return d.settle(ack) }

// Reject takes the message out of its queue, to where the queue's dead letters
// go. Without a dead-letter exchange it is dropped.
func (d *Delivery) Reject() error { return d.settle(reject) }

// Requeue puts the message back to its place in the queue, for any consumer.
func (d *Delivery) Requeue() error { return d.settle(requeue) }

func (d *Delivery) settle(how settlement) error {
	if d.settled {
		return ErrSettled
	}
	d.settled = true
	s := d.subscription
	if s.noAck {
		return nil
	}
	if !s.settle(d.tag, how) {
		s.counts.stale.Add(1)
		return ErrStale
	}
	switch how {
	case ack:
		s.counts.acked.Add(1)
	case reject:
		s.counts.rejected.Add(1)
	case requeue:
		s.counts.requeued.Add(1)
	}
	return nil
}

// stale says that the delivery's connection is gone.
func (d *Delivery) stale() bool { return d.subscription.channel.IsClosed() }
