package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// link keeps one connection of a client's: when it breaks, to another broker.
//
// One goroutine, run, makes and watches connections; users take the current one
// from session and see by its done when it is gone.
type link struct {
	role      Role
	config    *Config
	logger    *slog.Logger
	endpoints *endpoints
	// prepare makes a new connection ready for use: it declares again what the
	// client had declared.
	prepare func(context.Context, *session) error
	tell    func(Status)
	counts  *counters

	stop    context.CancelFunc
	stopped chan struct{}

	mu struct {
		sync.Mutex
		current *session
		changed chan struct{} // closed when current or closed changes
		closed  bool
	}
}

// open makes the first connection, from one round over the brokers, and has the
// link keep it until close.
func (l *link) open(ctx context.Context) error {
	l.mu.changed = make(chan struct{})
	first, err := l.round(ctx, "")
	if err != nil {
		return err
	}
	l.set(first)
	running, cancel := context.WithCancel(context.Background())
	l.stop, l.stopped = cancel, make(chan struct{})
	go l.run(running, first)
	return nil
}

// close ends the connection and the link, and waits for both.
func (l *link) close() {
	l.stop()
	<-l.stopped
}

// session returns the current connection, once there is one.
func (l *link) session(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		current, changed, closed := l.mu.current, l.mu.changed, l.mu.closed
		l.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		if current != nil {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (l *link) set(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.current = s
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}

// run watches the current connection and replaces it until ctx ends.
func (l *link) run(ctx context.Context, s *session) {
	defer close(l.stopped)
	defer l.end()
	for {
		select {
		case <-s.done:
		case <-ctx.Done():
			s.close()
			return
		}
		l.set(nil)
		l.counts.reconnects.Add(1)
		l.logger.Warn("connection lost", "role", l.role, "broker", s.from.address, "reason", s.err)
		l.tell(Status{l.role, Connecting, s.from.address, s.err})
		var err error
		if s, err = l.reconnect(ctx, s.from.address); err != nil {
			return
		}
		l.set(s)
	}
}

// end tells all who wait that there will be no further connection.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.current, l.mu.closed = nil, true
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}

// reconnect goes round over the brokers until one takes the connection. It
// returns an error only when ctx has ended.
func (l *link) reconnect(ctx context.Context, lost string) (*session, error) {
	pauses := backoff{least: l.config.MinBackoff, most: l.config.MaxBackoff}
	for {
		s, err := l.round(ctx, lost)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		pause := pauses.pause()
		l.logger.Warn("no broker takes the connection", "role", l.role, "pause", pause, "reason", err)
		l.tell(Status{l.role, Connecting, lost, err})
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// round tries each broker once. A login or vhost that one refuses would be
// refused by all.
func (l *link) round(ctx context.Context, lost string) (*session, error) {
	var errs []error
	for _, to := range l.endpoints.round(lost) {
		s, err := l.attempt(ctx, to)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || isRefusal(err) || errors.Is(err, amqp.ErrVhost) || errors.Is(err, amqp.ErrCredentials) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (l *link) attempt(ctx context.Context, to endpoint) (*session, error) {
	s, err := openSession(ctx, l.config, to, l.role, func(state State, reason error) {
		if state == Blocked {
			l.logger.Warn("the broker blocks publishers", "role", l.role, "broker", to.address, "reason", reason)
		} else {
			l.logger.Info("the broker takes messages again", "role", l.role, "broker", to.address)
		}
		l.tell(Status{l.role, state, to.address, reason})
	})
	if err != nil {
		return nil, err
	}
	l.endpoints.learn(to, clusterNodes(s.conn.Properties))
	if err := l.prepare(ctx, s); err != nil {
		s.close()
		return nil, fmt.Errorf("client: prepare the connection to %s: %w", to.address, err)
	}
	l.logger.Info("connected", "role", l.role, "broker", to.address)
	l.tell(Status{l.role, Connected, to.address, nil})
	return s, nil
}

// clusterNodes are the addresses for clients of the brokers of a cluster, as
// MirrorMQ puts them into its server properties. RabbitMQ tells none.
func clusterNodes(properties amqp.Table) []string {
	list, _ := properties["cluster_nodes"].([]any)
	var addresses []string
	for _, node := range list {
		if address, ok := node.(string); ok {
			addresses = append(addresses, address)
		}
	}
	return addresses
}
