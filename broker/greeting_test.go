package broker

import (
	"fmt"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// A gateway greets a leader again that was slow to answer, or when something
// was lost on the way. Everything that its consumers held was returned then and
// came twice, and a queue that goes with its last consumer was gone.
func TestAGatewayThatBeginsAnewKeepsWhatItHolds(t *testing.T) {
	b, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	const held = 10
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	for i := range held {
		c.publish("", "q", fmt.Sprint(i))
		c.delivery()
	}
	other := openChannelRaw(t, address)
	call[*amqp.BasicConsumeOk](other, &amqp.BasicConsume{Queue: "q"})
	for id, w := range b.gateways {
		if id != entry.Topology {
			w.broken(b.config.Name)
			w.again(b.config.Name)
		}
	}
	// Two consumers take turns: each gets one of the next two.
	for i := range 2 {
		c.publish("", "q", fmt.Sprint(held+i))
	}
	for _, consumer := range []*rawClient{c, other} {
		if d, body := consumer.delivery(); d.Redelivered || body != "10" && body != "11" {
			t.Errorf("got message %q, redelivered %t", body, d.Redelivered)
		}
	}
	c.send(1, &amqp.BasicAck{DeliveryTag: held + 1, Multiple: true})
	other.send(1, &amqp.BasicAck{DeliveryTag: 1})
	call[*amqp.ChannelCloseOk](other, &amqp.ChannelClose{})
	call[*amqp.ChannelCloseOk](c, &amqp.ChannelClose{})
	if ok := call[*amqp.QueueDeclareOk](openChannelRaw(t, address), &amqp.QueueDeclare{Queue: "q", Passive: true}); ok.MessageCount != 0 {
		t.Errorf("%d messages are left", ok.MessageCount)
	}
}
