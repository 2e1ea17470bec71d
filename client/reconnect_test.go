package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/client/mirrormqtest"
)

// Connections break while messages flow, and confirms and acks get lost: nobody
// notices, and each message is handled.
func TestProducersAndConsumersOutliveTheirConnections(t *testing.T) {
	cutter, url := newProxy(t, mirrormqtest.Start(t).URL())
	c := dial(t, url, quick())
	declare(t, c, client.Queue{Name: "q"}, client.Queue{Name: "kept"})
	const n = 2000
	p := producer(t, c, client.ProducerConfig{Window: 50})
	var mu sync.Mutex
	seen := map[string]bool{}
	all := make(chan struct{})
	stop := consume(t, c, "q", client.ConsumerConfig{}, func(_ context.Context, d *client.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if body := string(d.Body); !seen[body] {
			if seen[body] = true; len(seen) == n {
				close(all)
			}
		}
		return nil
	})
	for i := range n {
		for _, queue := range []string{"q", "kept"} {
			if _, err := p.PublishAsync(deadline(t), client.Message{RoutingKey: queue, Body: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
		if i%250 == 100 {
			cutter.mute(2 * time.Millisecond)
		}
	}
	await(t, all, "the last message")
	if err := p.Flush(deadline(t)); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	s := c.Stats()
	if s.Confirmed != 2*n || s.Reconnects < 8 {
		t.Errorf("%+v", s)
	}
	t.Logf("%+v", s)
	// Where nobody consumed meanwhile they lie in their order, each once. (What a
	// consumer lost with its connection comes back to it behind what is delivered
	// already.)
	kept := take(t, c, "kept")
	for i, d := range kept {
		if string(d.Body) != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", d.Body, i)
		}
	}
	if len(kept) != n {
		t.Errorf("%d kept", len(kept))
	}
}

func TestWhatWasDeclaredIsDeclaredAgain(t *testing.T) {
	cutter, url := newProxy(t, mirrormqtest.Start(t).URL())
	c := dial(t, url, logged(t))
	exclusive := client.Queue{Name: client.UniqueName("mine-"), Exclusive: true, Transient: true}
	declare(t, c, exclusive,
		client.Exchange{Name: "events", Kind: "topic", Transient: true, AutoDelete: true},
		client.Binding{Exchange: "events", Queue: exclusive.Name, RoutingKey: "a.*"},
		client.Queue{Name: "gone"})
	if err := c.Delete(deadline(t), client.Queue{Name: "gone"}, client.Queue{Name: "never there"}); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	stop := consume(t, c, exclusive.Name, client.ConsumerConfig{}, func(_ context.Context, d *client.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	p := producer(t, c, client.ProducerConfig{})
	states := c.Watch()
	for i := range 4 {
		if err := p.Publish(deadline(t), client.Message{Exchange: "events", RoutingKey: "a.b", Body: fmt.Append(nil, i)}); err != nil {
			t.Error(err)
		}
		if body := await(t, got, "a message"); body != fmt.Sprint(i) {
			t.Errorf("got %s, want %d", body, i)
		}
		cutter.cut()
		// A message to the queue that went with the connection went with it, too.
		for s := range states {
			if s.Role == client.Consuming && s.State == client.Connected {
				break
			}
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	var missing *client.BrokerError
	if _, err := c.Inspect(deadline(t), "gone"); !errors.As(err, &missing) || missing.Code != 404 {
		t.Errorf("what was deleted: %v", err)
	}
}

func TestAClientGoesOnWithAnotherBroker(t *testing.T) {
	a, b := startFake(t, confirmAll), startFake(t, confirmAll)
	c := dial(t, "amqp://127.0.0.1:1,"+a.url()+", "+b.url(), logged(t))
	states := c.Watch()
	p := producer(t, c, client.ProducerConfig{})
	if err := p.Publish(deadline(t), client.Message{}); err != nil {
		t.Fatal(err)
	}
	a.stop()
	if err := p.Publish(deadline(t), client.Message{}); err != nil {
		t.Fatal(err)
	}
	// Lost and found again, each connection.
	connected := map[client.Role]bool{}
	for s := range states {
		if s.State == client.Connected && strings.Contains(b.url(), s.Broker) {
			connected[s.Role] = true
		}
		if len(connected) == 2 {
			break
		}
	}
}

// confirmAll is a broker that takes everything.
func confirmAll(ch *fakeChannel, p published) { ch.ack(p.tag) }

// A broker tells of the others of its cluster; the client needs to be told of
// one only.
func TestAClientLearnsOfOtherBrokers(t *testing.T) {
	a, b := startFake(t, confirmAll), startFake(t, confirmAll)
	a.properties["cluster_nodes"] = []any{a.listener.Addr().String(), b.listener.Addr().String()}
	c := dial(t, a.url(), logged(t))
	p := producer(t, c, client.ProducerConfig{})
	a.stop()
	if err := p.Publish(deadline(t), client.Message{}); err != nil {
		t.Fatal(err)
	}
}

func TestDialSaysWhatIsWrong(t *testing.T) {
	url := mirrormqtest.Start(t).URL()
	for _, test := range []struct {
		urls string
		code int // the broker's
		want string
	}{
		{"amqp://127.0.0.1:1,amqp://127.0.0.1:2", 0, "127.0.0.1:2"},
		{strings.Replace(url, "guest:guest", "guest:wrong", 1), 403, `as "guest"`},
		{strings.TrimSuffix(url, "/") + "/nowhere", 530, `vhost "nowhere"`},
		{"http://127.0.0.1", 0, "amqp://user:password@host:5672/vhost"},
		{"", 0, "URL"},
		{"amqp://user:sec%zzret@127.0.0.1", 0, "URL"},
	} {
		_, err := client.Dial(deadline(t), test.urls, quick())
		if err == nil {
			t.Errorf("%s: no error", test.urls)
			continue
		}
		var refused *client.BrokerError
		if code := 0; errors.As(err, &refused) && refused.Server {
			if code = refused.Code; code != test.code {
				t.Errorf("%s: code %d, want %d", test.urls, code, test.code)
			}
		}
		if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "ret@") {
			t.Errorf("%s: %v", test.urls, err)
		}
	}
	if _, err := client.Dial(deadline(t), url, client.Config{MinBackoff: 2, MaxBackoff: 1}); err == nil {
		t.Error("backoffs the wrong way round are accepted")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := client.Dial(ended, url, quick()); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}
