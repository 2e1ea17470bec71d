package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// AMQP091 is the Driver over github.com/rabbitmq/amqp091-go.
type AMQP091 struct{}

// channel is a connection with one channel, and the watch over both.
type channel struct {
	conn   *amqp.Connection
	ch     *amqp.Channel
	failed chan error
	once   sync.Once
	closed chan struct{} // closed by close: what fails from then on is no news
	watch  sync.WaitGroup
}

func openChannel(url string) (*channel, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("driver: connect: %w", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: open channel: %w", err), conn.Close())
	}
	c := &channel{conn: conn, ch: ch, failed: make(chan error, 1), closed: make(chan struct{})}
	lost := ch.NotifyClose(make(chan *amqp.Error, 1))
	c.watch.Go(func() {
		select {
		case reason := <-lost:
			if reason != nil {
				c.failed <- fmt.Errorf("driver: channel lost: %w", reason)
			}
		case <-c.closed:
		}
	})
	return c, nil
}

// Failed is part of Publisher and Consumer.
func (c *channel) Failed() <-chan error { return c.failed }

func (c *channel) close() error {
	var err error
	c.once.Do(func() {
		close(c.closed)
		err = c.conn.Close()
		c.watch.Wait()
		if errors.Is(err, amqp.ErrClosed) {
			err = nil
		}
	})
	return err
}

type amqpPublisher struct {
	*channel
	to       Route
	confirms sync.WaitGroup
}

// OpenPublisher implements Driver.
func (AMQP091) OpenPublisher(url string, to Route, confirmed func(tag uint64, multiple, ack bool)) (Publisher, error) {
	c, err := openChannel(url)
	if err != nil {
		return nil, err
	}
	if err := c.ch.Confirm(false); err != nil {
		return nil, errors.Join(fmt.Errorf("driver: confirm.select: %w", err), c.close())
	}
	p := &amqpPublisher{channel: c, to: to.published()}
	// amqp091-go takes apart the broker's multiple confirms itself.
	confirms := c.ch.NotifyPublish(make(chan amqp.Confirmation, 1024))
	p.confirms.Go(func() {
		for confirm := range confirms {
			confirmed(confirm.DeliveryTag, false, confirm.Ack)
		}
	})
	return p, nil
}

func (p *amqpPublisher) Publish(persistent bool, body []byte) error {
	message := amqp.Publishing{ContentType: "application/octet-stream", Body: body}
	if persistent {
		message.DeliveryMode = amqp.Persistent
	}
	return p.ch.PublishWithContext(context.Background(), p.to.Exchange, p.to.Queue, false, false, message)
}

// Flush does nothing: amqp091-go writes each publish to the socket at once.
func (p *amqpPublisher) Flush() error { return nil }

func (p *amqpPublisher) Close() error {
	err := p.close()
	p.confirms.Wait()
	return err
}

type amqpConsumer struct {
	*channel
	deliveries sync.WaitGroup
}

// OpenConsumer implements Driver.
func (AMQP091) OpenConsumer(url string, from Route, prefetch int, deliver func(Delivery)) (Consumer, error) {
	c, err := openChannel(url)
	if err != nil {
		return nil, err
	}
	if err := c.ch.Qos(prefetch, 0, false); err != nil {
		return nil, errors.Join(fmt.Errorf("driver: qos: %w", err), c.close())
	}
	deliveries, err := c.ch.Consume(from.Queue, "", false, false, false, false, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: consume: %w", err), c.close())
	}
	consumer := &amqpConsumer{channel: c}
	consumer.deliveries.Go(func() {
		for d := range deliveries {
			deliver(Delivery{Tag: d.DeliveryTag, Redelivered: d.Redelivered, Body: d.Body})
		}
	})
	return consumer, nil
}

func (c *amqpConsumer) Ack(tag uint64, multiple bool) error { return c.ch.Ack(tag, multiple) }

func (c *amqpConsumer) Close() error {
	err := c.close()
	c.deliveries.Wait()
	return err
}
