package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// dial connects a client, which is closed when the test ends.
func dial(t testing.TB, address string) *amqp091.Connection {
	t.Helper()
	c, err := amqp091.Dial("amqp://guest:guest@" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func openChannel(t testing.TB, c *amqp091.Connection) *amqp091.Channel {
	t.Helper()
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestPublishedMessagesAreConfirmedAndConsumedInOrder(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 2))
	publisher, consumer := openChannel(t, dial(t, address)), openChannel(t, dial(t, address))
	if _, err := publisher.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := publisher.Confirm(false); err != nil {
		t.Fatal(err)
	}
	const n = 1000
	confirms := publisher.NotifyPublish(make(chan amqp091.Confirmation, n))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() {
		for i := range n {
			err := publisher.PublishWithContext(ctx, "", "q", false, false, amqp091.Publishing{Body: fmt.Append(nil, i)})
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	if err := consumer.Qos(50, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries, err := consumer.Consume("q", "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		select {
		case d := <-deliveries:
			if string(d.Body) != fmt.Sprint(i) {
				t.Fatalf("delivery %d is %q", i, d.Body)
			}
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatalf("delivery %d did not come", i)
		}
	}
	for i := range n {
		select {
		case c := <-confirms:
			if !c.Ack {
				t.Fatalf("publish %d was refused", c.DeliveryTag)
			}
		case <-ctx.Done():
			t.Fatalf("confirm %d did not come", i)
		}
	}
}
