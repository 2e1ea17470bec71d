package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/client"
)

const (
	defaultURL  = "amqp://guest:guest@127.0.0.1:5672/"
	isItRunning = "is the broker running? start one with: mirrormq serve; or name another with --url"
)

// lastWords is how long a connection may still write after the command was
// interrupted: enough to hand over acks, short enough for a blocked broker.
const lastWords = 5 * time.Second

// amqpFlags are the flags of every command that speaks AMQP.
func amqpFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{
			Name: "url", Aliases: []string{"u"}, EnvVars: []string{"MIRRORMQ_URL"}, Value: defaultURL,
			Usage: "the broker's `URL`; of a comma list, each is tried in turn", DefaultText: defaultURL,
		},
		&cli.DurationFlag{
			Name: "connect-timeout", EnvVars: []string{"MIRRORMQ_CONNECT_TIMEOUT"}, Value: 10 * time.Second,
			Usage: "how long to wait for each broker",
		},
	}, more...)
}

// session is one AMQP connection with one channel.
type session struct {
	*amqp.Channel
	conn    *amqp.Connection
	vhost   string
	release func() bool // of the context's hold on the connection

	raw struct {
		sync.Mutex
		conn net.Conn
	}
}

// connect opens a session with the first broker of --url that takes it.
func connect(c *cli.Context) (*session, error) {
	var errs []error
	for url := range strings.SplitSeq(c.String("url"), ",") {
		s, err := dial(c.Context, strings.TrimSpace(url), c.Duration("connect-timeout"))
		if err == nil {
			return s, nil
		}
		var f *failure
		if c.Context.Err() != nil || errors.As(err, &f) && f.code != exitConnect {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, &failure{exitConnect, errors.Join(errs...), isItRunning}
}

func dial(ctx context.Context, url string, timeout time.Duration) (*session, error) {
	uri, err := amqp.ParseURI(url)
	if err != nil {
		return nil, fail(exitUsage, "URLs look like "+defaultURL, "--url: %w", err)
	}
	address := net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port))
	s := &session{vhost: uri.Vhost}
	host, _ := os.Hostname() // Without it the name is only less telling.
	config := amqp.Config{
		Properties: amqp.NewConnectionProperties(),
		Dial: func(network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: timeout}
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			s.raw.Lock()
			s.raw.conn = conn
			s.raw.Unlock()
			// The library clears it once the connection is open.
			return conn, conn.SetDeadline(time.Now().Add(timeout))
		},
	}
	config.Properties["product"] = "mirrormq"
	config.Properties["version"] = version
	config.Properties.SetClientConnectionName(fmt.Sprintf("mirrormq %d@%s", os.Getpid(), host))
	// Interrupted while the broker doesn't read: end all the same.
	s.release = context.AfterFunc(ctx, func() { s.abort(lastWords) })
	if s.conn, err = amqp.DialConfig(url, config); err == nil {
		s.Channel, err = s.conn.Channel()
	}
	if err != nil {
		s.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, dialError(address, uri, err)
	}
	return s, nil
}

// dialError tells a broker that says no from one that isn't there.
func dialError(address string, uri amqp.URI, err error) error {
	var reply *amqp.Error
	if !errors.As(err, &reply) {
		return fail(exitConnect, "", "cannot connect to %s: %w", address, err)
	}
	switch {
	case reply.Code == amqp.AccessRefused:
		return fail(exitRefused, "check user and password in --url; guest may log in from the broker's own machine only",
			"%s refused the login of user %q", address, uri.Username)
	case reply.Code == amqp.NotAllowed, errors.Is(err, amqp.ErrVhost):
		return fail(exitRefused, "the vhost is the path of --url, / written as %2f", "%s refused vhost %q: %s", address, uri.Vhost, reply.Reason)
	}
	return fail(exitConnect, "", "cannot connect to %s: %w", address, err)
}

// abort ends every write that still waits after d, whatever the broker does.
func (s *session) abort(d time.Duration) {
	s.raw.Lock()
	defer s.raw.Unlock()
	if s.raw.conn != nil {
		_ = s.raw.conn.SetWriteDeadline(time.Now().Add(d)) // Fails only if closed.
	}
}

// close closes the connection within lastWords, and waits for it.
func (s *session) close() {
	if s.conn != nil {
		_ = s.conn.CloseDeadline(time.Now().Add(lastWords)) // What it says no longer matters.
	}
	s.release()
}

// withSession runs fn with a session that is closed afterwards.
func withSession(c *cli.Context, fn func(*session) error) error {
	s, err := connect(c)
	if err != nil {
		return err
	}
	defer s.close()
	return fn(s)
}

// withClient runs fn with a client of the SDK, which goes on with another broker
// of --url when its own is lost, and tells of that on standard error. Of its
// connections the one with the role is spoken of. The client is closed afterwards.
func withClient(c *cli.Context, role client.Role, fn func(*client.Client) error) error {
	host, _ := os.Hostname() // Without it the name is only less telling.
	connected, err := client.Dial(c.Context, c.String("url"), client.Config{
		Name: fmt.Sprintf("mirrormq %d@%s", os.Getpid(), host), DialTimeout: c.Duration("connect-timeout"), InOrder: true,
	})
	if err != nil {
		return connectError(c.Context, err)
	}
	var told sync.WaitGroup
	states := connected.Watch()
	told.Go(func() { tellStates(c.App.ErrWriter, role, states) })
	err = fn(connected)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), lastWords)
	defer cancel()
	if c.Context.Err() != nil || err != nil {
		cancel() // What was to be waited for has been.
	}
	if closing := connected.Close(ctx); err == nil && c.Context.Err() == nil {
		err = closing
	}
	told.Wait()
	return err
}

// tellStates tells of what a user should know at once, until the client is
// closed.
func tellStates(w io.Writer, role client.Role, states <-chan client.Status) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	last := client.Connected
	for s := range states {
		if s.Role != role || s.State == client.Closed {
			continue
		}
		switch {
		case s.State == client.Connecting && last != client.Connecting:
			say("lost the connection to %s (%v); trying again", s.Broker, s.Reason)
		case s.State == client.Connected && last == client.Connecting:
			say("connected to %s", s.Broker)
		case s.State == client.Blocked:
			say("the broker blocks publishers: %v", s.Reason)
		case s.State == client.Connected && last == client.Blocked:
			say("the broker takes messages again")
		}
		last = s.State
	}
}

// connectError gives the SDK's error of a first connection its exit code.
func connectError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var errs []error
	for _, err := range unjoin(err) {
		var refused *client.ConnectError
		if !errors.As(err, &refused) {
			return fail(exitUsage, "URLs look like "+defaultURL, "--url: %w", err)
		}
		err = dialError(refused.Broker, amqp.URI{Username: refused.User, Vhost: refused.Vhost}, refused.Err)
		var f *failure
		if errors.As(err, &f) && f.code != exitConnect {
			return err
		}
		errs = append(errs, err)
	}
	return &failure{exitConnect, errors.Join(errs...), isItRunning}
}

// unjoin returns the errors that errors.Join has joined.
func unjoin(err error) []error {
	if joined, is := err.(interface{ Unwrap() []error }); is {
		return joined.Unwrap()
	}
	return []error{err}
}
