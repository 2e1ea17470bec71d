package broker

import (
	"context"
	"errors"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

const (
	// maxLink is how many deliveries of one consumer may wait for the socket,
	// and linkBudget how many of all consumers of one connection.
	maxLink    = 512
	minLink    = 16
	linkBudget = 1 << 16
)

// subscriber is a consumer, or a basic.get on its way, as the connection sees it.
type subscriber struct {
	id        queue.ConsumerID
	tag       string
	channel   *channel
	queue     *topology.Queue
	held      *held
	noAck     bool
	exclusive bool
	prefetch  uint32
	arguments amqp.Table

	// Of a basic.get: what to call when get-ok is written, if anything.
	get     bool
	written func()

	// link is the credit it was attached with. The rest is the writer's:
	// deliveries written since the last credit, which those are without acks,
	// how many wait because they are doubtful, and whether it is in its list.
	link       int
	uncredited int
	unsettled  []entry.Range
	waiting    int
	listed     bool
}

// consume handles basic.consume.
func (ch *channel) consume(ctx context.Context, m *amqp.BasicConsume) error {
	q, err := ch.queueFor(m.Queue, topology.Read)
	if err != nil {
		return err
	}
	c := ch.conn
	c.out.mu.Lock()
	_, used := ch.tags[m.ConsumerTag]
	c.out.mu.Unlock()
	switch {
	case m.ConsumerTag == "":
		m.ConsumerTag = generatedName("amq.ctag-")
	case used:
		return amqp.NotAllowed("attempt to reuse consumer tag '%s'", m.ConsumerTag)
	}
	l := c.lane(q.Group)
	if l == nil {
		return notHere(q)
	}
	s := &subscriber{
		id: c.front.core.newConsumer(), tag: m.ConsumerTag, channel: ch, queue: q, held: ch.uses(q, l, false),
		noAck: m.NoAck, exclusive: m.Exclusive, prefetch: ch.prefetch.Load(), arguments: m.Arguments,
	}
	ch.run(ctx, m.ID(), func(ctx context.Context) error { return s.attach(ctx, m.NoWait) })
	return nil
}

// attach makes the consumer known to its queue's group. Consume-ok is queued
// by the group's goroutine, and so comes before the first delivery.
func (s *subscriber) attach(ctx context.Context, noWait bool) error {
	ch, c := s.channel, s.channel.conn
	c.out.mu.Lock()
	if c.subscribers == nil {
		c.subscribers = make(map[queue.ConsumerID]*subscriber)
	}
	if ch.tags == nil {
		ch.tags = make(map[string]*subscriber)
	}
	c.subscribers[s.id], ch.tags[s.tag] = s, s
	s.link = min(max(linkBudget/len(c.subscribers), minLink), maxLink)
	c.out.mu.Unlock()
	result := make(chan error, 1)
	wanted := queue.Consumer{
		ID: s.id, Holder: ch.holder, Queue: s.queue.ID, NoAck: s.noAck, Exclusive: s.exclusive,
		Prefetch: s.prefetch, Link: uint32(s.link), Priority: consumerPriority(s.arguments),
	}
	s.held.lane.group.attach(wanted, &s.held.lane.receiver, func(err error) {
		if err == nil && !noWait {
			ch.reply(&amqp.BasicConsumeOk{ConsumerTag: s.tag})
		}
		result <- err
	})
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	c.out.mu.Lock()
	delete(c.subscribers, s.id)
	delete(ch.tags, s.tag)
	c.out.mu.Unlock()
	switch {
	case errors.Is(err, queue.ErrExclusiveUse):
		return topology.QueueInExclusiveUse(s.queue.Vhost, s.queue.Name)
	case errors.Is(err, queue.ErrNoQueue):
		return topology.NoSuchQueue(s.queue.Vhost, s.queue.Name)
	}
	return err
}

// consumerPriority is the argument x-priority, 0 if it isn't there.
func consumerPriority(arguments amqp.Table) int32 {
	n, _ := integer(arguments["x-priority"])
	return int32(min(max(n, -1<<31), 1<<31-1))
}

// integer is the value of an integer field of any width.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}

// cancel handles basic.cancel. Cancel-ok comes after the last delivery; what
// is unacked stays with the channel.
func (ch *channel) cancel(m *amqp.BasicCancel) error {
	c := ch.conn
	c.flush()
	c.out.mu.Lock()
	s := ch.tags[m.ConsumerTag]
	delete(ch.tags, m.ConsumerTag)
	c.out.mu.Unlock()
	answer := func() {
		if !m.NoWait {
			ch.reply(&amqp.BasicCancelOk{ConsumerTag: m.ConsumerTag})
		}
	}
	if s == nil {
		answer()
		return nil
	}
	busy := make(chan struct{})
	ch.busy = busy
	c.work.Add(1)
	s.held.lane.group.detach(s.id, func() {
		c.out.mu.Lock()
		delete(c.subscribers, s.id)
		ch.window.leave(s, &c.out)
		c.out.mu.Unlock()
		answer()
		close(busy)
		c.work.Done()
	})
	return nil
}

// consumerCancelled tells the client that its consumer's queue is gone. Called
// on the group's goroutine.
func (c *conn) consumerCancelled(id queue.ConsumerID) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	s := c.subscribers[id]
	if s == nil {
		return
	}
	delete(c.subscribers, id)
	s.channel.window.leave(s, nil)
	if s.channel.tags[s.tag] != s {
		return // Cancelled by the client at the same time.
	}
	delete(s.channel.tags, s.tag)
	if c.session.can.cancelNotify && s.channel.isOpen() {
		c.out.putMethod(s.channel.number, &amqp.BasicCancel{ConsumerTag: s.tag, NoWait: true})
	}
}

// get handles basic.get.
func (ch *channel) get(m *amqp.BasicGet) error {
	q, err := ch.queueFor(m.Queue, topology.Read)
	if err != nil {
		return err
	}
	c := ch.conn
	l := c.lane(q.Group)
	if l == nil {
		return notHere(q)
	}
	c.flush()
	s := &subscriber{channel: ch, queue: q, held: ch.uses(q, l, true), noAck: m.NoAck, get: true}
	busy := make(chan struct{})
	ch.busy = busy
	c.work.Add(1)
	l.group.get(q.ID, ch.holder, m.NoAck, func(r getReply) {
		if r.err != nil {
			c.report(ch, m.ID(), r.err)
		} else {
			s.answer(r)
		}
		close(busy)
		c.work.Done()
	})
	return nil
}

// answer queues get-ok or get-empty.
func (s *subscriber) answer(r getReply) {
	counts := &s.channel.conn.front.counts
	if !r.found {
		counts.gotNothing.Add(1)
		s.channel.reply(&amqp.BasicGetEmpty{})
		return
	}
	if s.noAck {
		counts.gotNoAck.Add(1)
	} else {
		counts.got.Add(1)
	}
	s.written = r.written
	d := r.delivery
	o := &s.channel.conn.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.putDelivery(delivery{
		to: s, message: d.Message, ref: d.Ref, deliveries: d.Deliveries, redelivered: d.Redelivered,
		remaining: uint32(min(r.remaining, 1<<32-1)), round: r.round,
	})
}

// qos handles basic.qos.
func (ch *channel) qos(m *amqp.BasicQos) error {
	if m.PrefetchSize != 0 {
		return amqp.NotImplemented("prefetch_size!=0 (%d)", m.PrefetchSize)
	}
	if !m.Global {
		ch.prefetch.Store(uint32(m.PrefetchCount))
	} else {
		ch.shared.Store(uint32(m.PrefetchCount))
		o := &ch.conn.out
		o.mu.Lock()
		ch.window.set(int(m.PrefetchCount), ch.unacked.len(), o)
		o.mu.Unlock()
		for _, l := range ch.lanes {
			l.group.limit(ch.holder, uint32(m.PrefetchCount))
		}
	}
	ch.reply(&amqp.BasicQosOk{})
	return nil
}
