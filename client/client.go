package client

import (
	"context"
	"errors"
	"sync"
)

// Client is a producer's and consumer's way to a cluster, or to one broker. It
// is made by Dial and may be used from many goroutines.
type Client struct {
	config    Config
	endpoints *endpoints
	declared  declared
	watchers  watchers
	counts    counters
	consuming *link

	// running ends when the client is closed; users joins its consumers.
	running context.Context
	cancel  context.CancelFunc
	users   sync.WaitGroup

	mu struct {
		sync.Mutex
		publishing *link // nil before the first producer
		producers  map[*Producer]struct{}
		closed     bool
	}
	closing sync.Once
	ended   chan struct{}
}

// Dial connects to the first broker of a comma list of AMQP URLs that takes the
// connection, and returns when it is ready. Each is tried once within ctx; the
// error holds a *ConnectError for each. A login or a vhost that one refuses is
// not tried at another. From then on the client reconnects by itself, until
// Close.
//
// A URL has a broker's user and password; a comma in it is written %2C.
func Dial(ctx context.Context, urls string, config Config) (*Client, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	given, err := parseEndpoints(urls)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, endpoints: newEndpoints(given, config.InOrder), ended: make(chan struct{})}
	c.mu.producers = make(map[*Producer]struct{})
	if c.consuming, err = c.openLink(ctx, Consuming); err != nil {
		return nil, err
	}
	c.running, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

func (c *Client) openLink(ctx context.Context, role Role) (*link, error) {
	l := &link{
		role: role, config: &c.config, logger: c.config.Logger, endpoints: c.endpoints, counts: &c.counts,
		tell: c.watchers.tell,
		prepare: func(ctx context.Context, s *session) error {
			return restore(ctx, s, c.declared.all(role), c.config.Logger)
		},
	}
	return l, l.open(ctx)
}

// publishing returns the connection of producers, and makes it for the first.
func (c *Client) publishing(ctx context.Context) (*link, error) {
	c.mu.Lock()
	l, closed := c.mu.publishing, c.mu.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if l != nil {
		return l, nil
	}
	fresh, err := c.openLink(ctx, Publishing)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	l, closed = c.mu.publishing, c.mu.closed
	if l == nil && !closed {
		c.mu.publishing = fresh
	}
	c.mu.Unlock()
	switch {
	case closed:
		fresh.close()
		return nil, ErrClosed
	case l != nil: // Another producer was faster.
		fresh.close()
		return l, nil
	}
	return fresh, nil
}

// Watch returns a channel that is told of every change of the client's
// connections from now on, and closed with the client. A reader that falls
// behind misses the oldest.
func (c *Client) Watch() <-chan Status { return c.watchers.watch() }

// Stats returns what the client has counted so far.
func (c *Client) Stats() Stats { return c.counts.snapshot() }

// Close ends the client in good order: consumers take nothing more and end when
// their handlers have, producers wait for what is unconfirmed; then the
// connections are closed. When ctx ends before that, the rest is cut short:
// ctx's error is returned, unconfirmed messages fail with ErrClosed and what was
// not acknowledged goes back to its queue. Closing twice does no harm.
func (c *Client) Close(ctx context.Context) error {
	var err error
	c.closing.Do(func() {
		err = c.shutdown(ctx)
		close(c.ended)
	})
	<-c.ended
	return err
}

func (c *Client) shutdown(ctx context.Context) error {
	c.mu.Lock()
	c.mu.closed = true
	publishing := c.mu.publishing
	producers := make([]*Producer, 0, len(c.mu.producers))
	for p := range c.mu.producers {
		producers = append(producers, p)
	}
	c.mu.Unlock()

	// Consumers first: their handlers may still publish.
	c.cancel()
	err := wait(ctx, &c.users)
	for _, p := range producers {
		err = errors.Join(err, p.Close(ctx))
	}
	if publishing != nil {
		publishing.close()
	}
	c.consuming.close()
	for _, p := range producers {
		p.stopped.Wait() // Their connection is gone.
	}
	c.watchers.tell(Status{Role: Consuming, State: Closed})
	c.watchers.close()
	return err
}

// wait waits for all of a group, or returns why ctx has ended.
func wait(ctx context.Context, group *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
