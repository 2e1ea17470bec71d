package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// maxWindow is the largest window in messages: MirrorMQ recognizes what is
	// published again within 8192 sequences of a producer's newest.
	maxWindow     = 4000
	defaultWindow = 1000
	// maxProducerName leaves room for what makes a name unique.
	maxProducerName = 200
)

// ProducerConfig says how a producer publishes. The zero value of a field means
// its default.
type ProducerConfig struct {
	// Name begins the producer's name, which brokers remember its sequences by; a
	// random part follows, so each producer has its own. Default: "p".
	Name string
	// NotIdempotent leaves the producer's name and the sequence out of the
	// headers: a message that is published again may be there twice.
	NotIdempotent bool
	// Window and WindowBytes bound what is published and unconfirmed at a time, in
	// messages (default 1000, at most 4000) and in bytes of bodies (default
	// 16 MiB). Publish waits for room.
	Window      int
	WindowBytes int64
	// Timeout is how long a message may take from Publish to its confirm. Default
	// one minute; below 0 only the context counts.
	Timeout time.Duration
}

func (c ProducerConfig) withDefaults() ProducerConfig {
	setDefault(&c.Name, "p")
	setDefault(&c.Window, defaultWindow)
	setDefault(&c.WindowBytes, 16<<20)
	setDefault(&c.Timeout, time.Minute)
	return c
}

func (c ProducerConfig) validate() error {
	var errs []error
	if len(c.Name) > maxProducerName {
		errs = append(errs, fmt.Errorf("client: the producer's name has %d bytes: at most %d", len(c.Name), maxProducerName))
	}
	if c.Window < 1 || c.Window > maxWindow {
		errs = append(errs, fmt.Errorf("client: Window %d: from 1 to %d", c.Window, maxWindow))
	}
	if c.WindowBytes < 1 {
		errs = append(errs, fmt.Errorf("client: WindowBytes %d: at least 1", c.WindowBytes))
	}
	return errors.Join(errs...)
}

// Producer publishes messages, in their order, and publishes again what was
// unconfirmed when its connection broke. It may be used from many goroutines.
//
// Its publishers hand messages to one goroutine, send, which owns the AMQP
// channel; another, settle, ends them as confirms come. A message is in waiting
// until it is sent, then in flight until it has ended.
type Producer struct {
	client  *Client
	link    *link
	config  ProducerConfig
	name    string
	window  *window
	records sync.Pool // of *pending, for Publish

	wake chan struct{} // something is to be sent
	sent chan struct{} // settle has something new to look at

	running  context.Context // ends with the producer
	cancel   context.CancelFunc
	stopping chan struct{} // closed when no more is accepted
	stop     sync.Once
	stopped  sync.WaitGroup

	mu struct {
		sync.Mutex
		sequence int64
		waiting  deque
		flight   deque         // sent, by sequence; what has ended out of turn is nil
		live     int           // messages that have not ended
		idle     chan struct{} // closed when live is 0; nil where nobody waits
		channel  *channel      // the one in use, nil while there is none
		// probing is how many messages are to be sent one at a time: a broker has
		// closed the channel because of one of them.
		probing int
		closed  bool
		// strays came back before they were in flight.
		strays []amqp.Return
		// told are observers to be called without the lock; settled is sweep's.
		told    []func()
		settled []int
	}
}

// NewProducer makes a producer. The client's first one opens the connection for
// publishing, within ctx.
func (c *Client) NewProducer(ctx context.Context, config ProducerConfig) (*Producer, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	l, err := c.publishing(ctx)
	if err != nil {
		return nil, err
	}
	p := &Producer{
		client: c, link: l, config: config, name: config.Name + "-" + rand.Text(),
		window: newWindow(config.Window, config.WindowBytes),
		wake:   make(chan struct{}, 1), sent: make(chan struct{}, 1), stopping: make(chan struct{}),
	}
	p.records.New = func() any { return &pending{alone: true, done: make(chan struct{}, 1)} }
	p.running, p.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, ErrClosed
	}
	c.mu.producers[p] = struct{}{}
	p.stopped.Go(p.send)
	p.stopped.Go(p.settle)
	return p, nil
}

// Name is the producer's name, as it is in the header x-producer.
func (p *Producer) Name() string { return p.name }

// Publish publishes a message and returns nil once the broker has confirmed it:
// it is at its queues' ack quorum. It returns an *UnroutableError if no queue
// takes it, ErrNacked if the broker refuses it, a *BrokerError if it may not be
// published (no such exchange, for one), and ErrNotSent or ErrUnconfirmed,
// wrapped together with ctx's error or with ErrTimeout, if that takes too long.
// The message must not be changed before Publish returns, nor after ErrUnconfirmed.
func (p *Producer) Publish(ctx context.Context, m Message) error {
	record := p.records.Get().(*pending)
	record.message = m
	if err := p.accept(ctx, record); err != nil {
		return err
	}
	select {
	case <-record.done:
	case <-ctx.Done():
		p.abandon(record, context.Cause(ctx))
		<-record.done
	}
	err, observed := record.err, record.observed
	if record.gone {
		*record = pending{alone: true, done: record.done}
		p.records.Put(record)
	}
	if observed != nil {
		observed(err)
	}
	return err
}

// PublishAsync publishes a message and returns when there is room for it in the
// window: the Confirmation tells what becomes of it. ctx bounds the waiting for
// room only. The message must not be changed before the Confirmation is done.
func (p *Producer) PublishAsync(ctx context.Context, m Message) (Confirmation, error) {
	record := &pending{message: m, done: make(chan struct{})}
	if err := p.accept(ctx, record); err != nil {
		return Confirmation{}, err
	}
	return Confirmation{record}, nil
}

// PublishBatch publishes messages in their order and waits for all. The error is
// a *BatchError if some were not confirmed.
func (p *Producer) PublishBatch(ctx context.Context, messages []Message) error {
	records := make([]*pending, 0, len(messages))
	failed := &BatchError{Errors: make([]error, len(messages))}
	for _, m := range messages {
		record := &pending{message: m, done: make(chan struct{})}
		if err := p.accept(ctx, record); err != nil {
			record.err = err
			close(record.done)
		}
		records = append(records, record)
	}
	for i, record := range records {
		select {
		case <-record.done:
		case <-ctx.Done():
			p.abandon(record, context.Cause(ctx))
			<-record.done
		}
		if failed.Errors[i] = record.err; record.err != nil {
			failed.failed++
		}
	}
	if failed.failed > 0 {
		return failed
	}
	return nil
}

// Flush waits until everything that was published has ended.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	if p.mu.live == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.mu.idle == nil {
		p.mu.idle = make(chan struct{})
	}
	idle := p.mu.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close takes no more messages, waits until what was published has ended, and
// ends the producer. When ctx ends before that its error is returned, and the
// rest ends with ErrClosed.
func (p *Producer) Close(ctx context.Context) error {
	p.stop.Do(func() { close(p.stopping) })
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	err := p.Flush(ctx)
	p.cancel()
	p.giveUp()
	if err == nil {
		err = wait(ctx, &p.stopped)
	}
	if err == nil {
		p.client.mu.Lock()
		delete(p.client.mu.producers, p)
		p.client.mu.Unlock()
	}
	return err
}

// giveUp ends what has not ended with ErrClosed, and takes no more.
func (p *Producer) giveUp() {
	p.stop.Do(func() { close(p.stopping) })
	p.mu.Lock()
	defer p.unlock()
	p.mu.closed, p.mu.channel = true, nil
	for p.mu.waiting.len > 0 {
		r := p.mu.waiting.pop()
		p.finish(r, notConfirmed(r, ErrClosed))
	}
	for p.mu.flight.len > 0 {
		if r := p.mu.flight.pop(); r != nil {
			p.finish(r, notConfirmed(r, ErrClosed))
		}
	}
}

// accept takes a message, which is in the record: from here on it ends by end.
func (p *Producer) accept(ctx context.Context, record *pending) error {
	m := &record.message
	if err := m.validate(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return p.whyNot(context.Cause(ctx))
	}
	if observer := p.client.config.Observer; observer != nil {
		record.observed = observer.Publish(ctx, m)
	}
	err := p.window.enter(ctx, p.stopping, m.size())
	if err != nil && !errors.Is(err, ErrClosed) {
		err = p.whyNot(err)
	}
	if err == nil {
		p.mu.Lock()
		if p.mu.closed {
			err = ErrClosed
			p.window.leave(m.size())
		} else {
			p.mu.sequence++
			record.sequence, record.since = p.mu.sequence, time.Now()
			p.mu.waiting.push(record)
			p.mu.live++
			if p.mu.channel == nil {
				signal(p.sent) // It may run out of time.
			}
		}
		p.mu.Unlock()
	}
	if err != nil {
		if record.observed != nil {
			record.observed(err)
		}
		return err
	}
	signal(p.wake)
	return nil
}

// whyNot is why a message was not sent, with what the broker says if it blocks
// publishers.
func (p *Producer) whyNot(err error) error {
	p.mu.Lock()
	channel := p.mu.channel
	p.mu.Unlock()
	if channel == nil {
		return fmt.Errorf("%w: no connection: %w", ErrNotSent, err)
	}
	if reason := channel.session.blockedFor(); reason != "" {
		return fmt.Errorf("%w: the broker blocks publishers: %s: %w", ErrNotSent, reason, err)
	}
	return fmt.Errorf("%w: %w", ErrNotSent, err)
}

// abandon ends a message that its publisher no longer waits for, unless it has
// ended. It may yet be confirmed.
func (p *Producer) abandon(record *pending, cause error) {
	p.mu.Lock()
	defer p.unlock()
	if record.ended {
		return
	}
	if ch := p.mu.channel; !record.sent && ch != nil && ch.session.blockedFor() != "" {
		cause = fmt.Errorf("the broker blocks publishers: %s: %w", ch.session.blockedFor(), cause)
	}
	p.end(record, notConfirmed(record, cause))
	if p.mu.waiting.remove(record) {
		p.window.leave(record.message.size())
	}
}

// notConfirmed says that a message was not confirmed for a cause, and whether it
// may be in its queue.
func notConfirmed(r *pending, cause error) error {
	if r.sent {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, cause)
	}
	return fmt.Errorf("%w: %w", ErrNotSent, cause)
}

// end ends a message that has not ended. REQUIRES: mu held.
func (p *Producer) end(r *pending, err error) {
	r.ended, r.err = true, err
	p.mu.live--
	if p.mu.live == 0 && p.mu.idle != nil {
		close(p.mu.idle)
		p.mu.idle = nil
	}
	if !r.alone && r.observed != nil {
		p.mu.told = append(p.mu.told, func() { r.observed(err) })
	}
	if !r.alone {
		close(r.done)
	} else {
		r.done <- struct{}{}
	}
}

// unlock gives the lock back and calls the observers of what ended under it.
func (p *Producer) unlock() {
	told := p.mu.told
	p.mu.told = nil
	p.mu.Unlock()
	for _, tell := range told {
		tell()
	}
}

// finish ends a message, unless it has, that is neither waiting nor in flight any
// more. Its record is the publisher's then. REQUIRES: mu held.
func (p *Producer) finish(r *pending, err error) {
	p.window.leave(r.message.size())
	if !r.ended {
		r.gone = true
		p.end(r, err)
	}
}

// signal makes sure that whoever waits on c looks again.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
