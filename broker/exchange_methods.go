package broker

import (
	"context"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/topology"
)

func (ch *channel) exchangeDeclare(ctx context.Context, m *amqp.ExchangeDeclare) error {
	c := ch.conn
	m.Exchange = topology.StripName(m.Exchange)
	answer := func() {
		if !m.NoWait {
			ch.reply(&amqp.ExchangeDeclareOk{})
		}
	}
	var x *topology.Exchange
	find := func(s *topology.State) *amqp.Error {
		x = s.Exchange(c.vhost, m.Exchange)
		return nil
	}
	if m.Passive {
		err := c.firstRefusal(always(topology.CheckNotDefaultExchange(m.Exchange)), find)
		switch {
		case err != nil:
			return err
		case x == nil:
			return topology.NoSuchExchange(c.vhost, m.Exchange)
		}
		answer()
		return nil
	}
	wanted := &topology.Exchange{
		Vhost: c.vhost, Name: m.Exchange, Kind: m.Type, Durable: m.Durable,
		AutoDelete: m.AutoDelete, Internal: m.Internal, Arguments: m.Arguments,
	}
	malformed := topology.CheckNewExchange(wanted)
	if malformed != nil && malformed.Connection {
		return malformed // An unknown type, which comes before all else.
	}
	err := c.firstRefusal(always(topology.CheckNotDefaultExchange(m.Exchange)),
		c.may(topology.Configure, topology.ExchangeKind, m.Exchange), find)
	if err != nil {
		return err
	}
	if x != nil {
		if refusal := topology.CheckExchangeEquivalent(x, wanted); refusal != nil {
			return refusal
		}
		answer()
		return nil
	}
	if err := ch.newExchange(wanted, malformed); err != nil {
		return err
	}
	ops, err := topology.AppendDeclareExchange(takeOps(), wanted)
	if err != nil {
		return amqp.PreconditionFailed("%v", err)
	}
	return ch.change(ctx, m.ID(), ops, func(r topology.OpResult) *amqp.Error {
		if r.Code == topology.Exists {
			if refusal := topology.CheckExchangeEquivalent(r.Exchange, wanted); refusal != nil {
				return refusal
			}
		}
		answer()
		return nil
	})
}

// newExchange checks what only the declarer of a new exchange has to heed.
func (ch *channel) newExchange(wanted *topology.Exchange, malformed *amqp.Error) error {
	c := ch.conn
	checks := []func(*topology.State) *amqp.Error{
		always(topology.CheckNewExchangeName(wanted.Name)), always(malformed),
	}
	if alternate, ok := wanted.Arguments["alternate-exchange"].(string); ok {
		checks = append(checks, c.may(topology.Read, topology.ExchangeKind, wanted.Name),
			c.may(topology.Write, topology.ExchangeKind, alternate))
	}
	return c.firstRefusal(checks...)
}

func (ch *channel) exchangeDelete(ctx context.Context, m *amqp.ExchangeDelete) error {
	c := ch.conn
	m.Exchange = topology.StripName(m.Exchange)
	err := c.firstRefusal(always(topology.CheckExchangeDeletion(c.vhost, m.Exchange)),
		c.may(topology.Configure, topology.ExchangeKind, m.Exchange))
	if err != nil {
		return err
	}
	ops := topology.AppendDeleteExchange(takeOps(), c.vhost, m.Exchange, m.IfUnused)
	return ch.change(ctx, m.ID(), ops, func(topology.OpResult) *amqp.Error {
		if !m.NoWait {
			ch.reply(&amqp.ExchangeDeleteOk{})
		}
		return nil
	})
}

func (ch *channel) exchangeBind(ctx context.Context, m *amqp.ExchangeBind) error {
	ok := amqp.Method(&amqp.ExchangeBindOk{})
	if m.NoWait {
		ok = nil
	}
	return ch.bind(ctx, m.ID(), true, ok, topology.Binding{
		Vhost: ch.conn.vhost, Source: topology.StripName(m.Source), ToExchange: true,
		Destination: topology.StripName(m.Destination), RoutingKey: m.RoutingKey, Arguments: m.Arguments,
	})
}

func (ch *channel) exchangeUnbind(ctx context.Context, m *amqp.ExchangeUnbind) error {
	ok := amqp.Method(&amqp.ExchangeUnbindOk{})
	if m.NoWait {
		ok = nil
	}
	return ch.bind(ctx, m.ID(), false, ok, topology.Binding{
		Vhost: ch.conn.vhost, Source: topology.StripName(m.Source), ToExchange: true,
		Destination: topology.StripName(m.Destination), RoutingKey: m.RoutingKey, Arguments: m.Arguments,
	})
}

// bind adds or removes a binding and answers with ok, if not nil. The checks
// are those of RabbitMQ (rabbit_channel, binding_action), in its order.
func (ch *channel) bind(ctx context.Context, id amqp.MethodID, add bool, ok amqp.Method, b topology.Binding) error {
	c := ch.conn
	kind, destination := topology.QueueKind, (*amqp.Error)(nil)
	if b.ToExchange {
		kind, destination = topology.ExchangeKind, topology.CheckNotDefaultExchange(b.Destination)
	}
	err := c.firstRefusal(
		c.may(topology.Write, kind, b.Destination),
		always(destination),
		always(topology.CheckNotDefaultExchange(b.Source)),
		c.may(topology.Read, topology.ExchangeKind, b.Source),
		func(s *topology.State) *amqp.Error {
			if x := s.Exchange(b.Vhost, b.Source); x != nil && add {
				if malformed := topology.CheckBinding(x.Kind, b.Arguments); malformed != nil {
					return malformed
				}
			}
			if b.ToExchange {
				return nil
			}
			if q := s.Queue(b.Vhost, b.Destination); q != nil {
				return topology.CheckQueueOwner(q, c.id)
			}
			return nil
		})
	if err != nil {
		return err
	}
	appendOp := topology.AppendBind
	if !add {
		appendOp = topology.AppendUnbind
	}
	ops, err := appendOp(takeOps(), &b)
	if err != nil {
		return amqp.PreconditionFailed("%v", err)
	}
	return ch.change(ctx, id, ops, func(topology.OpResult) *amqp.Error {
		if ok != nil {
			ch.reply(ok)
		}
		return nil
	})
}

// change proposes one op to the topology and calls done when it went well.
func (ch *channel) change(ctx context.Context, id amqp.MethodID, ops []byte, done func(topology.OpResult) *amqp.Error) error {
	c := ch.conn
	ch.run(ctx, id, func(ctx context.Context) error {
		results, err := c.front.core.changeTopology(ctx, ops)
		if err != nil {
			return err
		}
		var r topology.OpResult
		if len(results) > 0 {
			r = results[0]
		}
		if refusal := r.Refusal(c.vhost); refusal != nil {
			return refusal
		}
		if refusal := done(r); refusal != nil {
			return refusal
		}
		return nil
	})
	return nil
}
