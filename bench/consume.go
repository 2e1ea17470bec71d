package bench

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/mirrormq/mirrormq/bench/driver"
)

// consumer is one consuming connection of a run. All but the atomics belong
// to the goroutine that delivers until the connection is closed.
type consumer struct {
	run *run
	in  driver.Consumer

	received atomic.Uint64
	ready    chan struct{} // closed once in is set
	unacked  int
	lastTag  uint64
	latency  *latencyShard
	seen     *ledger
	fault    chan error // capacity 1: an ack that failed
}

func newConsumer(r *run, id int, url string) (*consumer, error) {
	c := &consumer{
		run: r, latency: r.deliveryLatency.of(id), seen: newLedger(r.Publishers, r.id),
		fault: make(chan error, 1), ready: make(chan struct{}),
	}
	in, err := r.Driver.OpenConsumer(url, r.source(id), r.Prefetch, c.onDelivery)
	if err != nil {
		return nil, err
	}
	c.in = in
	close(c.ready) // the first delivery may be quicker than OpenConsumer
	return c, nil
}

func (c *consumer) onDelivery(d driver.Delivery) {
	<-c.ready
	s, ok := c.seen.note(d)
	if ok && c.run.measuring() {
		c.latency.record(now() - s.sentAt)
	}
	c.lastTag = d.Tag
	c.unacked++
	if c.unacked >= c.run.AckEvery {
		c.ack()
	}
	c.run.deliveryGap.note(now())
	c.received.Add(1)
}

// ack settles all that is delivered.
func (c *consumer) ack() {
	if c.unacked == 0 {
		return
	}
	err := c.in.Ack(c.lastTag, c.unacked > 1)
	c.unacked = 0
	if err == nil {
		return
	}
	select {
	case c.fault <- fmt.Errorf("bench: ack: %w", err):
	default:
	}
}

// watch returns what goes wrong with the consumer before done is closed.
func (c *consumer) watch(ctx context.Context, done <-chan struct{}) error {
	select {
	case err := <-c.in.Failed():
		return err
	case err := <-c.fault:
		return err
	case <-done:
		return nil
	case <-ctx.Done():
		return nil
	}
}
