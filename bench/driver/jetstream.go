package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream is the Driver for NATS servers, over nats.go as its users have it:
// asynchronous publishes and pull consumers. A queue is a stream with work
// queue retention and one durable consumer that all consumers share, so that
// an acked message is gone as it is from a queue; an exchange is a stream that
// keeps a message until each queue, a durable consumer of its own, has acked
// it. Queue types and ack quorums mean nothing to it.
type JetStream struct {
	// Replicas of each stream and consumer: 1 or 3.
	Replicas int
}

const (
	// jetStreamPatience bounds each call, and how long a cluster may take to
	// be ready for streams after it serves clients.
	jetStreamPatience = 20 * time.Second
	// jetStreamAckWait is how long a publish waits for its ack before it is sent
	// again. nats.go waits for ever if not told.
	jetStreamAckWait = 2 * time.Second
	// jetStreamRedeliver is how long a message may be unacked before it is
	// delivered again, above all after a leader's death. It must be shorter than
	// a run waits for missing messages; the default is 30 s.
	jetStreamRedeliver = 10 * time.Second
	// jetStreamPending bounds a publisher's unconfirmed messages above any
	// window: the window is the load generator's to keep.
	jetStreamPending = 1 << 17
)

// natsConn is a connection and the watch over it.
type natsConn struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	failed  chan error // capacity 1
	closing atomic.Bool
	closed  chan struct{}
}

func dialJetStream(url string) (*natsConn, error) {
	c := &natsConn{failed: make(chan error, 1), closed: make(chan struct{})}
	var err error
	c.conn, err = nats.Connect(url, nats.NoReconnect(), nats.ClosedHandler(func(conn *nats.Conn) {
		if !c.closing.Load() {
			c.failed <- fmt.Errorf("driver: connection lost: %w", errors.Join(conn.LastError(), nats.ErrConnectionClosed))
		}
		close(c.closed)
	}))
	if err != nil {
		return nil, fmt.Errorf("driver: connect: %w", err)
	}
	c.js, err = jetstream.New(c.conn,
		jetstream.WithPublishAsyncMaxPending(jetStreamPending), jetstream.WithPublishAsyncTimeout(jetStreamAckWait),
		jetstream.WithDefaultTimeout(jetStreamPatience))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: jetstream: %w", err), c.Close())
	}
	return c, nil
}

// Failed is part of Publisher and Consumer.
func (c *natsConn) Failed() <-chan error { return c.failed }

// Close sends what is buffered and closes the connection.
func (c *natsConn) Close() error {
	if c.closing.Swap(true) {
		return nil
	}
	// A server that has gone can't answer: Failed has told that already.
	_ = c.conn.FlushTimeout(time.Second)
	c.conn.Close()
	<-c.closed
	return nil
}

type jetStreamAdmin struct {
	*natsConn
	replicas int
}

// OpenAdmin implements Driver.
func (j JetStream) OpenAdmin(url string) (Admin, error) {
	c, err := dialJetStream(url)
	if err != nil {
		return nil, err
	}
	return &jetStreamAdmin{natsConn: c, replicas: max(j.Replicas, 1)}, nil
}

// streams are what the topology becomes: each stream's name, and the durable
// consumers of it.
func (t Topology) streams() map[string][]string {
	if t.Exchange != "" {
		return map[string][]string{t.Exchange: t.Queues}
	}
	streams := make(map[string][]string, len(t.Queues))
	for _, queue := range t.Queues {
		streams[queue] = []string{queue}
	}
	return streams
}

// Declare makes the streams and their consumers. A cluster that has only just
// started may refuse at first; so it tries for a while.
func (a *jetStreamAdmin) Declare(t Topology) error {
	ctx, cancel := context.WithTimeout(context.Background(), jetStreamPatience+time.Duration(len(t.Queues))*time.Second)
	defer cancel()
	for stream, consumers := range t.streams() {
		config := jetstream.StreamConfig{
			Name: stream, Subjects: []string{stream}, Replicas: a.replicas,
			Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy,
		}
		if t.Exchange != "" {
			config.Retention = jetstream.InterestPolicy
		}
		err := retried(ctx, func() error {
			_, err := a.js.CreateOrUpdateStream(ctx, config)
			return err
		})
		if err != nil {
			return fmt.Errorf("driver: declare stream %s: %w", stream, err)
		}
		for _, name := range consumers {
			err := retried(ctx, func() error {
				_, err := a.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
					Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: jetStreamRedeliver, MaxAckPending: max(t.MaxUnacked, 1),
				})
				return err
			})
			if err != nil {
				return fmt.Errorf("driver: declare consumer %s: %w", name, err)
			}
		}
	}
	return nil
}

// retried tries until do succeeds or ctx ends, and returns the last error.
func retried(ctx context.Context, do func() error) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Delete removes the streams, and their consumers with them.
func (a *jetStreamAdmin) Delete(t Topology) error {
	ctx, cancel := context.WithTimeout(context.Background(), jetStreamPatience+time.Duration(len(t.Queues))*time.Second)
	defer cancel()
	for stream := range t.streams() {
		if err := a.js.DeleteStream(ctx, stream); err != nil {
			return fmt.Errorf("driver: delete stream %s: %w", stream, err)
		}
	}
	return nil
}

type jetStreamPublisher struct {
	*natsConn
	subject string
	// pending are the publishes whose outcome is to come, in their order.
	pending  chan jetstream.PubAckFuture
	confirms sync.WaitGroup
	stop     chan struct{}
	once     sync.Once
}

// OpenPublisher implements Driver.
func (j JetStream) OpenPublisher(url string, to Route, confirmed func(tag uint64, multiple, ack bool)) (Publisher, error) {
	c, err := dialJetStream(url)
	if err != nil {
		return nil, err
	}
	if err := c.awaitStream(to.stream()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	p := &jetStreamPublisher{
		natsConn: c, subject: to.stream(),
		pending: make(chan jetstream.PubAckFuture, jetStreamPending), stop: make(chan struct{}),
	}
	p.confirms.Go(func() {
		for tag := uint64(1); ; tag++ {
			ack, ok := p.outcome()
			if !ok {
				return
			}
			confirmed(tag, false, ack)
		}
	})
	return p, nil
}

// notExpected is the error code of a stream that was published to as another.
const notExpected = 10060

// awaitStream waits until what is published here reaches the stream: a server
// learns of a new one some time after the one that made it. What it publishes
// to find out is refused.
func (c *natsConn) awaitStream(stream string) error {
	ctx, cancel := context.WithTimeout(context.Background(), jetStreamPatience)
	defer cancel()
	err := retried(ctx, func() error {
		_, err := c.js.Publish(ctx, stream, nil, jetstream.WithExpectStream(stream+"-other"))
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.ErrorCode == notExpected {
			return nil
		}
		if err == nil {
			return errors.New("a message was taken that was not to be")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("driver: stream %s: %w", stream, err)
	}
	return nil
}

// stream is the one that a route publishes to; its only subject has its name.
func (r Route) stream() string {
	if r.Exchange != "" {
		return r.Exchange
	}
	return r.Queue
}

// outcome waits for the oldest publish to be settled; ok is false at the end.
func (p *jetStreamPublisher) outcome() (ack, ok bool) {
	select {
	case future := <-p.pending:
		select {
		case <-future.Ok():
			return true, true
		case <-future.Err():
			return p.again(future.Msg()), true
		case <-p.stop:
		}
	case <-p.stop:
	}
	return false, false
}

// again sends a message a second time whose ack did not come: what is meant to
// arrive needs that of a NATS client when a leader dies. It may arrive twice
// and out of order, and says whether it did at all.
func (p *jetStreamPublisher) again(m *nats.Msg) bool {
	ctx, cancel := context.WithTimeout(context.Background(), jetStreamPatience)
	defer cancel()
	return retried(ctx, func() error {
		once, cancel := context.WithTimeout(ctx, jetStreamAckWait)
		defer cancel()
		_, err := p.js.Publish(once, m.Subject, m.Data)
		return err
	}) == nil
}

// Publish copies the body: nats.go may send a message a second time.
func (p *jetStreamPublisher) Publish(_ bool, body []byte) error {
	future, err := p.js.PublishMsgAsync(&nats.Msg{Subject: p.subject, Data: slices.Clone(body)})
	if err != nil {
		return err
	}
	p.pending <- future
	return nil
}

// Flush does nothing: nats.go has a goroutine that flushes.
func (p *jetStreamPublisher) Flush() error { return nil }

// Close closes the connection and ends confirming.
func (p *jetStreamPublisher) Close() error {
	p.once.Do(func() { close(p.stop) })
	p.confirms.Wait()
	p.js.CleanupPublisher()
	return p.natsConn.Close()
}

type jetStreamConsumer struct {
	*natsConn
	consuming jetstream.ConsumeContext
	// held are the unacked messages, oldest first; tag is the newest's.
	mu struct {
		sync.Mutex
		held []jetstream.Msg
		tag  uint64
	}
}

// OpenConsumer implements Driver.
func (j JetStream) OpenConsumer(url string, from Route, prefetch int, deliver func(Delivery)) (Consumer, error) {
	c, err := dialJetStream(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), jetStreamPatience)
	defer cancel()
	durable, err := c.js.Consumer(ctx, from.stream(), from.Queue)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: consume: %w", err), c.Close())
	}
	consumer := &jetStreamConsumer{natsConn: c}
	// What nats.go tells of on the way (a missed heartbeat, a leader that
	// changes) it mends itself; what it can't shows as messages that are missing.
	consumer.consuming, err = durable.Consume(func(m jetstream.Msg) { deliver(consumer.take(m)) },
		jetstream.PullMaxMessages(prefetch), jetstream.ConsumeErrHandler(func(jetstream.ConsumeContext, error) {}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: consume: %w", err), c.Close())
	}
	return consumer, nil
}

func (c *jetStreamConsumer) take(m jetstream.Msg) Delivery {
	metadata, err := m.Metadata()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.tag++
	c.mu.held = append(c.mu.held, m)
	return Delivery{Tag: c.mu.tag, Redelivered: err == nil && metadata.NumDelivered > 1, Body: m.Data()}
}

// Ack acks each message on its own: a work queue's consumer knows no multiple.
func (c *jetStreamConsumer) Ack(tag uint64, multiple bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.mu.tag + 1 - uint64(len(c.mu.held))
	if tag < oldest || tag > c.mu.tag {
		return fmt.Errorf("driver: ack of tag %d, held are %d to %d", tag, oldest, c.mu.tag)
	}
	at := int(tag - oldest)
	if at > 0 && !multiple {
		return fmt.Errorf("driver: ack of tag %d before that of %d: only in order", tag, oldest)
	}
	for _, m := range c.mu.held[:at+1] {
		if err := m.Ack(); err != nil {
			return fmt.Errorf("driver: ack: %w", err)
		}
	}
	c.mu.held = append(c.mu.held[:0], c.mu.held[at+1:]...)
	return nil
}

// Close stops pulling, sends the acks and closes the connection.
func (c *jetStreamConsumer) Close() error {
	c.consuming.Stop()
	<-c.consuming.Closed()
	return c.natsConn.Close()
}
