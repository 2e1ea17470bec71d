package client_test

import (
	"context"
	"testing"

	"github.com/mirrormq/mirrormq/client"
)

func TestTypedMessages(t *testing.T) {
	type order struct {
		ID     int
		Amount float64
	}
	c := setup(t)
	declare(t, c, client.Queue{Name: "dead"},
		client.Queue{Name: "orders", DeadLetter: &client.DeadLetter{RoutingKey: "dead"}})
	p := producer(t, c, client.ProducerConfig{})
	orders := client.NewSender[order](p, client.JSON, client.Message{RoutingKey: "orders", Type: "order"})
	text := client.NewSender[string](p, client.Raw, client.Message{RoutingKey: "orders"})
	if err := text.Send(deadline(t), "no order"); err != nil {
		t.Fatal(err)
	}
	confirmation, err := orders.SendAsync(deadline(t), order{1, 2.5})
	if err != nil {
		t.Fatal(err)
	}
	if err := confirmation.Wait(deadline(t)); err != nil {
		t.Fatal(err)
	}
	got := make(chan order, 1)
	stop := consume(t, c, "orders", client.ConsumerConfig{},
		client.Decode(client.JSON, func(_ context.Context, o order, d *client.Delivery) error {
			if d.ContentType != "application/json" || d.Type != "order" {
				t.Errorf("got %+v", d.Message)
			}
			got <- o
			return nil
		}))
	if o := await(t, got, "an order"); o != (order{1, 2.5}) {
		t.Errorf("got %+v", o)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if dead := take(t, c, "dead"); len(dead) != 1 || string(dead[0].Body) != "no order" {
		t.Errorf("dead letters: %s", bodies(dead))
	}
}

func TestTheRawCodecTakesBytesAndText(t *testing.T) {
	for _, value := range []any{[]byte("x"), "x"} {
		if body, err := client.Raw.Marshal(value); err != nil || string(body) != "x" {
			t.Errorf("%T: %q, %v", value, body, err)
		}
	}
	if _, err := client.Raw.Marshal(1); err == nil {
		t.Error("a number is encoded")
	}
	var asBytes []byte
	var asText string
	if client.Raw.Unmarshal([]byte("x"), &asBytes) != nil || client.Raw.Unmarshal([]byte("x"), &asText) != nil {
		t.Error("not decoded")
	}
	if string(asBytes) != "x" || asText != "x" {
		t.Errorf("got %q, %q", asBytes, asText)
	}
	if err := client.Raw.Unmarshal([]byte("x"), new(int)); err == nil {
		t.Error("decoded into a number")
	}
}
