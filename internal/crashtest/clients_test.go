package crashtest

import (
	"context"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	queueName  = "crash"
	markerName = "crash.marker"
	window     = 200
	prefetch   = 100
	ackEvery   = 25
)

// session opens a connection with both queues declared. The connection is
// closed when ctx ends.
func session(ctx context.Context, url string) (*amqp.Connection, *amqp.Channel, error) {
	connection, err := amqp.DialConfig(url, amqp.Config{Heartbeat: 10 * time.Second, Dial: amqp.DefaultDial(2 * time.Second)})
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(ctx, func() { connection.CloseDeadline(time.Now().Add(time.Second)) })
	channel, err := connection.Channel()
	if err != nil {
		return nil, nil, errors.Join(err, connection.Close())
	}
	for _, name := range []string{queueName, markerName} {
		if _, err := channel.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
			return nil, nil, errors.Join(err, connection.Close())
		}
	}
	return connection, channel, nil
}

// publish sends messages from seq next on, with a window of unconfirmed ones,
// until the connection breaks or ctx ends. It returns the next unused seq: what
// was in flight is never sent again, so that a duplicate can only be the broker's.
func publish(ctx context.Context, url string, l *ledger, publisher uint32, next uint64, size func() int) uint64 {
	connection, channel, err := session(ctx, url)
	if err != nil {
		return next
	}
	defer connection.Close()
	if err := channel.Confirm(false); err != nil {
		return next
	}
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, window))
	first, inFlight := next, 0
	take := func(c amqp.Confirmation) {
		inFlight--
		if c.Ack {
			l.confirm(id{publisher, first + c.DeliveryTag - 1})
		}
	}
	for ctx.Err() == nil {
		message := id{publisher, next}
		err := channel.PublishWithContext(ctx, "", queueName, false, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: message.encode(size())})
		if err != nil {
			break
		}
		next, inFlight = next+1, inFlight+1
		for inFlight >= window {
			c, open := <-confirms
			if !open {
				return next
			}
			take(c)
		}
	}
	connection.Close()
	for c := range confirms {
		take(c)
	}
	return next
}

// consume acks what it gets and, after every few acks, publishes a marker and
// waits for its confirm: then the acks before it are synced. It ends when the
// connection breaks, ctx ends, or nothing came for idle (0: never).
func consume(ctx context.Context, url string, l *ledger, idle time.Duration) error {
	connection, channel, err := session(ctx, url)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := channel.Confirm(false); err != nil {
		return err
	}
	if err := channel.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.Consume(queueName, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	last := make(map[uint32]uint64)
	var acked []id
	sync := func() error {
		confirmation, err := channel.PublishWithDeferredConfirm("", markerName, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
		if err != nil {
			return err
		}
		if ok, err := confirmation.WaitContext(ctx); err != nil || !ok {
			return errors.Join(err, errors.New("marker was not confirmed"))
		}
		l.settle(acked)
		acked = acked[:0]
		_, err = channel.QueuePurge(markerName, false)
		return err
	}
	for {
		var timeout <-chan time.Time
		if idle > 0 {
			timeout = time.After(idle)
		}
		select {
		case delivery, open := <-deliveries:
			if !open {
				return errors.New("connection broke")
			}
			message, err := decode(delivery.Body)
			if err != nil {
				l.damage(err)
				return err
			}
			l.deliver(message, last[message.publisher])
			last[message.publisher] = message.seq
			if err := delivery.Ack(false); err != nil {
				return err
			}
			if acked = append(acked, message); len(acked) >= ackEvery {
				if err := sync(); err != nil {
					return err
				}
			}
		case <-timeout:
			return sync()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
