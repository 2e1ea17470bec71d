package client

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	// ErrClosed is returned by calls on a client or a producer that was closed.
	ErrClosed = errors.New("client: closed")
	// ErrNacked is returned for a message that the broker would not confirm
	// (basic.nack): its queue is full, or its copies could not be reached for too
	// long. In the second case it may be in its queue, as after ErrUnconfirmed:
	// publishing it again may double it.
	ErrNacked = errors.New("client: nacked by the broker")
	// ErrTimeout is returned for a message that was not confirmed within
	// [ProducerConfig].Timeout. It is wrapped together with ErrNotSent or
	// ErrUnconfirmed.
	ErrTimeout = errors.New("client: not confirmed in time")
	// ErrNotSent says that a message was not sent before its context or its time
	// ended: it is in no queue.
	ErrNotSent = errors.New("client: not sent")
	// ErrUnconfirmed says that a message was sent and its context or its time
	// ended before the confirm: it may be in its queue or not.
	ErrUnconfirmed = errors.New("client: sent, but not confirmed")
	// ErrStale is returned for settling a delivery whose connection is gone: the
	// broker delivers the message again.
	ErrStale = errors.New("client: the delivery's connection is gone")
	// ErrSettled is returned for settling a delivery twice.
	ErrSettled = errors.New("client: delivery is settled already")
	// ErrAbandoned is returned by Consume when a handler did not return within
	// [ConsumerConfig].Drain after the consumer's end. Its message goes back to
	// the queue.
	ErrAbandoned = errors.New("client: handler outlived its consumer")
)

// BrokerError is an error that a broker answered with: its reply code and text
// as AMQP has them, 404 NOT_FOUND for one. errors.As finds a *BrokerError in
// what this package returns.
type BrokerError = amqp.Error

// UnroutableError is returned for a message that no queue took.
type UnroutableError struct {
	Code                 int    // AMQP's reply code, 312
	Text                 string // AMQP's reply text, NO_ROUTE
	Exchange, RoutingKey string
}

func (e *UnroutableError) Error() string {
	return fmt.Sprintf("client: unroutable (%d %s): exchange %q, routing key %q", e.Code, e.Text, e.Exchange, e.RoutingKey)
}

// BatchError is returned by PublishBatch when some messages were not confirmed.
type BatchError struct {
	// Errors has an entry for each message, nil for a confirmed one.
	Errors []error
	failed int
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("client: %d of %d messages not confirmed, the first because: %v", e.failed, len(e.Errors), e.Unwrap()[0])
}

// Unwrap returns the errors of the messages that were not confirmed.
func (e *BatchError) Unwrap() []error {
	failed := make([]error, 0, e.failed)
	for _, err := range e.Errors {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// PanicError is what a handler's panic is turned into.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("client: handler panicked: %v", e.Value) }

// rejection is an error after which a delivery is not tried again.
type rejection struct{ err error }

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// Reject wraps a handler's error so that its delivery is not tried again but
// rejected at once: dead-lettered where its queue has a dead-letter exchange,
// else dropped. It returns nil for nil.
func Reject(err error) error {
	if err == nil {
		return nil
	}
	return &rejection{err}
}

// isRefusal reports whether a broker closed a channel or a connection because
// of what it was sent, not because it stops (320, 541).
func isRefusal(err error) bool {
	var reply *BrokerError
	return errors.As(err, &reply) && reply.Server && reply.Code != amqp.ConnectionForced && reply.Code != amqp.InternalError
}

// replyCode is the AMQP reply code of an error of the broker's, or 0.
func replyCode(err error) int {
	var reply *BrokerError
	if errors.As(err, &reply) && reply.Server {
		return reply.Code
	}
	return 0
}

// ConnectError is why one broker could not be connected to. Dial's error holds
// one for each broker that was tried.
type ConnectError struct {
	Broker, User, Vhost string
	Err                 error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("client: connect to %s as %q, vhost %q: %v", e.Broker, e.User, e.Vhost, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }
