// Package client is the Go SDK of MirrorMQ: producers and consumers that
// outlive their brokers. It speaks AMQP 0-9-1 through rabbitmq/amqp091-go, so
// it works against RabbitMQ too.
//
//	c, err := client.Dial(ctx, "amqp://b1,amqp://b2,amqp://b3", client.Config{})
//	defer c.Close(context.Background())
//	err = c.Declare(ctx, client.Queue{Name: "orders", AckQuorum: "majority"})
//
//	p, err := c.NewProducer(ctx, client.ProducerConfig{})
//	err = p.Publish(ctx, client.Message{RoutingKey: "orders", Body: body})
//
//	err = c.Consume(ctx, "orders", client.ConsumerConfig{},
//		func(ctx context.Context, d *client.Delivery) error { … })
//
// # What survives
//
// A [Client] holds one connection for consumers and declarations and, once
// there is a producer, a second one for publishing: a broker that pushes back
// on publishers stops reading their socket, and acknowledgements must not wait
// behind it. When a connection breaks the client connects to another broker of
// its list, or to one that the cluster has told it of, declares again what it
// had declared, and goes on. Nobody who publishes or consumes notices more than
// a pause. [Client.Watch] and the logger tell.
//
// A [Producer] publishes again, in their order, what was unconfirmed when its
// connection broke. Each message carries the producer's name and a sequence
// (the headers x-producer and x-producer-sequence), and MirrorMQ drops what it
// has: a retry makes no duplicate. RabbitMQ passes over these headers, there a
// retry may deliver a message twice.
//
// A [Handler] that returns nil has its delivery acknowledged. What becomes of
// it after an error is the consumer's [Retry] and [OnFailure]. A delivery whose
// connection broke while it was handled is delivered again, flagged as
// redelivered: handlers have to bear that.
//
// # Goroutine safety
//
// A Client and a Producer may be used from many goroutines at once. A Delivery
// belongs to whoever it was given to.
package client
