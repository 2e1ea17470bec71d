package testcluster

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// session is a test's own channel beside the clients of the load.
type session struct {
	*amqp.Channel
	// blocked is what connection.blocked and unblocked said.
	blocked chan amqp.Blocking
}

// session connects to a broker. The channel confirms.
func (r *run) session(b *Broker) *session {
	r.t.Helper()
	connection, err := amqp.Dial(b.URL())
	r.must(err)
	r.t.Cleanup(func() { connection.Close() })
	channel, err := connection.Channel()
	r.must(err)
	r.must(channel.Confirm(false))
	return &session{channel, connection.NotifyBlocked(make(chan amqp.Blocking, 8))}
}

// publish publishes messages and waits for their confirms.
func (r *run) publish(s *session, queue string, bodies ...[]byte) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, recoverTime)
	defer cancel()
	var confirms []*amqp.DeferredConfirmation
	for _, body := range bodies {
		confirm, err := s.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
		r.must(err)
		confirms = append(confirms, confirm)
	}
	for _, confirm := range confirms {
		ack, err := confirm.WaitContext(ctx)
		r.must(err)
		if !ack {
			r.fail(errors.New("a message was nacked"))
		}
	}
}

// told waits for the next connection.blocked or unblocked.
func (r *run) told(s *session) amqp.Blocking {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, recoverTime)
	defer cancel()
	select {
	case told, ok := <-s.blocked:
		if ok {
			return told
		}
		r.fail(errors.New("the connection is closed"))
	case <-ctx.Done():
		r.fail(errors.New("the client is not told whether it is blocked"))
	}
	return amqp.Blocking{}
}

// drained waits until a broker says that a queue is empty.
func (r *run) drained(b *Broker, queue string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s is empty", queue), func() bool {
		q, err := b.queue(r.ctx, queue)
		return err == nil && q.Messages == 0
	})
}

// until waits until something is so.
func (r *run) until(what string, is func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeoutCause(r.ctx, recoverTime, fmt.Errorf("not within %v: %s", recoverTime, what))
	defer cancel()
	for !is() {
		r.must(pause(ctx, poll))
	}
}
