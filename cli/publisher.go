package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/mirrormq/mirrormq/client"
)

// maxWindow is the largest window of the SDK.
const maxWindow = 4000

// publisher sends messages with at most window of them unconfirmed.
//
// Two goroutines: run publishes; settle waits for the confirms in order. An
// error that ends all cancels the sending.
type publisher struct {
	exchange, key string
	template      client.Message
	confirm       bool
	window        int
	rate          float64       // messages a second; 0 is as fast as it goes
	timeout       time.Duration // without a confirm; 0 is forever

	sent    atomic.Int64
	settled atomic.Int64 // acked or nacked
	nacked  atomic.Int64

	returns struct { // owned by settle until it is joined
		count int64
		first *client.UnroutableError
	}
}

// run publishes every body and waits for all confirms. After a cancelled ctx it
// still waits for the confirms of what it has sent, briefly.
func (p *publisher) run(ctx context.Context, c *client.Client, bodies *bodies) error {
	config := client.ProducerConfig{Name: "mirrormq-publish", Window: min(p.window, maxWindow), Timeout: p.timeout}
	if p.timeout == 0 {
		config.Timeout = -1
	}
	producer, err := c.NewProducer(ctx, config)
	if err != nil {
		return err
	}
	// Only the publishing side ends at once; settle drains what was sent.
	sending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pending := make(chan client.Confirmation, config.Window)
	settled := make(chan error, 1)
	go func() {
		err := p.settle(ctx, pending)
		if err != nil {
			cancel(err)
		}
		settled <- err
	}()
	sendErr := p.send(sending, producer, bodies, pending)
	close(pending)
	return p.outcome(<-settled, sendErr)
}

// send publishes until the bodies end.
func (p *publisher) send(ctx context.Context, producer *client.Producer, bodies *bodies, pending chan<- client.Confirmation) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if p.rate > 0 {
		limit = rate.NewLimiter(rate.Limit(p.rate), max(1, int(p.rate/100)))
	}
	for {
		body, err := bodies.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		m := p.template
		m.Exchange, m.RoutingKey, m.Body, m.Timestamp = p.exchange, p.key, body, time.Now()
		confirmation, err := producer.PublishAsync(ctx, m)
		if err != nil {
			return err
		}
		p.sent.Add(1)
		select {
		case pending <- confirmation:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle waits for the confirm of each message, in the order they were sent. That
// one was nacked or came back counts; it is no error until the end.
func (p *publisher) settle(ctx context.Context, pending <-chan client.Confirmation) error {
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })()
	for confirmation := range pending {
		err := confirmation.Wait(waiting)
		var returned *client.UnroutableError
		switch {
		case err == nil:
		case errors.As(err, &returned):
			if p.returns.count++; p.returns.count == 1 {
				p.returns.first = returned
			}
		case errors.Is(err, client.ErrNacked):
			p.nacked.Add(1)
		case errors.Is(err, client.ErrTimeout):
			return fail(exitTimeout, "the broker is overloaded, blocked by an alarm, or has lost its majority: see mirrormq status",
				"no confirm for %v", p.timeout)
		default:
			return err
		}
		p.settled.Add(1)
	}
	return nil
}

// outcome is the error that tells most: what ended the waiting for confirms, then
// what became of the messages, then what ended the sending.
func (p *publisher) outcome(settling, sending error) error {
	tell := func(err error) error {
		f := classify(err)
		if p.confirm {
			return &failure{f.code, fmt.Errorf("%w; %s of %s confirmed", f.err, thousands(p.acked()), plural(p.sent.Load(), "message")), f.hint}
		}
		return f
	}
	if settling != nil {
		return tell(settling)
	}
	if p.returns.count > 0 {
		r := p.returns.first
		hint := "bind a queue: mirrormq bind " + shellWord(r.Exchange) + " QUEUE --routing-key " + shellWord(r.RoutingKey)
		if r.Exchange == "" {
			hint = "declare the queue: mirrormq declare queue " + shellWord(r.RoutingKey) + ", or publish with --declare"
		}
		return fail(exitUndelivered, hint, "%s of %s came back unroutable (%d %s): exchange %q, routing key %q",
			thousands(p.returns.count), plural(p.sent.Load(), "message"), r.Code, r.Text, r.Exchange, r.RoutingKey)
	}
	if sending != nil {
		return tell(sending)
	}
	if n := p.nacked.Load(); n > 0 && p.confirm {
		return fail(exitUndelivered, "the queue is full (reject-publish) or its group has no majority: see mirrormq status",
			"%s of %s nacked", thousands(n), plural(p.sent.Load(), "message"))
	}
	return nil
}

func (p *publisher) acked() int64 { return p.settled.Load() - p.nacked.Load() }

// summarize tells what was done.
func (p *publisher) summarize(w io.Writer, took time.Duration) {
	n := p.sent.Load()
	text := fmt.Sprintf("%s published", plural(n, "message"))
	if p.confirm {
		text += fmt.Sprintf(", %s confirmed", thousands(p.acked()))
	}
	if p.returns.count > 0 {
		text += fmt.Sprintf(", %s returned", thousands(p.returns.count))
	}
	if n > 1 {
		text += fmt.Sprintf(" in %v (%s)", took.Round(time.Millisecond), perSecond(n, took))
	}
	_, _ = fmt.Fprintln(w, text)
}
