package broker

import (
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

func TestAQueuesTrafficIsCounted(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("q", nil)
	for range 5 {
		c.confirmed("q", amqp091.Publishing{Body: []byte("m")})
	}
	if _, ok, err := c.Get("q", true); err != nil || !ok {
		t.Fatal(ok, err)
	}
	deliveries, err := c.Consume("q", "", false, false, false, false, nil)
	must(t, err)
	must(t, next(t, deliveries).Nack(false, true))
	for range 4 {
		must(t, next(t, deliveries).Ack(false))
	}
	emptied(t, b, "q")
	q, _, err := source{b}.Queue("/", "q")
	must(t, err)
	if q.Publish != 5 || q.Get != 1 || q.Deliver != 5 || q.Redeliver != 1 || q.Ack != 5 {
		t.Errorf("%+v", q.Counters)
	}
}
