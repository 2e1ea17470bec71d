package mirrormqtest_test

import (
	"testing"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/client/mirrormqtest"
)

func TestABrokerStartsAgainOnItsData(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	server := mirrormqtest.Start(t, mirrormqtest.Dir(dir), mirrormqtest.HTTP())
	if server.HTTPURL() == "" {
		t.Error("no HTTP URL")
	}
	c, err := client.Dial(ctx, server.URL(), client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Declare(ctx, client.Queue{Name: "q"}); err != nil {
		t.Fatal(err)
	}
	p, err := c.NewProducer(ctx, client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(ctx, client.Message{RoutingKey: "q", Body: []byte("kept")}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}

	server = mirrormqtest.Start(t, mirrormqtest.Dir(dir))
	if server.HTTPURL() != "" {
		t.Errorf("HTTP URL %q", server.HTTPURL())
	}
	if c, err = client.Dial(ctx, server.URL(), client.Config{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	for d, err := range c.Deliveries(ctx, "q", client.ConsumerConfig{UntilEmpty: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(d.Body) != "kept" {
			t.Errorf("got %q", d.Body)
		}
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := mirrormqtest.New()
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
