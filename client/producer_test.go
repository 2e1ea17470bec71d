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

func TestAMessageArrivesAsItWasPublished(t *testing.T) {
	c := setup(t)
	p := producer(t, c, client.ProducerConfig{Name: "shop"})
	sent := client.Message{
		RoutingKey: "q", Body: []byte("body"), Headers: client.Headers{"a": "x", "n": int64(5)},
		ContentType: "text/plain", ContentEncoding: "identity", CorrelationID: "c", ReplyTo: "r", Type: "t", AppID: "app",
		Timestamp: time.Unix(1700000000, 0), MessageID: "m", UserID: "guest", Priority: 3, TTL: time.Hour,
		AckQuorum: "all", Transient: true,
	}
	if err := p.Publish(deadline(t), sent); err != nil {
		t.Fatal(err)
	}
	all := take(t, c, "q")
	if len(all) != 1 {
		t.Fatalf("%d messages", len(all))
	}
	got := all[0]
	if got.Queue != "q" || got.Redelivered || got.Attempt != 1 {
		t.Errorf("got %+v", got)
	}
	if got.Headers["x-producer"] != p.Name() || got.Headers["x-producer-sequence"] != int64(1) || !strings.HasPrefix(p.Name(), "shop-") {
		t.Errorf("producer %q: headers %v", p.Name(), got.Headers)
	}
	want := sent
	want.Headers = client.Headers{"a": "x", "n": int64(5), "x-producer": p.Name(), "x-producer-sequence": int64(1), "x-ack-quorum": "all"}
	if fmt.Sprintf("%+v", got.Message) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got.Message, want)
	}
	if len(sent.Headers) != 2 {
		t.Errorf("the caller's headers were changed: %v", sent.Headers)
	}
}

func TestPublishTellsWhatBecameOfAMessage(t *testing.T) {
	c := setup(t)
	p := producer(t, c, client.ProducerConfig{})
	ctx := deadline(t)
	var unroutable *client.UnroutableError
	err := p.Publish(ctx, client.Message{Exchange: "amq.topic", RoutingKey: "nowhere"})
	if !errors.As(err, &unroutable) || *unroutable != (client.UnroutableError{312, "NO_ROUTE", "amq.topic", "nowhere"}) {
		t.Errorf("unroutable: %v", err)
	}
	if err := p.Publish(ctx, client.Message{RoutingKey: "nowhere", DropUnroutable: true}); err != nil {
		t.Errorf("dropped: %v", err)
	}
	var refused *client.BrokerError
	if err := p.Publish(ctx, client.Message{Exchange: "missing"}); !errors.As(err, &refused) || refused.Code != 404 {
		t.Errorf("no exchange: %v", err)
	}
	if err := p.Publish(ctx, client.Message{RoutingKey: "q", Body: make([]byte, 17<<20)}); !errors.As(err, &refused) || refused.Code != 406 {
		t.Errorf("too large: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Publish(ended, client.Message{RoutingKey: "q"}); !errors.Is(err, client.ErrNotSent) || !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	for _, m := range []client.Message{
		{RoutingKey: strings.Repeat("k", 256)}, {TTL: -1}, {Headers: client.Headers{"x": struct{}{}}},
		{Headers: client.Headers{"x": []any{client.Headers{strings.Repeat("k", 256): 1}}}},
	} {
		if err := p.Publish(ctx, m); err == nil || errors.Is(err, client.ErrNotSent) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if err := p.Publish(ctx, client.Message{RoutingKey: "q"}); err != nil {
		t.Errorf("after all that: %v", err)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(ctx, client.Message{RoutingKey: "q"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Whoever publishes beside a message that closes the channel notices nothing.
func TestARefusedMessageFailsAlone(t *testing.T) {
	c := setup(t)
	p := producer(t, c, client.ProducerConfig{})
	var confirmations []client.Confirmation
	const n = 200
	for i := range n {
		m := client.Message{RoutingKey: "q", Body: fmt.Append(nil, i)}
		if i%50 == 25 {
			m = client.Message{Exchange: "missing"}
		}
		confirmation, err := p.PublishAsync(deadline(t), m)
		if err != nil {
			t.Fatal(err)
		}
		confirmations = append(confirmations, confirmation)
	}
	for i, confirmation := range confirmations {
		err := confirmation.Wait(deadline(t))
		var refused *client.BrokerError
		if i%50 == 25 && !errors.As(err, &refused) || i%50 != 25 && err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	// Each of the others is there once, though most were sent several times.
	got := take(t, c, "q")
	if len(got) != n-n/50 {
		t.Errorf("%d messages", len(got))
	}
	for i, d := range got {
		if want := i + (i+24)/49; string(d.Body) != fmt.Sprint(want) {
			t.Fatalf("got %s, want %d", d.Body, want)
		}
	}
}

func TestManyGoroutinesPublish(t *testing.T) {
	c := setup(t)
	p := producer(t, c, client.ProducerConfig{Window: 16})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				if err := p.Publish(context.Background(), client.Message{RoutingKey: "q", Body: []byte("x")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := len(take(t, c, "q")); got != 400 {
		t.Errorf("%d messages", got)
	}
	if s := c.Stats(); s.Published != 400 || s.Confirmed != 400 || s.Delivered != 400 || s.Acked != 400 {
		t.Errorf("%+v", s)
	}
}

func TestABatchTellsOfEachMessage(t *testing.T) {
	c := setup(t)
	p := producer(t, c, client.ProducerConfig{})
	batch := []client.Message{{RoutingKey: "q", Body: []byte("1")}, {RoutingKey: "nowhere"}, {RoutingKey: "q", Body: []byte("2")}}
	err := p.PublishBatch(deadline(t), batch)
	var failed *client.BatchError
	var unroutable *client.UnroutableError
	if !errors.As(err, &failed) || !errors.As(err, &unroutable) {
		t.Fatalf("got %v", err)
	}
	if failed.Errors[0] != nil || failed.Errors[1] == nil || failed.Errors[2] != nil {
		t.Errorf("got %v", failed.Errors)
	}
	if err := p.PublishBatch(deadline(t), []client.Message{batch[0], batch[2]}); err != nil {
		t.Error(err)
	}
	if got := bodies(take(t, c, "q")); got != "[1 2 1 2]" {
		t.Errorf("got %s", got)
	}
}

func TestNacksAndConfirmsOutOfTurn(t *testing.T) {
	var mu sync.Mutex
	var held []func()
	f := startFake(t, func(ch *fakeChannel, p published) {
		switch p.body {
		case "no":
			ch.nack(p.tag)
		case "later":
			mu.Lock()
			held = append(held, func() { ch.ack(p.tag) })
			mu.Unlock()
		default:
			ch.ack(p.tag)
		}
	})
	p := producer(t, dial(t, f.url(), logged(t)), client.ProducerConfig{})
	late, err := p.PublishAsync(deadline(t), client.Message{Body: []byte("later")})
	if err != nil {
		t.Fatal(err)
	}
	// These are not held up by the one before them.
	if err := p.Publish(deadline(t), client.Message{Body: []byte("no")}); !errors.Is(err, client.ErrNacked) {
		t.Errorf("got %v", err)
	}
	if err := p.Publish(deadline(t), client.Message{Body: []byte("yes")}); err != nil {
		t.Error(err)
	}
	if err := late.Err(); err != nil {
		t.Errorf("an error before the end: %v", err)
	}
	select {
	case <-late.Done():
		t.Error("done before its confirm")
	default:
	}
	mu.Lock()
	held[0]()
	mu.Unlock()
	if err := late.Wait(deadline(t)); err != nil {
		t.Error(err)
	}
}

// A return is told of before its confirm, and is not lost among many.
func TestManyUnroutableMessages(t *testing.T) {
	for _, config := range []client.ProducerConfig{{}, {NotIdempotent: true}} {
		f := startFake(t, func(ch *fakeChannel, p published) {
			if p.key == "nowhere" {
				ch.giveBack(p)
			}
			ch.ack(p.tag)
		})
		p := producer(t, dial(t, f.url(), quick()), config)
		var all []client.Confirmation
		for i := range 3000 {
			key := "somewhere"
			if i%3 > 0 {
				key = "nowhere"
			}
			confirmation, err := p.PublishAsync(deadline(t), client.Message{RoutingKey: key})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, confirmation)
		}
		for i, confirmation := range all {
			var unroutable *client.UnroutableError
			if err := confirmation.Wait(deadline(t)); errors.As(err, &unroutable) != (i%3 > 0) {
				t.Fatalf("%+v: message %d: %v", config, i, err)
			}
		}
	}
}

// What a broken connection left unconfirmed is published again: all of it, in
// order, with the same ids and sequences, before anything else.
func TestUnconfirmedMessagesArePublishedAgain(t *testing.T) {
	const n = 100
	var mu sync.Mutex
	var first, second []published
	var dropped *fakeConn
	f := startFake(t, func(ch *fakeChannel, p published) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case dropped == nil:
			first = append(first, p)
			if p.sequence <= 5 {
				ch.ack(p.tag)
			}
			if len(first) == n/2 {
				dropped = ch.conn
				ch.drop()
			}
		case ch.conn != dropped:
			second = append(second, p)
			ch.ack(p.tag)
		}
	})
	c := dial(t, f.url(), logged(t))
	p := producer(t, c, client.ProducerConfig{})
	for i := range n {
		if _, err := p.PublishAsync(deadline(t), client.Message{RoutingKey: "q", Body: fmt.Append(nil, i+1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(deadline(t)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, again := range second {
		want := int64(n-len(second)) + int64(i) + 1
		if again.sequence != want || again.body != fmt.Sprint(want) || again.producer != p.Name() || again.id != fmt.Sprintf("%s-%d", p.Name(), want) {
			t.Fatalf("the %d. of the second connection: %+v, want sequence %d", i, again, want)
		}
		if i := int(want) - 1; i < len(first) && first[i].id != again.id {
			t.Fatalf("sequence %d had the id %q and has %q", want, first[i].id, again.id)
		}
	}
	if len(second) < n-5 {
		t.Errorf("%d messages over the second connection", len(second))
	}
	if s := c.Stats(); s.Confirmed != n || s.Republished < n/2-5 {
		t.Errorf("%+v; %d came over the second connection", s, len(second))
	}
}

func TestTimeAndContextEndWaiting(t *testing.T) {
	silent := startFake(t, func(*fakeChannel, published) {})
	c := dial(t, silent.url(), logged(t))
	p := producer(t, c, client.ProducerConfig{Timeout: 50 * time.Millisecond, Window: 2})
	err := p.Publish(deadline(t), client.Message{})
	if !errors.Is(err, client.ErrTimeout) || !errors.Is(err, client.ErrUnconfirmed) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(deadline(t), 10*time.Millisecond, errors.New("had enough"))
	defer cancel()
	if err := p.Publish(ctx, client.Message{}); !errors.Is(err, client.ErrUnconfirmed) || !strings.Contains(err.Error(), "had enough") {
		t.Errorf("got %v", err)
	}
	// Both are in flight still: the window is full.
	if _, err := p.PublishAsync(ctx, client.Message{}); !errors.Is(err, client.ErrNotSent) {
		t.Errorf("got %v", err)
	}
	silent.stop()
	// There they were lost, and are not published again: there is room.
	q := producer(t, c, client.ProducerConfig{Timeout: 50 * time.Millisecond})
	if err := q.Publish(deadline(t), client.Message{}); !errors.Is(err, client.ErrTimeout) || !errors.Is(err, client.ErrNotSent) {
		t.Errorf("got %v", err)
	}
	if err := p.Publish(deadline(t), client.Message{}); !errors.Is(err, client.ErrTimeout) || !errors.Is(err, client.ErrNotSent) {
		t.Errorf("got %v", err)
	}
}

func TestABlockedBrokerPushesBackOnPublishers(t *testing.T) {
	server := mirrormqtest.Start(t, mirrormqtest.Full())
	c := dial(t, server.URL(), logged(t))
	declare(t, c, client.Queue{Name: "q"})
	states := c.Watch()
	p := producer(t, c, client.ProducerConfig{})
	// As RabbitMQ does, the broker blocks whoever publishes.
	first, err := p.PublishAsync(deadline(t), client.Message{RoutingKey: "q"})
	if err != nil {
		t.Fatal(err)
	}
	for s := range states {
		if s.Role == client.Publishing && s.State == client.Blocked {
			break
		}
	}
	ctx, cancel := context.WithTimeout(deadline(t), 20*time.Millisecond)
	defer cancel()
	err = p.Publish(ctx, client.Message{RoutingKey: "q"})
	if !errors.Is(err, client.ErrNotSent) || !strings.Contains(err.Error(), "blocks publishers") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// Its connection reads on, and so learns of the first one's end if there is one.
	if err := first.Err(); err != nil {
		t.Errorf("the first: %v", err)
	}
	// Declaring and consuming go on.
	declare(t, c, client.Queue{Name: "other"})
	take(t, c, "q")
	ended, cancel := context.WithCancel(deadline(t))
	cancel()
	if err := p.Close(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
}

func TestAClosedClientEndsItsProducers(t *testing.T) {
	silent := startFake(t, func(*fakeChannel, published) {})
	c, err := client.Dial(deadline(t), silent.url(), logged(t))
	if err != nil {
		t.Fatal(err)
	}
	p := producer(t, c, client.ProducerConfig{})
	confirmation, err := p.PublishAsync(deadline(t), client.Message{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(deadline(t), 20*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if err := confirmation.Wait(deadline(t)); !errors.Is(err, client.ErrClosed) || !errors.Is(err, client.ErrUnconfirmed) {
		t.Errorf("got %v", err)
	}
	if _, err := c.NewProducer(deadline(t), client.ProducerConfig{}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := c.Declare(deadline(t), client.Queue{Name: "q"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
