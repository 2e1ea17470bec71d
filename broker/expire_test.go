package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// expiring is a message with an expiration.
func expiring(body, expiration string) amqp091.Publishing {
	return amqp091.Publishing{Body: []byte(body), Expiration: expiration}
}

// confirmed publishes to a queue and waits until it is confirmed.
func (c deadLetterClient) confirmed(queue string, messages ...amqp091.Publishing) {
	c.t.Helper()
	must(c.t, c.Confirm(false))
	for _, m := range messages {
		confirmation, err := c.PublishWithDeferredConfirmWithContext(c.t.Context(), "", queue, false, false, m)
		must(c.t, err)
		if ok, err := confirmation.WaitContext(c.t.Context()); !ok || err != nil {
			c.t.Fatalf("not confirmed: %v", err)
		}
	}
}

func (c deadLetterClient) getsNothing(queue string) {
	c.t.Helper()
	if d, ok, err := c.Get(queue, true); ok || err != nil {
		c.t.Fatalf("got %q, %v", d.Body, err)
	}
}

// until polls a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not so in time: %s", what)
		}
	}
}

func TestMessagesExpireByTheirQueuesTTL(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	const ttl = 100 * time.Millisecond
	for i, arguments := range []amqp091.Table{
		{"x-message-ttl": int32(100)},
		{"x-message-ttl": int64(100), "x-queue-type": "quorum"},
	} {
		name := fmt.Sprint("ttl-", i)
		c.declare(name, arguments)
		published := time.Now()
		c.confirmed(name, amqp091.Publishing{}, expiring("", "60000"))
		emptied(t, b, name)
		if took := time.Since(published); took < ttl {
			t.Errorf("expired after %v", took)
		}
		c.getsNothing(name)
	}
	// A queue that is in memory, as the suite of RabbitMQ's Go client has it.
	_, err := c.QueueDeclare("memory", true, true, false, false, amqp091.Table{"x-message-ttl": int32(100)})
	must(t, err)
	published := time.Now()
	c.confirmed("memory", amqp091.Publishing{Body: []byte("ttl")})
	until(t, "the time has passed", func() bool { return time.Since(published) > 2*ttl })
	c.getsNothing("memory")
}

// What a consumer holds stays its own, what waits behind it expires.
func TestMessagesExpireBehindAConsumer(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("q", amqp091.Table{"x-message-ttl": int32(2000)})
	must(t, c.Qos(1, 0, false))
	deliveries := c.consume("q")
	c.confirmed("q", amqp091.Publishing{Body: []byte("held")}, amqp091.Publishing{Body: []byte("late")}, expiring("later", "20"))
	held := next(t, deliveries)
	until(t, "only what is held is left", func() bool { return waiting(t, b, "q") == 1 })
	if c.messages("q") != 0 {
		t.Errorf("%d messages are ready", c.messages("q"))
	}
	c.confirmed("q", amqp091.Publishing{Body: []byte("new")})
	must(t, held.Ack(false))
	if d := next(t, deliveries); string(d.Body) != "new" || d.Redelivered {
		t.Errorf("%q, redelivered %v", d.Body, d.Redelivered)
	}
}

// waiting is the number of messages that a queue has, unacked ones included.
func waiting(t *testing.T, b *Broker, name string) uint64 {
	t.Helper()
	q := b.findQueue("/", name)
	g := b.groups[q.Group]
	n, ok := asked(g.loop, func() uint64 {
		info, _ := g.state.Queue(q.ID)
		return info.Messages
	})
	if !ok {
		t.Fatal("no answer")
	}
	return n
}

func TestMessagesExpireFromTheHead(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("q", nil)
	c.confirmed("q", amqp091.Publishing{Body: []byte("first")}, expiring("second", "1"), expiring("third", "60000"))
	confirmed := time.Now()
	until(t, "the time has passed", func() bool { return time.Since(confirmed) > 100*time.Millisecond })
	if n := c.messages("q"); n != 3 {
		t.Errorf("%d messages, those behind the first must wait", n)
	}
	var got []string
	for {
		d, ok, err := c.Get("q", true)
		must(t, err)
		if !ok {
			break
		}
		got = append(got, string(d.Body))
	}
	if !slices.Equal(got, []string{"first", "third"}) {
		t.Errorf("got %v", got)
	}
	emptied(t, b, "q")
}

func TestMessagesReturnedAfterTheirTimeAreGone(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("q", nil)
	deliveries := c.consume("q")
	c.confirmed("q", expiring("back", "1000"))
	d := next(t, deliveries)
	until(t, "the time has passed", func() bool { return expiredBy(t, b, "q") })
	must(t, d.Nack(false, true))
	emptied(t, b, "q")
	c.confirmed("q", amqp091.Publishing{Body: []byte("new")})
	if d := next(t, deliveries); string(d.Body) != "new" {
		t.Errorf("%q", d.Body)
	}
}

// expiredBy tells whether the time of a queue's first message is over.
func expiredBy(t *testing.T, b *Broker, name string) bool {
	t.Helper()
	at := expiries(t, b, name)
	return len(at) > 0 && at[0] <= time.Now().UnixNano()
}

// expiries are when a queue's messages expire.
func expiries(t *testing.T, b *Broker, name string) []int64 {
	t.Helper()
	q := b.findQueue("/", name)
	g := b.groups[q.Group]
	times, ok := asked(g.loop, func() (times []int64) {
		g.state.Each(q.ID, 0, func(m queue.Message) bool {
			at, _ := g.state.Expiry(q.ID, m.ID)
			times = append(times, at)
			return true
		})
		return times
	})
	if !ok {
		t.Fatal("no answer")
	}
	return times
}

// Without any time a message is for who can take it at once.
func TestMessagesWithoutAnyTime(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("ttl", amqp091.Table{"x-message-ttl": int32(0)})
	c.declare("plain", nil)
	for _, q := range []string{"ttl", "plain"} {
		c.confirmed(q, expiring("lost", "0"))
		emptied(t, b, q)
		deliveries := c.consume(q)
		c.confirmed(q, expiring("taken", "0"))
		if d := next(t, deliveries); string(d.Body) != "taken" {
			t.Errorf("%s: %q", q, d.Body)
		}
	}
}

func TestExpiryOutlivesARestart(t *testing.T) {
	data := t.TempDir()
	b := deadLetterBroker(t, data)
	c := deadLetterChannel(t, b)
	c.declare("ttl", amqp091.Table{"x-message-ttl": int32(60000)})
	c.declare("soon", nil)
	before := time.Now()
	c.confirmed("ttl", amqp091.Publishing{}, expiring("", "30000"), amqp091.Publishing{})
	c.confirmed("soon", expiring("", "2500"), expiring("", "3600000"))
	ttl, soon := expiries(t, b, "ttl"), expiries(t, b, "soon")
	for i, want := range []time.Duration{time.Minute, 30 * time.Second, time.Minute} {
		if at := time.Unix(0, ttl[i]); at.Before(before.Add(want)) || at.After(time.Now().Add(want)) {
			t.Errorf("message %d expires %v after it was published", i, at.Sub(before))
		}
	}
	stopBroker(t, b)

	b = deadLetterBroker(t, data)
	if again := expiries(t, b, "ttl"); !slices.Equal(again, ttl) {
		t.Errorf("after the restart they expire at %v, before it was %v", again, ttl)
	}
	until(t, "the first has expired", func() bool { return waiting(t, b, "soon") == 1 })
	if time.Now().UnixNano() < soon[0] {
		t.Error("it expired too early")
	}
	if again := expiries(t, b, "soon"); again[0] != soon[1] {
		t.Errorf("the second expires at %v, before it was %v", again[0], soon[1])
	}
}

func TestBehaviour23ExpiredMessagesAreDeadLettered(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("dead", nil)
	c.exchange("dlx", "fanout")
	c.bind("dead", "", "dlx")
	c.declare("own", amqp091.Table{"x-dead-letter-exchange": "dlx"})
	c.declare("ttl", amqp091.Table{"x-dead-letter-exchange": "dlx", "x-message-ttl": int32(50)})
	deliveries := c.consume("dead")
	for _, test := range []struct {
		queue, expiration string
		original          any
	}{{"own", "20", "20"}, {"own", "0", "0"}, {"ttl", "60000", "60000"}, {"ttl", "", nil}} {
		c.confirmed(test.queue, expiring(test.queue, test.expiration))
		d := next(t, deliveries)
		must(t, d.Ack(false))
		if deaths := deathCounts(d); !slices.Equal(deaths, []string{test.queue + " expired 1"}) {
			t.Errorf("deaths %v", deaths)
		}
		death := d.Headers["x-death"].([]any)[0].(amqp091.Table)
		if string(d.Body) != test.queue || d.Expiration != "" || death["original-expiration"] != test.original {
			t.Errorf("%+v: %q with expiration %q, death %v", test, d.Body, d.Expiration, death)
		}
		if d.Headers["x-first-death-reason"] != "expired" || d.RoutingKey != test.queue {
			t.Errorf("%+v: key %q, headers %v", test, d.RoutingKey, d.Headers)
		}
		emptied(t, b, test.queue)
	}
}

// A queue of retries: what is rejected waits there and comes back, as often as
// it is rejected. What nobody rejects goes round once.
func TestBehaviour23ExpiredMessagesDontGoRoundForEver(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	to := func(queue string, ttl int32) amqp091.Table {
		return amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": ttl}
	}
	c.declare("a", to("b", 20))
	c.declare("b", to("a", 20))
	c.declare("self", to("self", 20))
	c.confirmed("a", amqp091.Publishing{})
	c.confirmed("self", amqp091.Publishing{})
	for _, q := range []string{"self", "a", "b", "a"} {
		emptied(t, b, q)
	}

	c.declare("work", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "retry"})
	c.declare("retry", to("work", 20))
	c.confirmed("work", amqp091.Publishing{})
	deliveries := c.consume("work")
	for round := range 3 {
		d := next(t, deliveries)
		var want []string
		if round > 0 {
			want = []string{fmt.Sprint("retry expired ", round), fmt.Sprint("work rejected ", round)}
		}
		if deaths := deathCounts(d); !slices.Equal(deaths, want) {
			t.Errorf("round %d: deaths %v, want %v", round, deaths, want)
		}
		must(t, d.Reject(false))
	}
}

func TestGoesRound(t *testing.T) {
	deaths := func(pairs ...string) amqp.Table {
		var events []any
		for pair := range slices.Chunk(pairs, 2) {
			events = append(events, amqp.Table{"queue": pair[0], "reason": pair[1]})
		}
		return amqp.Table{"x-death": events}
	}
	for _, c := range []struct {
		headers amqp.Table
		want    bool
	}{
		{nil, false},
		{amqp.Table{"x-death": "what"}, false},
		{amqp.Table{"x-death": []any{"what"}}, false},
		{deaths("other", "expired"), false},
		{deaths("q", "expired"), true},
		{deaths("other", "expired", "q", "maxlen"), true},
		{deaths("q", "rejected"), false},
		{deaths("other", "rejected", "q", "expired"), false},
		{deaths("other", "expired", "q", "expired", "q", "rejected"), true},
	} {
		if got := goesRound("q", c.headers); got != c.want {
			t.Errorf("%v: %v", c.headers, got)
		}
	}
}

func TestExpirationsAreReadAsTheyAreChecked(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "-0": 0, "+5": 5 * time.Millisecond, "007": 7 * time.Millisecond,
		"315360000000": maxExpiration * time.Millisecond} {
		must(t, validExpiration(text))
		p := amqp.Properties{Present: amqp.FlagExpiration, Expiration: text}
		got := appendEnqueue(nil, []entry.QueueID{1}, p.Append(nil), 9)
		if want := queue.AppendEnqueueExpiring(nil, want, []entry.QueueID{1}, 9); !slices.Equal(got, want) {
			t.Errorf("%s: % x, want % x", text, got, want)
		}
	}
}
