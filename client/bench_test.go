package client_test

import (
	"context"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/internal/amqp"
)

// benchWindow is how many messages are unconfirmed at a time, benchSize their
// size in bytes.
const (
	benchWindow = 500
	benchSize   = 1024
)

// BenchmarkPublish compares the SDK's producer with amqp091-go itself, one
// goroutine and a window, against a broker that only confirms. "bare" publishes a
// body and nothing else; "bare with headers" also what the SDK's messages carry
// to be idempotent: an id, and two headers. What the SDK adds itself is seen by
// setting "not idempotent" beside "bare with id", and "idempotent" beside "bare
// with headers".
func BenchmarkPublish(b *testing.B) {
	body := make([]byte, benchSize)
	id := "p-ABTJVXGG4JHXAHGWYN3EOXDQ56-1000000"
	bare := func(publishing func(n int64) amqp091.Publishing) func(b *testing.B) {
		return func(b *testing.B) { benchBare(b, publishing) }
	}
	b.Run("bare", bare(func(int64) amqp091.Publishing {
		return amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: body}
	}))
	b.Run("bare with id", bare(func(int64) amqp091.Publishing {
		return amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: body, MessageId: id}
	}))
	b.Run("bare with headers", bare(func() func(int64) amqp091.Publishing {
		headers := amqp091.Table{"x-producer": id}
		return func(n int64) amqp091.Publishing {
			headers["x-producer-sequence"] = n
			return amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: body, MessageId: id, Headers: headers}
		}
	}()))
	b.Run("async not idempotent", func(b *testing.B) {
		benchAsync(b, client.ProducerConfig{Window: benchWindow, NotIdempotent: true}, client.Message{RoutingKey: "q", Body: body, MessageID: id})
	})
	b.Run("async idempotent", func(b *testing.B) {
		benchAsync(b, client.ProducerConfig{Window: benchWindow}, client.Message{RoutingKey: "q", Body: body})
	})
	b.Run("sync idempotent", func(b *testing.B) {
		benchSync(b, client.Message{RoutingKey: "q", Body: body})
	})
}

// benchBare publishes as a careful user of amqp091-go does: deferred confirms,
// waited for in order, behind a window.
func benchBare(b *testing.B, publishing func(int64) amqp091.Publishing) {
	conn, err := amqp091.Dial(startNull(b))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	pending := make(chan *amqp091.DeferredConfirmation, benchWindow)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for confirmation := range pending {
			if !confirmation.Wait() {
				b.Error("nacked")
			}
		}
	}()
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		n++
		confirmation, err := ch.PublishWithDeferredConfirm("", "q", true, false, publishing(n))
		if err != nil {
			b.Fatal(err)
		}
		pending <- confirmation
	}
	close(pending)
	<-done
}

func benchAsync(b *testing.B, config client.ProducerConfig, m client.Message) {
	p := producer(b, dial(b, startNull(b), client.Config{}), config)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.PublishAsync(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		b.Fatal(err)
	}
}

// benchSync publishes from many goroutines, each waiting for its confirm.
func benchSync(b *testing.B, m client.Message) {
	p := producer(b, dial(b, startNull(b), client.Config{}), client.ProducerConfig{Window: benchWindow})
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(loop *testing.PB) {
		for loop.Next() {
			if err := p.Publish(context.Background(), m); err != nil {
				b.Error(err)
			}
		}
	})
}

// startNull starts a broker that confirms publishes, many at once, and does
// nothing else: it takes as little as possible of the machine's cores.
func startNull(b *testing.B) (url string) {
	f := startFake(b, nil)
	f.serve = func(c *fakeConn) error { return c.serveNull() }
	return f.url()
}

// serveNull answers as play does, until the first publish: from then on it only
// counts them.
func (c *fakeConn) serveNull() error {
	reader := amqp.NewReader(c.socket, 131072)
	if err := reader.ProtocolHeader(); err != nil {
		return err
	}
	c.start()
	var published, confirmed uint64
	for {
		frame, err := reader.Next()
		if err != nil {
			return err
		}
		if frame.Type == amqp.FrameMethod {
			if id, _, _ := amqp.CutMethod(frame.Payload); id == amqp.IDBasicPublish {
				published++
			} else if err := c.method(frame); err != nil {
				return err
			}
		}
		if published > confirmed && frame.Type == amqp.FrameBody && !reader.Buffered() {
			confirmed = published
			c.write(amqp.AppendAck(nil, frame.Channel, confirmed, true))
		}
	}
}
