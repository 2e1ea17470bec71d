package testcluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	dialTime = 3 * time.Second
	// redial is how long a client waits after a connection failed.
	redial = 20 * time.Millisecond
	// clientHeartbeat is longer than any pause: a client whose broker is
	// paused keeps its connection, and hears what comes late.
	clientHeartbeat = 2 * time.Minute
	prefetch        = 100
	// heldBack and ackPause: a consumer acks some messages later, so that there
	// always are some that it holds.
	heldBack = 8
	ackPause = 20 * time.Millisecond
)

// client is what publishers and consumers have in common: they keep a
// connection to their broker for as long as they run.
type client struct {
	load   *Load
	broker *Broker
	meter  *meter
	random *rand.Rand
	// refused is the last reason why the queue could not be declared.
	refused string
}

// run makes connections, one after the other, and hands them to session.
func (c *client) run(ctx context.Context, session func(context.Context, *amqp.Connection, *amqp.Channel, int32) error) {
	for ctx.Err() == nil {
		c.connect(ctx, session)
		if pause(ctx, redial) != nil {
			return
		}
	}
}

func (c *client) connect(ctx context.Context, session func(context.Context, *amqp.Connection, *amqp.Channel, int32) error) {
	connection, err := amqp.DialConfig(c.broker.URL(), amqp.Config{Heartbeat: clientHeartbeat, Dial: amqp.DefaultDial(dialTime)})
	if err != nil {
		return
	}
	hangUp := context.AfterFunc(ctx, func() { _ = connection.CloseDeadline(time.Now().Add(time.Second)) })
	defer func() {
		if hangUp() {
			_ = connection.CloseDeadline(time.Now().Add(time.Second)) // It may be broken already.
		}
	}()
	channel, err := connection.Channel()
	if err != nil {
		return
	}
	if _, err := channel.QueueDeclare(c.load.config.Queue, true, false, false, false, c.load.config.Arguments); err != nil {
		if why := err.Error(); why != c.refused {
			c.refused = why
			c.load.cluster.Timeline.Note("a client can't declare on %s: %v", c.broker.Name, err)
		}
		return
	}
	number := c.load.cluster.Ledger.connected(c.broker.index)
	err = session(ctx, connection, channel, number)
	if ctx.Err() == nil && err != nil {
		c.load.cluster.Timeline.Note("a client lost %s: %v", c.broker.Name, err)
		c.load.cluster.Ledger.disconnected(number)
	}
}

var errClosed = errors.New("connection is closed")

// publisher publishes at a rate with a window of unconfirmed messages.
type publisher struct {
	client
	number int
	// quiet is closed when it is to publish no more, and only waits for
	// confirms.
	quiet <-chan struct{}
}

func (p *publisher) session(ctx context.Context, connection *amqp.Connection, channel *amqp.Channel, number int32) error {
	if err := channel.Confirm(false); err != nil {
		return err
	}
	config := p.load.config
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, config.Window))
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	interval := time.Second / time.Duration(config.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var window []message // unconfirmed ones, by tag
	due := time.Now()
	quiet := p.quiet
	for {
		tick := timer.C
		if len(window) >= config.Window || quiet == nil {
			tick = nil
		}
		select {
		case <-tick:
			m := p.load.cluster.Ledger.publish(p.number, number)
			window = append(window, m)
			size := bodyHead + p.random.IntN(max(2*config.Size-bodyHead, 1))
			err := channel.PublishWithContext(ctx, "", config.Queue, false, false,
				amqp.Publishing{DeliveryMode: amqp.Persistent, Body: m.encode(size)})
			if err != nil {
				return p.drain(confirms, window, err)
			}
			// What a stand-still held up is not caught up on: the rate is a
			// rate, not a debt.
			if due = due.Add(interval); time.Since(due) > 10*interval {
				due = time.Now()
			}
			timer.Reset(time.Until(due))
		case c, ok := <-confirms:
			if !ok {
				return errClosed
			}
			window = p.take(window, c)
		case reason := <-closed:
			return p.drain(confirms, window, closeError(reason))
		case <-quiet:
			quiet = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func closeError(reason *amqp.Error) error {
	if reason == nil {
		return errClosed
	}
	return reason
}

// take enters a confirm. The client library gives them in the order of tags.
func (p *publisher) take(window []message, c amqp.Confirmation) []message {
	p.load.cluster.Ledger.confirm(window[0], c.Ack)
	if c.Ack {
		p.meter.event()
	}
	return window[1:]
}

// drain takes the confirms that came before the connection closed.
func (p *publisher) drain(confirms <-chan amqp.Confirmation, window []message, reason error) error {
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	for {
		select {
		case c, ok := <-confirms:
			if !ok {
				return reason
			}
			window = p.take(window, c)
		case <-timeout.C:
			return reason
		}
	}
}

// consumer acks half of what it gets at once and the rest a bit later.
type consumer struct{ client }

func (c *consumer) session(ctx context.Context, _ *amqp.Connection, channel *amqp.Channel, number int32) error {
	if err := channel.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, c.load.config.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var held []amqp.Delivery
	late := time.NewTicker(ackPause)
	defer late.Stop()
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return errClosed
			}
			c.meter.event()
			c.load.cluster.Ledger.deliver(number, d.Body, d.Redelivered)
			if c.random.IntN(2) == 0 {
				held = append(held, d)
				if len(held) < heldBack {
					continue
				}
				d, held = held[0], held[1:]
			}
			if err := d.Ack(false); err != nil {
				return err
			}
		case <-late.C:
			for _, d := range held {
				if err := d.Ack(false); err != nil {
					return err
				}
			}
			held = held[:0]
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
