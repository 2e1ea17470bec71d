package broker

import (
	"strings"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// A group that refuses what it is handed has its publishers hear a nack.
func TestRefusedPublishesAreNacked(t *testing.T) {
	f, address := serveFront(t, memoryBroker(t, 2))
	sound := f.group
	f.group = func(id groupID) queueGroup {
		if id == 1 {
			return refusingOver{sound(id)}
		}
		return sound(id)
	}
	c := openChannelRaw(t, address)
	// Names until there is a queue in each group.
	var refusing, taking string
	for name := 'a'; refusing == "" || taking == ""; name++ {
		c.declare(string(name), durableQueue)
		if q := f.core.(*Broker).findQueue("/", string(name)); q.Group == 1 {
			refusing = q.Name
		} else {
			taking = q.Name
		}
		call[*amqp.QueueBindOk](c, &amqp.QueueBind{Queue: string(name), Exchange: "amq.fanout"})
	}
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	c.publish("", taking, "body")
	if ack := receive[*amqp.BasicAck](c, 1); ack.DeliveryTag != 1 {
		t.Errorf("%+v", ack)
	}
	c.publish("", refusing, "body")
	if nack := receive[*amqp.BasicNack](c, 1); nack.DeliveryTag != 2 || nack.Multiple {
		t.Errorf("%+v", nack)
	}
	c.publish("", refusing, strings.Repeat("x", 300_000)) // By itself.
	if nack := receive[*amqp.BasicNack](c, 1); nack.DeliveryTag != 3 {
		t.Errorf("%+v", nack)
	}
	// Of two groups one refuses: nacked, once both have said so.
	c.publish("amq.fanout", "", "body")
	if nack := receive[*amqp.BasicNack](c, 1); nack.DeliveryTag != 4 {
		t.Errorf("%+v", nack)
	}
	c.publish("", taking, "body")
	if ack := receive[*amqp.BasicAck](c, 1); ack.DeliveryTag != 5 {
		t.Errorf("%+v", ack)
	}
	if list := f.listChannels(); len(list) != 1 || list[0].Unconfirmed != 0 || !list[0].Confirm {
		t.Errorf("%+v", list)
	}

	d := openChannelRaw(t, address)
	call[*amqp.TxSelectOk](d, &amqp.TxSelect{})
	d.publish("", refusing, "body")
	d.send(1, &amqp.TxCommit{})
	d.connectionError(541, "INTERNAL_ERROR - transaction not committed: "+errStopping.Error())
}
