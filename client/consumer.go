package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// idleTime is how long nothing must come until an UntilEmpty consumer asks
	// whether its queue is empty.
	idleTime = 50 * time.Millisecond
	// refusedFor is how long a consumer that had its queue tries to get it back
	// while the broker says no: another connection of ours may not have ended yet.
	refusedFor = 30 * time.Second
)

// ConsumerConfig says how a consumer takes and settles deliveries. The zero
// value of a field means its default.
type ConsumerConfig struct {
	// Name begins the consumer's tag, which brokers show. Default: "c".
	Name string
	// Concurrency is how many deliveries are handled at once. Default 1: in the
	// order of the queue. It is for Consume.
	Concurrency int
	// Prefetch is how many deliveries may be here unsettled. Default: twice the
	// concurrency, at least 64. Below 0 it has no bound.
	Prefetch int
	// Retry is how a handler is called again after an error.
	Retry Retry
	// OnFailure is what becomes of a delivery whose last attempt failed.
	OnFailure OnFailure
	// Drain is how long running handlers may take after the consumer's end; then
	// their contexts end too. Default 30 s.
	Drain time.Duration
	// Exclusive is for the queue's only consumer.
	Exclusive bool
	// Priority has consumers with a higher one served first.
	Priority int
	// UntilEmpty ends the consumer once the queue is empty and all that came was
	// handed over.
	UntilEmpty bool
	// NoAck has the broker forget messages as it sends them: fast, and lost if
	// anything goes wrong. Settling does nothing then.
	NoAck bool
	// Arguments are further ones for the broker.
	Arguments Headers
}

// OnFailure is what becomes of a delivery that a handler could not handle.
type OnFailure int

const (
	// ThenRequeue puts it back to its place in the queue: it will be delivered
	// again.
	ThenRequeue OnFailure = iota
	// ThenDeadLetter rejects it: it goes where the queue's dead letters go, and is
	// dropped where there is no such place.
	ThenDeadLetter
)

// Retry says how a handler is called again for a delivery after an error. It is
// called by the same goroutine, so that with a concurrency of 1 the order is
// kept: meanwhile that goroutine handles nothing else.
type Retry struct {
	// Attempts is how often the handler is called at most. Default 3.
	Attempts int
	// Min and Max bound the pauses between; they double and are jittered. Default
	// 100 ms and 10 s.
	Min, Max time.Duration
}

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	setDefault(&c.Name, "c")
	setDefault(&c.Concurrency, 1)
	setDefault(&c.Prefetch, max(64, 2*c.Concurrency))
	setDefault(&c.Retry.Attempts, 3)
	setDefault(&c.Retry.Min, 100*time.Millisecond)
	setDefault(&c.Retry.Max, max(10*time.Second, c.Retry.Min))
	setDefault(&c.Drain, 30*time.Second)
	return c
}

func (c ConsumerConfig) validate() error {
	var errs []error
	if len(c.Name) > maxProducerName {
		errs = append(errs, fmt.Errorf("client: the consumer's name has %d bytes: at most %d", len(c.Name), maxProducerName))
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("client: Concurrency %d: at least 1", c.Concurrency))
	}
	if c.Prefetch > math.MaxUint16 {
		errs = append(errs, fmt.Errorf("client: Prefetch %d: at most %d", c.Prefetch, math.MaxUint16))
	}
	if c.Retry.Attempts < 1 || c.Retry.Min < 0 || c.Retry.Max < c.Retry.Min {
		errs = append(errs, fmt.Errorf("client: Retry %+v: at least 1 attempt, and Min at most Max", c.Retry))
	}
	if c.Drain < 0 {
		errs = append(errs, fmt.Errorf("client: Drain %v: not below 0", c.Drain))
	}
	return errors.Join(errs...)
}

// consumer takes a queue's deliveries over one connection after another, in the
// goroutine of its user.
type consumer struct {
	client *Client
	config ConsumerConfig
	queue  string
	tag    string
	logger *slog.Logger
	// current is the newest subscription; nil before the first.
	current *subscription
}

func (c *Client) newConsumer(queue string, config ConsumerConfig) (*consumer, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &consumer{
		client: c, config: config, queue: queue, tag: config.Name + "-" + rand.Text(),
		logger: c.config.Logger.With("queue", queue),
	}, nil
}

func (k *consumer) arguments() amqp.Table {
	if k.config.Priority == 0 {
		return k.config.Arguments
	}
	arguments := amqp.Table{"x-priority": int64(k.config.Priority)}
	for name, value := range k.config.Arguments {
		arguments[name] = value
	}
	return arguments
}

// enter counts a consumer in, for Close to wait for, and has it end with the
// client.
func (c *Client) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, nil, ErrClosed
	}
	c.users.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.running, cancel)
	return ctx, func() {
		stop()
		cancel()
		c.users.Done()
	}, nil
}

// Deliveries returns a queue's deliveries, over any number of connections, until
// ctx ends or the loop does. The loop's body settles each delivery, or has it
// settled before the loop ends: what is not goes back to the queue then.
//
//	for d, err := range c.Deliveries(ctx, "orders", client.ConsumerConfig{}) {
//		if err != nil {
//			return err
//		}
//		…
//		err = d.Ack()
//	}
//
// The only error is the last one: the queue is gone, the broker refuses the
// consumer, or the client is closed. A Concurrency has no effect here.
func (c *Client) Deliveries(ctx context.Context, queue string, config ConsumerConfig) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		k, err := c.newConsumer(queue, config)
		if err != nil {
			yield(nil, err)
			return
		}
		ctx, leave, err := c.enter(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer leave()
		more := true
		defer k.close() // Also when the loop's body panics.
		err = k.each(ctx, func(d *Delivery) bool {
			more = yield(d, nil)
			return more
		})
		if err != nil && more {
			yield(nil, err)
		}
	}
}

// each calls yield with each delivery until ctx ends or yield returns false
// (nil), the queue is empty where that is the end (nil), or it can't be consumed
// any more. Deliveries can be settled until close.
func (k *consumer) each(ctx context.Context, yield func(*Delivery) bool) error {
	for {
		s, err := k.attach(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if k.current != nil {
			k.current.close()
		}
		k.current = s
		if ended, err := k.pump(ctx, s, yield); ended || err != nil {
			return err
		}
	}
}

// close ends the current subscription: what was not settled goes back.
func (k *consumer) close() {
	if k.current != nil {
		k.current.close()
	}
}

// pump hands over the deliveries of one subscription. It reports whether that
// was the consumer's end, and not only the subscription's.
func (k *consumer) pump(ctx context.Context, s *subscription, yield func(*Delivery) bool) (ended bool, err error) {
	var idle <-chan time.Time
	if k.config.UntilEmpty {
		ticker := time.NewTicker(idleTime)
		defer ticker.Stop()
		idle = ticker.C
	}
	quiet := true
	for {
		select {
		case <-ctx.Done():
			s.cancel()
			return true, nil
		case d, ok := <-s.deliveries:
			if !ok {
				k.logger.Debug("subscription ended", "reason", s.why())
				return false, nil
			}
			quiet = false
			if !yield(s.delivery(&d)) {
				s.cancel()
				return true, nil
			}
		case <-idle:
			if !quiet {
				quiet = true
				continue
			}
			if empty, err := s.empty(); err != nil || !empty {
				continue // An error has closed the channel, and deliveries with it.
			}
			// What is on its way comes before the answer.
			s.cancel()
			for d := range s.deliveries {
				if !yield(s.delivery(&d)) {
					break
				}
			}
			return true, nil
		}
	}
}

// why is why the channel was closed; nil where the broker cancelled the consumer.
func (s *subscription) why() error {
	select {
	case err := <-s.closed:
		if err != nil {
			return err
		}
	default:
	}
	return nil
}

// attach subscribes over the current connection, as often as it takes.
func (k *consumer) attach(ctx context.Context) (*subscription, error) {
	pauses := backoff{least: k.client.config.MinBackoff, most: k.client.config.MaxBackoff}
	var refused time.Time
	for {
		conn, err := k.client.consuming.session(ctx)
		if err != nil {
			return nil, err
		}
		s, err := k.subscribe(ctx, conn)
		if err == nil {
			return s, nil
		}
		if isRefusal(err) {
			if refused.IsZero() {
				refused = time.Now()
			}
			mine := k.client.declared.of(k.queue)
			if k.current == nil || time.Since(refused) > refusedFor || replyCode(err) == amqp.NotFound && len(mine) == 0 {
				return nil, err
			}
			// A queue that went with its connection is made again.
			if err := restore(ctx, conn, mine, k.logger); err != nil {
				k.logger.Debug("declare again", "reason", err)
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pause := pauses.pause()
		k.logger.Debug("no consumer yet", "pause", pause, "reason", err)
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}
