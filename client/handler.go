package client

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"
)

// abandonAfter is how long a handler may take to notice that its context has
// ended.
const abandonAfter = time.Second

// Handler handles a delivery. Nil acknowledges it; after an error it is tried
// again and then settled as the consumer's configuration says, after Reject it is
// rejected. A panic counts as an error. A delivery that the handler has settled
// itself is left alone.
//
// ctx lives on after the consumer's end, so that a handler can finish, and ends
// after ConsumerConfig.Drain. When the delivery's connection breaks the handler
// runs on, and the message is delivered again.
type Handler func(ctx context.Context, d *Delivery) error

// Consume has handler handle a queue's deliveries, over any number of
// connections, until ctx ends. Then it takes nothing more, waits for running
// handlers (ConsumerConfig.Drain), settles what they did, and puts back what was
// not begun. It returns nil then; ErrAbandoned if a handler still runs; else why
// the queue can't be consumed: a *BrokerError if there is none (404) or it may
// not be (403, 405), or ErrClosed.
func (c *Client) Consume(ctx context.Context, queue string, config ConsumerConfig, handler Handler) error {
	k, err := c.newConsumer(queue, config)
	if err != nil {
		return err
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()

	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	work := make(chan *Delivery)
	var workers sync.WaitGroup
	for range k.config.Concurrency {
		workers.Go(func() {
			for d := range work {
				k.handle(ctx, handling, d, handler)
			}
		})
	}
	err = k.each(ctx, func(d *Delivery) bool {
		select {
		case work <- d:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(work)
	err = errors.Join(err, k.drain(&workers, cancel))
	k.close()
	return err
}

// drain waits for the handlers: first as they are, then with their context ended.
func (k *consumer) drain(workers *sync.WaitGroup, cancel context.CancelFunc) error {
	soon, stop := context.WithTimeout(context.Background(), k.config.Drain)
	defer stop()
	if wait(soon, workers) == nil {
		return nil
	}
	cancel()
	late, stop := context.WithTimeout(context.Background(), abandonAfter)
	defer stop()
	if wait(late, workers) != nil {
		return ErrAbandoned
	}
	return nil
}

// handle handles a delivery and settles it. ctx is the consumer's, handling the
// handlers'.
func (k *consumer) handle(ctx, handling context.Context, d *Delivery, handler Handler) {
	pauses := backoff{least: k.config.Retry.Min, most: k.config.Retry.Max}
	for {
		if d.stale() && !k.config.NoAck {
			k.client.counts.stale.Add(1)
			return // It is delivered again: handling it here would only double it.
		}
		err := k.call(handling, d, handler)
		if d.settled {
			return
		}
		if err == nil {
			_ = d.Ack() // Where it is stale, it is delivered again.
			return
		}
		var final *rejection
		last := errors.As(err, &final) || d.Attempt >= k.config.Retry.Attempts
		k.logger.Warn("handler failed", "attempt", d.Attempt, "last", last, "message", d.MessageID, "reason", err)
		if last {
			k.fail(d, final != nil)
			return
		}
		if sleep(ctx, pauses.pause()) != nil {
			_ = d.Requeue()
			return
		}
		d.Attempt++
		k.client.counts.retried.Add(1)
	}
}

// fail settles a delivery that was not handled.
func (k *consumer) fail(d *Delivery, rejected bool) {
	if rejected || k.config.OnFailure == ThenDeadLetter {
		_ = d.Reject() // Where it is stale, it is delivered again.
	} else {
		_ = d.Requeue()
	}
}

// call calls the handler once.
func (k *consumer) call(ctx context.Context, d *Delivery, handler Handler) (err error) {
	if observer := k.client.config.Observer; observer != nil {
		var observed func(error)
		if ctx, observed = observer.Process(ctx, d); observed != nil {
			defer func() { observed(err) }()
		}
	}
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{value, debug.Stack()}
		}
	}()
	return handler(ctx, d)
}
