package driver

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// amqpAdmin is a connection for declaring and deleting over AMQP. It is off
// the hot path and so amqp091-go's for both drivers.
type amqpAdmin struct {
	conn *amqp.Connection
	ch   *amqp.Channel
}

// openAMQPAdmin implements Driver for those that speak AMQP.
func openAMQPAdmin(url string) (Admin, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("driver: connect: %w", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: open channel: %w", err), conn.Close())
	}
	return &amqpAdmin{conn: conn, ch: ch}, nil
}

// OpenAdmin implements Driver.
func (AMQP091) OpenAdmin(url string) (Admin, error) { return openAMQPAdmin(url) }

// OpenAdmin implements Driver.
func (Lean) OpenAdmin(url string) (Admin, error) { return openAMQPAdmin(url) }

// published is the route as basic.publish has it: a fanout exchange needs no
// routing key.
func (r Route) published() Route {
	if r.Exchange != "" {
		r.Queue = ""
	}
	return r
}

// Declare makes the queues, and with an exchange (fanout, durable) binds them.
func (a *amqpAdmin) Declare(t Topology) error {
	arguments := amqp.Table{}
	for name, value := range map[string]string{"x-queue-type": t.QueueType, "x-ack-quorum": t.AckQuorum} {
		if value != "" {
			arguments[name] = value
		}
	}
	if t.Exchange != "" {
		if err := a.ch.ExchangeDeclare(t.Exchange, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
			return fmt.Errorf("driver: declare %s: %w", t.Exchange, err)
		}
	}
	for _, queue := range t.Queues {
		if _, err := a.ch.QueueDeclare(queue, true, false, false, false, arguments); err != nil {
			return fmt.Errorf("driver: declare %s: %w", queue, err)
		}
		if t.Exchange == "" {
			continue
		}
		if err := a.ch.QueueBind(queue, "", t.Exchange, false, nil); err != nil {
			return fmt.Errorf("driver: bind %s: %w", queue, err)
		}
	}
	return nil
}

// Delete removes what Declare made.
func (a *amqpAdmin) Delete(t Topology) error {
	for _, queue := range t.Queues {
		if _, err := a.ch.QueueDelete(queue, false, false, false); err != nil {
			return fmt.Errorf("driver: delete %s: %w", queue, err)
		}
	}
	if t.Exchange == "" {
		return nil
	}
	if err := a.ch.ExchangeDelete(t.Exchange, false, false); err != nil {
		return fmt.Errorf("driver: delete %s: %w", t.Exchange, err)
	}
	return nil
}

// Close closes the connection.
func (a *amqpAdmin) Close() error { return a.conn.Close() }
