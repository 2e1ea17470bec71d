package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/client"
)

// Exit codes. They are documented in `mirrormq --help` and kept stable:
// scripts depend on them.
const (
	exitOK          = 0
	exitFailure     = 1   // anything that has no code of its own
	exitUsage       = 2   // wrong flags, arguments or configuration
	exitConnect     = 3   // no broker can be reached, or the connection broke
	exitNotFound    = 4   // no such queue, exchange, vhost or file
	exitUndelivered = 5   // messages were returned as unroutable, or nacked
	exitTimeout     = 6   // the time given by --timeout is over
	exitEmpty       = 7   // get: the queue holds no message
	exitRefused     = 8   // the broker refused: login, permission, lock, other properties
	exitDamaged     = 9   // serve, log verify: a log is damaged
	exitInterrupted = 130 // ended by a signal before it was done
)

const exitCodesHelp = `Exit codes:
   0 done                       5 messages unroutable or nacked
   1 failed                     6 timed out
   2 wrong usage                7 the queue is empty (get)
   3 cannot connect             8 refused by the broker
   4 not found                  9 log damaged
   130 interrupted`

// failure is an error with the exit code it leads to and, where there is
// something to be done about it, a hint.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail makes a failure with a hint; hint may be empty.
func fail(code int, hint, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...), hint}
}

func usage(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...), ""}
}

// classify finds the exit code and hint for any error.
func classify(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var refused *amqp.Error
	if errors.As(err, &refused) {
		return classifyReply(refused, err)
	}
	var network net.Error
	var unreachable *client.ConnectError
	switch {
	case errors.As(err, &unreachable):
		return &failure{exitConnect, err, isItRunning}
	case errors.Is(err, context.Canceled):
		return &failure{exitInterrupted, errors.New("interrupted"), ""}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{exitTimeout, err, ""}
	case errors.As(err, &network), errors.Is(err, io.EOF):
		return &failure{exitConnect, fmt.Errorf("the connection broke: %w", err), ""}
	}
	return &failure{exitFailure, err, ""}
}

// classifyReply reads the reply code of an AMQP exception.
func classifyReply(reply *amqp.Error, err error) *failure {
	f := &failure{code: exitFailure, err: err}
	if reply.Server || reply.Code != 0 {
		f.err = errors.New(strings.TrimSpace(reply.Reason))
	}
	switch reply.Code {
	case amqp.NotFound:
		f.code = exitNotFound
		if strings.Contains(reply.Reason, "no exchange") {
			f.hint = "declare it first: mirrormq declare exchange NAME --type direct|fanout|topic|headers"
		} else if strings.Contains(reply.Reason, "no queue") {
			f.hint = "declare it first: mirrormq declare queue NAME"
		}
	case amqp.AccessRefused:
		f.code = exitRefused
	case amqp.ResourceLocked:
		f.code = exitRefused
		f.hint = "the queue is exclusive to another connection; it goes away with that connection"
	case amqp.PreconditionFailed:
		f.code = exitRefused
		if strings.Contains(reply.Reason, "inequivalent arg") {
			f.hint = "it exists with other properties: declare it with the same, or delete it first"
		}
	case amqp.NotAllowed:
		f.code = exitRefused
	case amqp.ConnectionForced:
		f.code = exitConnect
		f.hint = "the broker is shutting down, or an operator closed this connection; try again"
	case amqp.ChannelError, amqp.FrameError, amqp.InternalError:
		if errors.Is(err, amqp.ErrClosed) {
			f.code, f.err = exitConnect, errors.New("the connection is closed")
		}
	}
	return f
}
