package client

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// declared are the declarations of a client, in their order, to be made again on
// each new connection.
type declared struct {
	mu struct {
		sync.Mutex
		list []Declaration
	}
}

func (d *declared) remember(item Declaration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.index(item.id()); i >= 0 {
		d.mu.list[i] = item
		return
	}
	d.mu.list = append(d.mu.list, item)
}

// forget drops a declaration, and the bindings that go with a queue or an
// exchange.
func (d *declared) forget(item Declaration) {
	id := item.id()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.list = slices.DeleteFunc(d.mu.list, func(other Declaration) bool {
		b, is := other.(Binding)
		return other.id() == id ||
			is && id.kind == "queue" && b.Queue == id.name ||
			is && id.kind == "exchange" && (b.Exchange == id.name || b.ToExchange == id.name)
	})
}

// index is where a declaration is, or -1. REQUIRES: mu held.
func (d *declared) index(id declarationID) int {
	return slices.IndexFunc(d.mu.list, func(other Declaration) bool { return other.id() == id })
}

// all returns the declarations for a connection of that role: exclusive queues
// belong to the consuming one.
func (d *declared) all(role Role) []Declaration {
	d.mu.Lock()
	defer d.mu.Unlock()
	exclusive := map[string]bool{}
	for _, item := range d.mu.list {
		if q, is := item.(Queue); is && q.Exclusive {
			exclusive[q.Name] = true
		}
	}
	var list []Declaration
	for _, item := range d.mu.list {
		q, _ := item.(Queue)
		b, _ := item.(Binding)
		if role == Consuming || !exclusive[q.Name] && !exclusive[b.Queue] {
			list = append(list, item)
		}
	}
	return list
}

// of returns the declarations of a queue, of its bindings and of their
// exchanges.
func (d *declared) of(queue string) []Declaration {
	d.mu.Lock()
	defer d.mu.Unlock()
	exchanges := map[string]bool{}
	for _, item := range d.mu.list {
		if b, is := item.(Binding); is && b.Queue == queue {
			exchanges[b.Exchange] = true
		}
	}
	var list []Declaration
	for _, item := range d.mu.list {
		q, _ := item.(Queue)
		b, _ := item.(Binding)
		e, _ := item.(Exchange)
		if q.Name == queue || b.Queue == queue || exchanges[e.Name] {
			list = append(list, item)
		}
	}
	return list
}

// lockedFor is for how long a queue is waited for that the broker takes for
// another connection's: that of a connection of ours whose end it has not
// noticed yet.
const lockedFor = 3 * time.Second

// restore makes declarations on a new connection. What the broker refuses, it
// logs and leaves out: whoever uses it will be told.
func restore(ctx context.Context, s *session, list []Declaration, logger *slog.Logger) error {
	pauses := backoff{least: 5 * time.Millisecond, most: 100 * time.Millisecond}
	from, begun := 0, time.Now()
	for from < len(list) {
		n, err := declareAll(ctx, s, list[from:])
		if err == nil {
			return nil
		}
		if !isRefusal(err) {
			return err
		}
		if replyCode(err) == amqp.ResourceLocked && time.Since(begun) < lockedFor {
			if err := sleep(ctx, pauses.pause()); err != nil {
				return err
			}
			from = 0 // What the other connection takes along is made again.
			continue
		}
		id := list[from+n].id()
		logger.Warn("declaration refused after a reconnect", "kind", id.kind, "name", id.name, "reason", err)
		from += n + 1 // The refusal has closed the channel.
	}
	return nil
}

// declareAll makes declarations until one fails, and returns how many it made.
func declareAll(ctx context.Context, s *session, list []Declaration) (made int, err error) {
	err = onChannel(ctx, s, func(ch *amqp.Channel) error {
		for _, item := range list {
			if err := item.declare(ch); err != nil {
				return err
			}
			made++
		}
		return nil
	})
	return made, err
}

// onChannel runs fn with a channel of its own. It returns early when ctx ends;
// fn ends with its call or with the connection then.
func onChannel(ctx context.Context, s *session, fn func(*amqp.Channel) error) error {
	_, err := within(ctx, func() (struct{}, error) {
		ch, err := s.conn.Channel()
		if err == nil {
			err = fn(ch)
			_ = ch.Close() // It may be closed by an error.
		}
		return struct{}{}, err
	}, func(struct{}) {})
	return err
}

// call runs fn with a channel of the consuming connection, again if the
// connection breaks meanwhile: fn has to bear that.
func (c *Client) call(ctx context.Context, fn func(*amqp.Channel) error) error {
	for {
		s, err := c.consuming.session(ctx)
		if err != nil {
			return err
		}
		err = onChannel(ctx, s, fn)
		if err == nil || isRefusal(err) || ctx.Err() != nil {
			return err
		}
		patience := time.NewTimer(closeTimeout)
		select {
		case <-s.done:
			patience.Stop()
		case <-patience.C:
			return err // The connection is well: trying again would not help.
		}
	}
}

// Declare makes queues, exchanges and bindings, in their order, where they are
// not there yet, and makes them again after each reconnect. It fails with a
// *BrokerError where one is there with other properties (406) or not allowed
// (403).
func (c *Client) Declare(ctx context.Context, items ...Declaration) error {
	for _, item := range items {
		if err := item.validate(); err != nil {
			return err
		}
	}
	err := c.call(ctx, func(ch *amqp.Channel) error {
		for _, item := range items {
			if err := item.declare(ch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, item := range items {
		c.declared.remember(item)
	}
	return nil
}

// Delete deletes queues, with what they hold, exchanges and bindings, and no
// longer declares them after a reconnect. It is no error if one is not there.
// Of a Queue and an Exchange only the name counts.
func (c *Client) Delete(ctx context.Context, items ...Declaration) error {
	for _, item := range items {
		c.declared.forget(item)
	}
	return c.call(ctx, func(ch *amqp.Channel) error {
		for _, item := range items {
			if err := item.remove(ch); err != nil && replyCode(err) != amqp.NotFound {
				return err
			}
		}
		return nil
	})
}

// Purge drops the messages that wait in a queue, and returns how many.
func (c *Client) Purge(ctx context.Context, queue string) (dropped int, err error) {
	err = c.call(ctx, func(ch *amqp.Channel) error {
		n, err := ch.QueuePurge(queue, false)
		dropped = n
		return err
	})
	return dropped, err
}

// QueueInfo is how a queue is.
type QueueInfo struct {
	Name      string
	Messages  int // that wait for a consumer
	Consumers int
}

// Inspect returns how a queue is. A *BrokerError with code 404 says that there
// is none.
func (c *Client) Inspect(ctx context.Context, queue string) (QueueInfo, error) {
	var info QueueInfo
	err := c.call(ctx, func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil)
		info = QueueInfo{q.Name, q.Messages, q.Consumers}
		return err
	})
	return info, err
}
