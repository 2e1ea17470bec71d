package bench

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mirrormq/mirrormq/bench/driver"
	"github.com/mirrormq/mirrormq/bench/report"
)

// memoryBroker is a Driver and its broker in memory, with ways to misbehave.
// It keeps one queue and hands messages to consumers in turn.
type memoryBroker struct {
	mu        sync.Mutex
	consumers []*memoryConsumer
	next      int
	count     int

	// misbehave may change what the n-th message (from 1) becomes: none is a
	// loss, two a repetition.
	misbehave func(n int, body []byte) [][]byte
	// nack refuses the n-th publish.
	nack func(n int) bool
}

type memoryPublisher struct {
	broker    *memoryBroker
	confirmed func(tag uint64, multiple, ack bool)
	tag       uint64
	failed    chan error
}

type memoryConsumer struct {
	deliveries chan driver.Delivery
	done       sync.WaitGroup
	tag        uint64
	acked      uint64
	ackCalls   int
}

func (b *memoryBroker) OpenAdmin(string) (driver.Admin, error) { return nil, errors.ErrUnsupported }

func (b *memoryBroker) OpenPublisher(_ string, _ driver.Route, confirmed func(tag uint64, multiple, ack bool)) (driver.Publisher, error) {
	return &memoryPublisher{broker: b, confirmed: confirmed, failed: make(chan error, 1)}, nil
}

func (b *memoryBroker) OpenConsumer(_ string, _ driver.Route, _ int, deliver func(driver.Delivery)) (driver.Consumer, error) {
	c := &memoryConsumer{deliveries: make(chan driver.Delivery, 1<<16)}
	c.done.Go(func() {
		for d := range c.deliveries {
			deliver(d)
		}
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consumers = append(b.consumers, c)
	return c, nil
}

func (b *memoryBroker) publish(body []byte) (ack bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	if b.nack != nil && b.nack(b.count) {
		return false
	}
	bodies := [][]byte{slices.Clone(body)}
	if b.misbehave != nil {
		bodies = b.misbehave(b.count, bodies[0])
	}
	for _, body := range bodies {
		c := b.consumers[b.next%len(b.consumers)]
		b.next++
		c.tag++
		c.deliveries <- driver.Delivery{Tag: c.tag, Body: body}
	}
	return true
}

func (p *memoryPublisher) Publish(_ bool, body []byte) error {
	p.tag++
	p.confirmed(p.tag, p.tag%2 == 0, p.broker.publish(body))
	return nil
}

func (p *memoryPublisher) Flush() error         { return nil }
func (p *memoryPublisher) Failed() <-chan error { return p.failed }
func (p *memoryPublisher) Close() error         { return nil }

func (c *memoryConsumer) Ack(tag uint64, multiple bool) error {
	if !multiple && tag != c.acked+1 {
		return errors.New("a tag was left out")
	}
	c.acked = tag
	c.ackCalls++
	return nil
}

func (c *memoryConsumer) Failed() <-chan error { return nil }

func (c *memoryConsumer) Close() error {
	close(c.deliveries)
	c.done.Wait()
	return nil
}

// playInMemory runs what Run runs, without the queues that need a broker, in
// a bubble of synctest's: nobody waits for a lost message, and a busy machine
// makes none late.
func playInMemory(t *testing.T, broker *memoryBroker, s Scenario) (result report.Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.Driver = broker
		r, err := newRun(s)
		if err != nil {
			t.Fatal(err)
		}
		result, err = r.play(t.Context(), Target{Name: "memory", URLs: []string{"memory"}})
		if err != nil {
			t.Fatal(err)
		}
	})
	return result
}

// counted sends exactly n messages.
func counted(n int) Scenario {
	s := Throughput()
	s.WarmUp, s.Duration, s.Count = 0, 0, n
	return s
}
