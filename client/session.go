package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// closeTimeout is how long a broker may take to answer the end of a connection.
const closeTimeout = 3 * time.Second

// errLost stands for the end of a connection that nobody gave a reason for.
var errLost = errors.New("client: connection lost")

// session is one connection to one broker, from the handshake to its end.
type session struct {
	conn *amqp.Connection
	from endpoint
	done chan struct{} // closed when the connection is gone
	err  error         // why; set before done is closed

	mu struct {
		sync.Mutex
		free   chan struct{} // closed while the broker takes messages
		reason string        // why it does not
	}
}

// openSession connects to a broker. tell is called with the end of a block and
// its beginning. The session's goroutine ends with the connection.
func openSession(ctx context.Context, c *Config, to endpoint, role Role, tell func(State, error)) (*session, error) {
	conn, err := dial(ctx, c, to, role)
	if err != nil {
		return nil, &ConnectError{to.address, to.user, to.vhost, err}
	}
	s := &session{conn: conn, from: to, done: make(chan struct{})}
	s.mu.free = make(chan struct{})
	close(s.mu.free)
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	go s.watch(closed, blocked, tell)
	return s, nil
}

// dial opens an AMQP connection within ctx and the configured time.
func dial(ctx context.Context, c *Config, to endpoint, role Role) (*amqp.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	var raw net.Conn
	release := func() bool { return true } // of ctx's hold on raw
	config := amqp.Config{
		SASL: c.SASL, Heartbeat: c.Heartbeat, Properties: amqp.NewConnectionProperties(),
		Dial: func(network, address string) (_ net.Conn, err error) {
			var d net.Dialer
			if raw, err = d.DialContext(ctx, network, address); err != nil {
				return nil, err
			}
			// The library clears the deadline once the connection is open.
			release = context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
			return raw, nil
		},
	}
	if c.TLS != nil {
		config.TLSClientConfig = c.TLS.Clone() // The library sets the server's name in it.
	}
	config.Properties["product"] = "MirrorMQ Go SDK"
	config.Properties.SetClientConnectionName(c.Name + " (" + string(role) + ")")
	conn, err := amqp.DialConfig(to.url, config)
	if !release() {
		err = context.Cause(ctx)
	}
	if err != nil && raw != nil {
		_ = raw.Close() // The library leaves it open where the handshake got stuck.
	}
	return conn, err
}

// watch ends with the connection.
func (s *session) watch(closed <-chan *amqp.Error, blocked <-chan amqp.Blocking, tell func(State, error)) {
	defer close(s.done)
	s.err = errLost
	for {
		select {
		case b, ok := <-blocked:
			if !ok {
				blocked = nil
				continue
			}
			s.block(b)
			if b.Active {
				tell(Blocked, errors.New(b.Reason))
			} else {
				tell(Connected, nil)
			}
		case err := <-closed: // nil where it was closed in order
			if err != nil {
				s.err = err
			}
			return
		}
	}
}

// block notes that the broker takes no messages, or takes them again.
func (s *session) block(b amqp.Blocking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.mu.free:
		if b.Active {
			s.mu.free = make(chan struct{})
		}
	default:
		if !b.Active {
			close(s.mu.free)
		}
	}
	s.mu.reason = b.Reason
}

// free returns a channel that is closed while the broker takes messages.
func (s *session) free() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.free
}

// blockedFor is why the broker takes no messages, "" where it does.
func (s *session) blockedFor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.mu.free:
		return ""
	default:
		return s.mu.reason
	}
}

// close ends the connection, and waits for it.
func (s *session) close() {
	_ = s.conn.CloseDeadline(time.Now().Add(closeTimeout)) // What it says no longer matters.
	<-s.done
}
