package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/time/rate"
)

// publisher sends messages with at most window of them unconfirmed.
//
// Three goroutines: run publishes; settle waits for the confirms in order;
// collect takes what is returned. The first error cancels the others.
type publisher struct {
	exchange, key      string
	template           amqp.Publishing
	mandatory, confirm bool
	window             int
	rate               float64       // messages a second; 0 is as fast as it goes
	timeout            time.Duration // without a confirm; 0 is forever
	warn               io.Writer     // for what the user should know at once

	sent    atomic.Int64
	settled atomic.Int64 // acked or nacked
	nacked  atomic.Int64

	returns struct { // owned by collect until it is joined
		count int64
		first amqp.Return
	}
}

// run publishes every body and waits for all confirms and returns. After a
// cancelled ctx it still waits for the confirms of what it has sent, briefly.
func (p *publisher) run(ctx context.Context, s *session, bodies *bodies) error {
	closed := s.NotifyClose(make(chan *amqp.Error, 1))
	if p.confirm {
		if err := s.Confirm(false); err != nil {
			return err
		}
	}
	var done sync.WaitGroup
	returns := s.NotifyReturn(make(chan amqp.Return, 64))
	done.Go(func() { p.collect(returns) })
	blocked := s.conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	done.Go(func() { p.report(blocked) })

	// Only the publishing side ends at once; settle drains what was sent.
	sending, cancel := context.WithCancelCause(ctx)
	pending := make(chan *amqp.DeferredConfirmation, p.window)
	settled := make(chan error, 1)
	go func() {
		err := p.settle(ctx, pending)
		if err != nil {
			cancel(err)
			s.abort(0) // A write that the broker doesn't read must not wait longer.
		}
		settled <- err
	}()
	sendErr := p.send(sending, s, bodies, pending)
	close(pending)
	settleErr := <-settled
	cancel(nil)

	// A call as barrier: what was returned has come before its answer. Closing
	// the connection ends collect and report.
	if sendErr == nil && settleErr == nil {
		sendErr = s.Qos(0, 0, false)
	}
	why := reason(closed, nil)
	s.close()
	done.Wait()
	return p.outcome(why, settleErr, sendErr)
}

// send publishes until the bodies end. A slot in pending is a place in the
// window.
func (p *publisher) send(ctx context.Context, s *session, bodies *bodies, pending chan<- *amqp.DeferredConfirmation) error {
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
		m.Body, m.Timestamp = body, time.Now()
		confirmation, err := s.PublishWithDeferredConfirm(p.exchange, p.key, p.mandatory, false, m)
		if err != nil {
			return err
		}
		p.sent.Add(1)
		if !p.confirm {
			continue
		}
		select {
		case pending <- confirmation:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle waits for the confirm of each message, in the order they were sent.
// A nack counts; it is no error until the end.
func (p *publisher) settle(ctx context.Context, pending <-chan *amqp.DeferredConfirmation) error {
	timer := newTimer(p.timeout)
	defer timer.stop()
	interrupted := ctx.Done()
	for confirmation := range pending {
		timer.reset(p.timeout)
	wait:
		for {
			select {
			case <-confirmation.Done():
				break wait
			case <-interrupted:
				interrupted = nil
				timer.reset(lastWords)
			case <-timer.expired():
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fail(exitTimeout, "the broker is overloaded, blocked by an alarm, or has lost its majority: see mirrormq status",
					"no confirm for %v", p.timeout)
			}
		}
		if !confirmation.Acked() {
			p.nacked.Add(1)
		}
		p.settled.Add(1)
	}
	return nil
}

// collect takes returned messages until the channel is closed.
func (p *publisher) collect(returns <-chan amqp.Return) {
	for r := range returns {
		if p.returns.count++; p.returns.count == 1 {
			p.returns.first = r
		}
	}
}

// report tells when the broker blocks publishers, until the connection closes.
func (p *publisher) report(blocked <-chan amqp.Blocking) {
	for b := range blocked {
		if b.Active {
			_, _ = fmt.Fprintf(p.warn, "the broker blocks publishers: %s\n", b.Reason)
		} else {
			_, _ = fmt.Fprintln(p.warn, "the broker takes messages again")
		}
	}
}

// outcome is the error that tells most: why the broker closed the channel,
// then what became of the messages, then what ended the sending.
func (p *publisher) outcome(closed, settling, sending error) error {
	unconfirmed := ""
	if p.confirm {
		unconfirmed = fmt.Sprintf("; %s of %s confirmed", thousands(p.acked()), plural(p.sent.Load(), "message"))
	}
	if closed != nil {
		f := classify(closed)
		return &failure{f.code, fmt.Errorf("%w%s", f.err, unconfirmed), f.hint}
	}
	if p.returns.count > 0 {
		r := p.returns.first
		hint := "bind a queue: mirrormq bind " + shellWord(r.Exchange) + " QUEUE --routing-key " + shellWord(r.RoutingKey)
		if r.Exchange == "" {
			hint = "declare the queue: mirrormq declare queue " + shellWord(r.RoutingKey) + ", or publish with --declare"
		}
		return fail(exitUndelivered, hint, "%s of %s came back unroutable (%d %s): exchange %q, routing key %q",
			thousands(p.returns.count), plural(p.sent.Load(), "message"), r.ReplyCode, r.ReplyText, r.Exchange, r.RoutingKey)
	}
	for _, err := range []error{settling, sending} {
		if err != nil {
			f := classify(err)
			return &failure{f.code, fmt.Errorf("%w%s", f.err, unconfirmed), f.hint}
		}
	}
	if n := p.nacked.Load(); n > 0 {
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
