package client

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// subscription is a consumer on one AMQP channel over one connection.
type subscription struct {
	*settlements
	session    *session
	channel    *amqp.Channel
	tag        string
	queue      string
	noAck      bool
	deliveries <-chan amqp.Delivery
	closed     chan *amqp.Error
	counts     *counters
}

// subscribe opens a channel and consumes on it.
func (k *consumer) subscribe(ctx context.Context, s *session) (*subscription, error) {
	return within(ctx, func() (*subscription, error) {
		ch, err := s.conn.Channel()
		if err != nil {
			return nil, err
		}
		fresh := &subscription{
			session: s, channel: ch, tag: k.tag, queue: k.queue, noAck: k.config.NoAck,
			closed: ch.NotifyClose(make(chan *amqp.Error, 1)), counts: &k.client.counts,
		}
		if err = ch.Qos(max(k.config.Prefetch, 0), 0, false); err == nil {
			fresh.deliveries, err = ch.Consume(k.queue, k.tag, k.config.NoAck, k.config.Exclusive, false, false, k.arguments())
		}
		if err != nil {
			_ = ch.Close() // Most errors have closed it.
			return nil, err
		}
		fresh.settlements = newSettlements(ch)
		return fresh, nil
	}, (*subscription).close)
}

// delivery is one of the subscription's.
func (s *subscription) delivery(d *amqp.Delivery) *Delivery {
	s.counts.delivered.Add(1)
	if d.Redelivered {
		s.counts.redelivered.Add(1)
	}
	return &Delivery{
		Message: newMessage(d), Queue: s.queue, Redelivered: d.Redelivered, Attempt: 1,
		subscription: s, tag: d.DeliveryTag,
	}
}

// cancel ends the consumer: no delivery comes after those that are on their way,
// and then deliveries is closed. What came can still be settled.
func (s *subscription) cancel() {
	patiently(func() { _ = s.channel.Cancel(s.tag, false) }) // Fails if the channel is gone: all the same.
}

// empty says whether nothing waits in the queue.
func (s *subscription) empty() (bool, error) {
	q, err := s.channel.QueueDeclarePassive(s.queue, false, false, false, false, nil)
	return q.Messages == 0, err
}

// close tells the broker what was settled, and closes the channel: what was not
// goes back to the queue.
func (s *subscription) close() {
	s.settlements.close()
	patiently(func() { _ = s.channel.Close() }) // It may be closed already.
}

// patiently runs fn, and waits for it no longer than closeTimeout: where a broker
// hangs, fn ends with the connection.
func patiently(fn func()) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, _ = within(ctx, func() (struct{}, error) {
		fn()
		return struct{}{}, nil
	}, func(struct{}) {})
}

// within runs fn and returns what it does, or earlier why ctx has ended; then
// drop gets what fn returns in the end.
func within[T any](ctx context.Context, fn func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := fn()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	go func() {
		if r := <-done; r.err == nil {
			drop(r.value)
		}
	}()
	var none T
	return none, context.Cause(ctx)
}
