package peer

import (
	"context"
	"net"
	"sync"
)

// nullFrameMax is RabbitMQ's default, and MirrorMQ's.
const nullFrameMax = 131072

// Null serves AMQP 0-9-1 at the listener until ctx ends, as a broker that does
// the least that a broker must: it parses a publish, hands it at once to one
// consumer of each queue that has credit, and confirms it. It stores and
// mirrors nothing, and what no consumer is there for is gone. So it shows how
// fast the machine, the network stack and the client are; no broker is faster.
//
// It knows queues and fanout exchanges, by name and never deleted, one channel
// a connection, and as user anybody. A connection that publishes to its own
// consumer may stand still.
func Null(ctx context.Context, listener net.Listener) error {
	b := &nullBroker{queues: map[string]*nullQueue{}, exchanges: map[string][]*nullQueue{}}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	closed := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer closed()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		serving.Go(func() { newNullConn(b, conn).serve(ctx) })
	}
}

type nullBroker struct {
	mu        sync.Mutex
	queues    map[string]*nullQueue
	exchanges map[string][]*nullQueue // fanout
}

// queue is the one with that name, made if need be.
func (b *nullBroker) queue(name string) *nullQueue {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[name]
	if q == nil {
		q = &nullQueue{}
		q.changed.L = &q.mu
		b.queues[name] = q
	}
	return q
}

func (b *nullBroker) bind(exchange string, q *nullQueue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exchanges[exchange] = append(b.exchanges[exchange], q)
}

// route is the queues that a publish goes to.
func (b *nullBroker) route(exchange, key string) []*nullQueue {
	if exchange == "" {
		return []*nullQueue{b.queue(key)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.exchanges[exchange]
}

// nullQueue is the consumers of one name.
type nullQueue struct {
	mu        sync.Mutex
	changed   sync.Cond // a consumer came, went, or got credit
	consumers []*nullConsumer
	next      int
}

// nullConsumer's counts are guarded by its queue's mu.
type nullConsumer struct {
	queue           *nullQueue
	conn            *nullConn
	channel         uint16
	tag             string
	prefetch        uint64 // 0: no bound
	handed, settled uint64
	gone            bool
}

func (c *nullConsumer) hasCredit() bool { return c.prefetch == 0 || c.handed-c.settled < c.prefetch }

func (q *nullQueue) attach(c *nullConsumer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.consumers = append(q.consumers, c)
	q.changed.Broadcast()
}

func (q *nullQueue) detach(c *nullConsumer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.gone = true
	for i, other := range q.consumers {
		if other == c {
			q.consumers = append(q.consumers[:i:i], q.consumers[i+1:]...)
		}
	}
	q.changed.Broadcast()
}

// settle gives credit back. Consumers settle in order, so counting is enough.
func (q *nullQueue) settle(c *nullConsumer, tag uint64, multiple bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	hadNone := !c.hasCredit()
	if multiple {
		c.settled = max(c.settled, tag)
	} else {
		c.settled++
	}
	if hadNone {
		q.changed.Broadcast()
	}
}

// hand gives the message to the next consumer with credit, and waits until one
// has it. Without a consumer the message is gone.
func (q *nullQueue) hand(exchange, key, properties, body []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.consumers) > 0 {
		for range q.consumers {
			q.next++
			c := q.consumers[q.next%len(q.consumers)]
			if c.hasCredit() {
				c.handed++
				c.conn.deliver(c, exchange, key, properties, body)
				return
			}
		}
		q.changed.Wait()
	}
}
