package bench

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// admin is a connection for declaring, deleting and looking at queues. It is
// off the hot path and so always amqp091-go's.
type admin struct {
	conn *amqp.Connection
	ch   *amqp.Channel
}

func openAdmin(url string) (*admin, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("bench: connect: %w", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: open channel: %w", err), conn.Close())
	}
	return &admin{conn: conn, ch: ch}, nil
}

// declare makes a durable queue of the given x-queue-type ("" for the
// broker's default).
func (a *admin) declare(queue, queueType string) error {
	arguments := amqp.Table{}
	if queueType != "" {
		arguments["x-queue-type"] = queueType
	}
	if _, err := a.ch.QueueDeclare(queue, true, false, false, false, arguments); err != nil {
		return fmt.Errorf("bench: declare %s: %w", queue, err)
	}
	return nil
}

func (a *admin) delete(queue string) error {
	if _, err := a.ch.QueueDelete(queue, false, false, false); err != nil {
		return fmt.Errorf("bench: delete %s: %w", queue, err)
	}
	return nil
}

func (a *admin) close() error { return a.conn.Close() }
