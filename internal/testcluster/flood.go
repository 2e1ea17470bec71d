package testcluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/bench/driver"
)

// FloodConfig says what a Flood does with its queue.
type FloodConfig struct {
	Queue     string
	Arguments amqp.Table
	// Publishers and Consumers are the brokers that have one each.
	Publishers, Consumers []*Broker
	Window                int // unconfirmed messages of each publisher, and the consumers' prefetch
	Size                  int // of bodies in bytes
	// First is the number of the first publisher in the messages. Floods of which
	// messages wait in one queue have different ones.
	First uint32
	// Messages is how many each publisher sends; 0 for as many as it can until
	// Stop.
	Messages uint64
}

// Flood is clients that go as fast as their windows let them, over connections
// that are to last. It counts, and notices what was nacked, lost or doubled.
type Flood struct {
	config     FloodConfig
	publishers []*flooder
	consumers  []driver.Consumer
	publishing sync.WaitGroup
	mu         struct {
		sync.Mutex
		consumed uint64
		seen     [][]bool // by publisher and number
		doubled  uint64
		failure  error
	}
}

// flooder is one publisher of a Flood.
type flooder struct {
	out driver.Publisher
	mu  struct {
		sync.Mutex
		sent, confirmed, nacked uint64
		pending                 map[uint64]bool // tags that are not confirmed
		oldest                  uint64          // tags before it are
		stopped                 bool
	}
	moved sync.Cond
}

// StartFlood declares the queue and starts the clients.
func (c *Cluster) StartFlood(config FloodConfig) (*Flood, error) {
	f := &Flood{config: config}
	f.mu.seen = make([][]bool, len(config.Publishers))
	if err := declare(config.Publishers, config.Consumers, config.Queue, config.Arguments); err != nil {
		return nil, err
	}
	for _, b := range config.Consumers {
		if err := f.consume(b); err != nil {
			return f, errors.Join(err, f.close())
		}
	}
	for n, b := range config.Publishers {
		p := &flooder{}
		p.moved.L = &p.mu
		p.mu.pending, p.mu.oldest = make(map[uint64]bool), 1
		var err error
		if p.out, err = (driver.Lean{}).OpenPublisher(b.URL(), driver.Route{Queue: config.Queue}, p.confirm); err != nil {
			return f, errors.Join(err, f.close())
		}
		f.publishers = append(f.publishers, p)
		f.publishing.Go(func() { f.fail(p.run(n, config)) })
	}
	return f, nil
}

// declare declares a queue through the first of the brokers.
func declare(publishers, consumers []*Broker, queue string, arguments amqp.Table) error {
	connection, err := amqp.Dial(append(publishers[:len(publishers):len(publishers)], consumers...)[0].URL())
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err == nil {
		_, err = channel.QueueDeclare(queue, true, false, false, false, arguments)
	}
	return err
}

// consume starts a consumer that acks each message.
func (f *Flood) consume(b *Broker) error {
	var in driver.Consumer
	opened := make(chan struct{})
	in, err := driver.Lean{}.OpenConsumer(b.URL(), driver.Route{Queue: f.config.Queue}, f.config.Window, func(d driver.Delivery) {
		<-opened
		f.take(d)
		f.fail(in.Ack(d.Tag, false))
	})
	if err == nil {
		f.consumers = append(f.consumers, in)
	}
	close(opened)
	return err
}

// take enters a message that was consumed.
func (f *Flood) take(d driver.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(d.Body) != f.config.Size {
		f.mu.failure = errors.Join(f.mu.failure, fmt.Errorf("testcluster: a message of %d bytes came, of %d were sent", len(d.Body), f.config.Size))
		return
	}
	publisher, number := binary.BigEndian.Uint32(d.Body), binary.BigEndian.Uint64(d.Body[4:])
	for int(publisher) >= len(f.mu.seen) {
		f.mu.seen = append(f.mu.seen, nil)
	}
	for uint64(len(f.mu.seen[publisher])) <= number {
		f.mu.seen[publisher] = append(f.mu.seen[publisher], false)
	}
	if f.mu.seen[publisher][number] {
		f.mu.doubled++
	}
	f.mu.seen[publisher][number] = true
	f.mu.consumed++
}

// fail keeps the first error that ends a client.
func (f *Flood) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.failure == nil {
		f.mu.failure = err
	}
}

// run publishes until it is stopped or has sent all.
func (p *flooder) run(publisher int, config FloodConfig) error {
	body := make([]byte, max(config.Size, 12))
	for k := range body {
		body[k] = byte(k * 7)
	}
	binary.BigEndian.PutUint32(body, config.First+uint32(publisher))
	for number := uint64(0); config.Messages == 0 || number < config.Messages; number++ {
		if p.full(config.Window) {
			if err := p.out.Flush(); err != nil {
				return err
			}
		}
		if !p.room(config.Window) {
			break
		}
		binary.BigEndian.PutUint64(body[4:], number)
		if err := p.out.Publish(true, body); err != nil {
			return err
		}
	}
	return p.out.Flush()
}

func (p *flooder) full(window int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.pending) >= window
}

// room takes a place in the window as soon as there is one; false when the
// publisher is to stop.
func (p *flooder) room(window int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for full := len(p.mu.pending) >= window; full && !p.mu.stopped; full = len(p.mu.pending) > window-window/8 {
		p.moved.Wait()
	}
	if p.mu.stopped {
		return false
	}
	p.mu.sent++
	p.mu.pending[p.mu.sent] = true
	return true
}

func (p *flooder) confirm(tag uint64, multiple, ack bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := tag
	if multiple {
		first = p.mu.oldest
	}
	for t := first; t <= tag; t++ {
		if !p.mu.pending[t] {
			continue
		}
		delete(p.mu.pending, t)
		if ack {
			p.mu.confirmed++
		} else {
			p.mu.nacked++
		}
	}
	for p.mu.oldest <= p.mu.sent && !p.mu.pending[p.mu.oldest] {
		p.mu.oldest++
	}
	p.moved.Signal()
}

// Confirmed is how many messages are confirmed by now.
func (f *Flood) Confirmed() (n uint64) {
	for _, p := range f.publishers {
		p.mu.Lock()
		n += p.mu.confirmed
		p.mu.Unlock()
	}
	return n
}

// Consumed is how many messages have come by now.
func (f *Flood) Consumed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.consumed
}

// Wait returns when publishers that have a number of messages to send have all
// of them confirmed, or when something failed.
func (f *Flood) Wait(ctx context.Context) error {
	return f.await(ctx, func() bool { return f.Confirmed() == f.config.Messages*uint64(len(f.publishers)) })
}

// Stop has the publishers stop and waits until all that they sent is confirmed
// and, where there are consumers, consumed. An error tells what was not, or what
// came twice.
func (f *Flood) Stop(ctx context.Context) error {
	for _, p := range f.publishers {
		p.mu.Lock()
		p.mu.stopped = true
		p.moved.Signal()
		p.mu.Unlock()
	}
	f.publishing.Wait()
	var sent uint64
	for _, p := range f.publishers {
		sent += p.mu.sent
	}
	err := f.await(ctx, func() bool {
		return f.Confirmed() == sent && (len(f.consumers) == 0 || f.Consumed() >= sent)
	})
	err = errors.Join(err, f.close())
	if f.mu.doubled > 0 {
		err = errors.Join(err, fmt.Errorf("testcluster: %d messages came twice", f.mu.doubled))
	}
	return err
}

func (f *Flood) await(ctx context.Context, done func() bool) error {
	for !done() {
		f.mu.Lock()
		err := f.mu.failure
		f.mu.Unlock()
		for _, p := range f.publishers {
			err = errors.Join(err, ended(p.out.Failed()))
		}
		for _, c := range f.consumers {
			err = errors.Join(err, ended(c.Failed()))
		}
		if err == nil {
			err = pause(ctx, poll)
		}
		if err != nil {
			return fmt.Errorf("testcluster: %d confirmed, %d consumed: %w", f.Confirmed(), f.Consumed(), err)
		}
	}
	return nil
}

// ended is why a client's connection ended, nil while it has not.
func ended(failed <-chan error) error {
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (f *Flood) close() (err error) {
	for _, p := range f.publishers {
		err = errors.Join(err, p.out.Close())
	}
	for _, c := range f.consumers {
		err = errors.Join(err, c.Close())
	}
	return err
}
