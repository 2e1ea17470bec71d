package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/client/mirrormqtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to come.
const patience = 30 * time.Second

// deadline is a context that ends with the test's patience.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// quick is a configuration that reconnects at once.
func quick() client.Config {
	return client.Config{MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond, InOrder: true}
}

// logged is quick with a log that shows in the test's output.
func logged(t testing.TB) client.Config {
	c := quick()
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return c
}

// dial connects a client that is closed when the test ends.
func dial(t testing.TB, urls string, config client.Config) *client.Client {
	t.Helper()
	c, err := client.Dial(deadline(t), urls, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// producer makes a producer of c.
func producer(t testing.TB, c *client.Client, config client.ProducerConfig) *client.Producer {
	t.Helper()
	p, err := c.NewProducer(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// setup is a client of a broker of its own with a queue "q".
func setup(t testing.TB, options ...mirrormqtest.Option) *client.Client {
	t.Helper()
	c := dial(t, mirrormqtest.Start(t, options...).URL(), logged(t))
	declare(t, c, client.Queue{Name: "q"})
	return c
}

func declare(t testing.TB, c *client.Client, items ...client.Declaration) {
	t.Helper()
	if err := c.Declare(deadline(t), items...); err != nil {
		t.Fatal(err)
	}
}

// publish publishes bodies to a queue, in order.
func publish(t testing.TB, c *client.Client, queue string, bodies ...string) {
	t.Helper()
	p := producer(t, c, client.ProducerConfig{})
	for _, body := range bodies {
		if err := p.Publish(deadline(t), client.Message{RoutingKey: queue, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// take acks and returns what waits in a queue.
func take(t testing.TB, c *client.Client, queue string) []client.Delivery {
	t.Helper()
	var all []client.Delivery
	for d, err := range c.Deliveries(deadline(t), queue, client.ConsumerConfig{UntilEmpty: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *d)
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// bodies are those of deliveries, as a text.
func bodies(all []client.Delivery) string {
	var list []string
	for _, d := range all {
		list = append(list, string(d.Body))
	}
	return fmt.Sprint(list)
}

// await receives from c, or fails the test.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s does not come", what)
		panic("unreachable after Fatalf")
	}
}
