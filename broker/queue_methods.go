package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// generatedName makes a name that nobody else has, as RabbitMQ makes them: the
// prefix and 22 characters.
func generatedName(prefix string) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // Never fails (crypto/rand since Go 1.24).
	return prefix + base64.RawURLEncoding.EncodeToString(id[:])
}

func (ch *channel) queueDeclare(ctx context.Context, m *amqp.QueueDeclare) error {
	m.Queue = topology.StripName(m.Queue)
	if m.Passive {
		return ch.queueDeclarePassive(ctx, m)
	}
	c := ch.conn
	reserved := topology.CheckNewQueueName(m.Queue)
	if m.Queue == "" {
		m.Queue = generatedName("amq.gen-")
	}
	wanted := topology.Queue{
		Vhost: c.vhost, Name: m.Queue, Durable: m.Durable && !m.Exclusive, Exclusive: m.Exclusive,
		AutoDelete: m.AutoDelete, Arguments: m.Arguments, Type: topology.QueueType(m.Arguments),
	}
	if m.Exclusive {
		wanted.Owner = c.id
	}
	if quorum, given := m.Arguments[ackQuorumKey]; given {
		wanted.AckQuorum, _ = topology.AckQuorum(quorum) // CheckNewQueue refuses what is none.
	}
	err := c.firstRefusal(always(reserved), c.may(topology.Configure, topology.QueueKind, m.Queue),
		func(s *topology.State) *amqp.Error {
			if existing := s.Queue(c.vhost, m.Queue); existing != nil {
				return topology.CheckQueueEquivalent(existing, &wanted)
			}
			return c.checkNewQueue(s, &wanted, m)
		})
	if err != nil {
		return err
	}
	c.exclusive = c.exclusive || m.Exclusive
	ch.run(ctx, m.ID(), func(ctx context.Context) error {
		c.front.counts.queuesDeclared.Add(1)
		q, created, err := c.front.core.declareQueue(ctx, wanted)
		if err != nil {
			return err
		}
		if !created {
			if refusal := topology.CheckQueueEquivalent(q, &wanted); refusal != nil {
				return refusal
			}
		}
		return ch.queueDeclared(ctx, q, created, m.NoWait)
	})
	return nil
}

// checkNewQueue checks what only the declarer of a new queue has to heed.
func (c *conn) checkNewQueue(s *topology.State, wanted *topology.Queue, m *amqp.QueueDeclare) *amqp.Error {
	if refusal := topology.CheckNewQueue(wanted); refusal != nil {
		return refusal
	}
	if !inMemory(wanted) {
		if refusal := topology.CheckAckQuorum(wanted, c.front.config.copies); refusal != nil {
			return refusal
		}
	}
	return c.mayDeadLetter(m)(s)
}

// queueDeclarePassive asks for a queue's counts. Its properties are not
// compared, and no permission is needed.
func (ch *channel) queueDeclarePassive(ctx context.Context, m *amqp.QueueDeclare) error {
	c := ch.conn
	var q *topology.Queue
	err := c.firstRefusal(func(s *topology.State) *amqp.Error {
		if q = s.Queue(c.vhost, m.Queue); q == nil {
			return topology.NoSuchQueue(c.vhost, m.Queue)
		}
		return topology.CheckQueueOwner(q, c.id)
	})
	if err != nil {
		return err
	}
	ch.run(ctx, m.ID(), func(ctx context.Context) error { return ch.queueDeclared(ctx, q, false, m.NoWait) })
	return nil
}

// queueDeclared answers a declare.
func (ch *channel) queueDeclared(ctx context.Context, q *topology.Queue, created, noWait bool) error {
	ch.lastQueue = q.Name
	if noWait {
		return nil
	}
	ok := &amqp.QueueDeclareOk{Queue: q.Name}
	if !created {
		ready, consumers, err := ch.conn.front.core.queueCounts(ctx, q)
		if err != nil {
			return err
		}
		ok.MessageCount, ok.ConsumerCount = count32(ready), count32(uint64(consumers))
	}
	ch.reply(ok)
	return nil
}

// count32 is n as AMQP's counts can say it.
func count32(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }

func (ch *channel) queueDelete(ctx context.Context, m *amqp.QueueDelete) error {
	name, err := ch.queueNamed(m.Queue)
	if err != nil {
		return err
	}
	c := ch.conn
	var q *topology.Queue
	err = c.firstRefusal(c.may(topology.Configure, topology.QueueKind, name), func(s *topology.State) *amqp.Error {
		if q = s.Queue(c.vhost, name); q == nil {
			return nil
		}
		return topology.CheckQueueOwner(q, c.id)
	})
	if err != nil {
		return err
	}
	answer := func(n uint64) {
		if !m.NoWait {
			ch.reply(&amqp.QueueDeleteOk{MessageCount: count32(n)})
		}
	}
	if q == nil {
		answer(0)
		return nil
	}
	ch.run(ctx, m.ID(), func(ctx context.Context) error {
		n, err := c.front.core.deleteQueue(ctx, q, m.IfUnused, m.IfEmpty)
		if err == nil {
			answer(n)
		}
		return err
	})
	return nil
}

func (ch *channel) queuePurge(ctx context.Context, m *amqp.QueuePurge) error {
	q, err := ch.queueFor(m.Queue, topology.Read)
	if err != nil {
		return err
	}
	ch.run(ctx, m.ID(), func(ctx context.Context) error {
		n, err := ch.conn.front.core.purgeQueue(ctx, q)
		if err == nil && !m.NoWait {
			ch.reply(&amqp.QueuePurgeOk{MessageCount: count32(n)})
		}
		return err
	})
	return nil
}

func (ch *channel) queueBind(ctx context.Context, m *amqp.QueueBind) error {
	name, err := ch.queueNamed(m.Queue)
	if err != nil {
		return err
	}
	if m.Queue == "" && m.RoutingKey == "" {
		m.RoutingKey = name // Both empty: the key is the last queue's name.
	}
	ok := amqp.Method(&amqp.QueueBindOk{})
	if m.NoWait {
		ok = nil
	}
	return ch.bind(ctx, m.ID(), true, ok, topology.Binding{
		Vhost: ch.conn.vhost, Source: topology.StripName(m.Exchange), Destination: name,
		RoutingKey: m.RoutingKey, Arguments: m.Arguments,
	})
}

func (ch *channel) queueUnbind(ctx context.Context, m *amqp.QueueUnbind) error {
	name, err := ch.queueNamed(m.Queue)
	if err != nil {
		return err
	}
	if m.Queue == "" && m.RoutingKey == "" {
		m.RoutingKey = name
	}
	return ch.bind(ctx, m.ID(), false, &amqp.QueueUnbindOk{}, topology.Binding{
		Vhost: ch.conn.vhost, Source: topology.StripName(m.Exchange), Destination: name,
		RoutingKey: m.RoutingKey, Arguments: m.Arguments,
	})
}
