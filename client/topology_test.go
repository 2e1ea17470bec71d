package client

import (
	"fmt"
	"testing"
	"time"
)

func TestAQueuesFieldsAreItsArguments(t *testing.T) {
	q := Queue{
		Name: "q", Type: QuorumQueue, AckQuorum: "all", TTL: time.Second, Expires: time.Minute,
		MaxLength: 10, MaxBytes: 1 << 20, Overflow: RejectPublish, DeadLetter: &DeadLetter{RoutingKey: "dead"},
		MaxPriority: 5, DeliveryLimit: 4, SingleActive: true, Arguments: Headers{"x-own": "1", "x-expires": int64(5)},
	}
	const want = "map[x-ack-quorum:all x-dead-letter-exchange: x-dead-letter-routing-key:dead x-delivery-limit:4 " +
		"x-expires:5 x-max-length:10 x-max-length-bytes:1048576 x-max-priority:5 x-message-ttl:1000 x-overflow:reject-publish " +
		"x-own:1 x-queue-type:quorum x-single-active-consumer:true]"
	if got := fmt.Sprint(q.arguments()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (Queue{Name: "q"}).arguments(); len(got) != 0 {
		t.Errorf("of a plain queue: %v", got)
	}
}

func TestDeclarationsThatMakeNoSense(t *testing.T) {
	for _, item := range []Declaration{
		Queue{}, Queue{Name: "q", TTL: -1}, Exchange{Name: "e"}, Exchange{Kind: "topic"}, Binding{Queue: "q"},
		Binding{Exchange: "e"}, Binding{Exchange: "e", Queue: "q", ToExchange: "e2"},
	} {
		if item.validate() == nil {
			t.Errorf("%+v is accepted", item)
		}
	}
}

func TestDeclarationsAreRemembered(t *testing.T) {
	var d declared
	d.remember(Queue{Name: "q"})
	d.remember(Queue{Name: "mine", Exclusive: true})
	d.remember(Exchange{Name: "e", Kind: "topic"})
	for _, queue := range []string{"q", "mine"} {
		d.remember(Binding{Exchange: "e", Queue: queue})
		d.remember(Binding{Exchange: "e", Queue: queue}) // Once only.
	}
	d.remember(Queue{Name: "q", TTL: time.Second}) // In the place of the first.
	if got := d.all(Consuming); len(got) != 5 || got[0].(Queue).TTL != time.Second {
		t.Errorf("for consuming: %+v", got)
	}
	if got := d.all(Publishing); len(got) != 3 {
		t.Errorf("for publishing: %+v", got)
	}
	if got := d.of("mine"); len(got) != 3 {
		t.Errorf("of a queue: %+v", got)
	}
	d.forget(Queue{Name: "mine"})
	if got := d.all(Consuming); len(got) != 3 {
		t.Errorf("after deleting a queue: %+v", got)
	}
	d.forget(Exchange{Name: "e"})
	if got := d.all(Consuming); len(got) != 1 {
		t.Errorf("after deleting an exchange: %+v", got)
	}
}
