package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/client/mirrormqtest"
)

// connect is a client of an embedded broker, which stands for a cluster here.
func connect() (c *client.Client, done func()) {
	server, err := mirrormqtest.New()
	if err != nil {
		log.Panic(err)
	}
	c, err = client.Dial(context.Background(), server.URL(), client.Config{})
	if err != nil {
		log.Panic(err)
	}
	return c, func() {
		if err := errors.Join(c.Close(context.Background()), server.Stop()); err != nil {
			log.Panic(err)
		}
	}
}

func Example() {
	c, done := connect() // c, err := client.Dial(ctx, "amqp://b1,amqp://b2,amqp://b3", client.Config{})
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Declare(ctx, client.Queue{Name: "greetings"}); err != nil {
		log.Panic(err)
	}
	p, err := c.NewProducer(ctx, client.ProducerConfig{})
	if err != nil {
		log.Panic(err)
	}
	if err := p.Publish(ctx, client.Message{RoutingKey: "greetings", Body: []byte("hello")}); err != nil {
		log.Panic(err) // Not confirmed: errors.Is and errors.As tell why.
	}
	err = c.Consume(ctx, "greetings", client.ConsumerConfig{}, func(_ context.Context, d *client.Delivery) error {
		fmt.Printf("%s\n", d.Body)
		cancel() // A service consumes until it is stopped.
		return nil
	})
	if err != nil {
		log.Panic(err)
	}
	// Output: hello
}

func ExampleProducer_Publish() {
	c, done := connect()
	defer done()
	ctx := context.Background()
	p, err := c.NewProducer(ctx, client.ProducerConfig{})
	if err != nil {
		log.Panic(err)
	}
	err = p.Publish(ctx, client.Message{RoutingKey: "nobody declared this"})
	var unroutable *client.UnroutableError
	var refused *client.BrokerError
	switch {
	case err == nil:
		fmt.Println("it is at its queue's ack quorum")
	case errors.As(err, &unroutable):
		fmt.Println("no queue takes it:", unroutable.Text)
	case errors.As(err, &refused):
		fmt.Println("it may not be published:", refused.Code, refused.Reason)
	case errors.Is(err, client.ErrNacked), errors.Is(err, client.ErrNotSent):
		fmt.Println("it is in no queue, and can be published again")
	case errors.Is(err, client.ErrUnconfirmed):
		fmt.Println("it may be in its queue or not")
	}
	// Output: no queue takes it: NO_ROUTE
}

func ExampleProducer_PublishAsync() {
	c, done := connect()
	defer done()
	ctx := context.Background()
	if err := c.Declare(ctx, client.Queue{Name: "events"}); err != nil {
		log.Panic(err)
	}
	p, err := c.NewProducer(ctx, client.ProducerConfig{Window: 200})
	if err != nil {
		log.Panic(err)
	}
	var confirmations []client.Confirmation
	for i := range 1000 {
		// Waits while 200 are unconfirmed.
		confirmation, err := p.PublishAsync(ctx, client.Message{RoutingKey: "events", Body: fmt.Append(nil, i)})
		if err != nil {
			log.Panic(err)
		}
		confirmations = append(confirmations, confirmation)
	}
	for _, confirmation := range confirmations {
		if err := confirmation.Wait(ctx); err != nil {
			log.Panic(err)
		}
	}
	info, err := c.Inspect(ctx, "events")
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(info.Messages)
	// Output: 1000
}

func ExampleClient_Consume() {
	c, done := connect()
	defer done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := c.Declare(ctx,
		client.Queue{Name: "failed"},
		client.Queue{Name: "orders", DeadLetter: &client.DeadLetter{RoutingKey: "failed"}})
	if err != nil {
		log.Panic(err)
	}
	publishAll(ctx, c, "orders", "good", "bad")
	config := client.ConsumerConfig{
		Retry:     client.Retry{Attempts: 3, Min: time.Millisecond},
		OnFailure: client.ThenDeadLetter,
	}
	err = c.Consume(ctx, "orders", config, func(_ context.Context, d *client.Delivery) error {
		fmt.Printf("%s: attempt %d\n", d.Body, d.Attempt)
		if string(d.Body) == "good" {
			return nil
		}
		if d.Attempt == 3 {
			cancel()
		}
		return errors.New("no good")
	})
	if err != nil {
		log.Panic(err)
	}
	// Output:
	// good: attempt 1
	// bad: attempt 1
	// bad: attempt 2
	// bad: attempt 3
}

func ExampleClient_Deliveries() {
	c, done := connect()
	defer done()
	ctx := context.Background()
	if err := c.Declare(ctx, client.Queue{Name: "jobs"}); err != nil {
		log.Panic(err)
	}
	publishAll(ctx, c, "jobs", "1", "2", "3")
	for d, err := range c.Deliveries(ctx, "jobs", client.ConsumerConfig{UntilEmpty: true}) {
		if err != nil {
			log.Panic(err)
		}
		fmt.Printf("%s\n", d.Body)
		if err := d.Ack(); err != nil {
			log.Print(err) // It is delivered again.
		}
	}
	// Output:
	// 1
	// 2
	// 3
}

func ExampleClient_Declare() {
	c, done := connect()
	defer done()
	err := c.Declare(context.Background(),
		client.Exchange{Name: "events", Kind: "topic"},
		client.Queue{Name: "audit", AckQuorum: "all", TTL: 30 * 24 * time.Hour},
		client.Binding{Exchange: "events", Queue: "audit", RoutingKey: "order.#"})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleNewSender() {
	type Order struct {
		ID    int
		Items []string
	}
	c, done := connect()
	defer done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := c.Declare(ctx, client.Queue{Name: "orders"}); err != nil {
		log.Panic(err)
	}
	p, err := c.NewProducer(ctx, client.ProducerConfig{})
	if err != nil {
		log.Panic(err)
	}
	orders := client.NewSender[Order](p, client.JSON, client.Message{RoutingKey: "orders"})
	if err := orders.Send(ctx, Order{1, []string{"tea"}}); err != nil {
		log.Panic(err)
	}
	handler := client.Decode(client.JSON, func(_ context.Context, o Order, d *client.Delivery) error {
		fmt.Println(o, d.ContentType)
		cancel()
		return nil
	})
	if err := c.Consume(ctx, "orders", client.ConsumerConfig{}, handler); err != nil {
		log.Panic(err)
	}
	// Output: {1 [tea]} application/json
}

// publishAll publishes bodies to a queue.
func publishAll(ctx context.Context, c *client.Client, queue string, bodies ...string) {
	p, err := c.NewProducer(ctx, client.ProducerConfig{})
	if err != nil {
		log.Panic(err)
	}
	for _, body := range bodies {
		if err := p.Publish(ctx, client.Message{RoutingKey: queue, Body: []byte(body)}); err != nil {
			log.Panic(err)
		}
	}
}
