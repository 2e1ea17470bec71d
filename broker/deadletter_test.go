package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// deadLetterBroker starts a real broker over a data directory.
func deadLetterBroker(t *testing.T, data string) *Broker {
	t.Helper()
	b, err := Start(t.Context(), Config{Name: "b1", Data: data, AMQP: "127.0.0.1:0", HTTP: "-", Groups: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(t, b) })
	return b
}

func stopBroker(t *testing.T, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// deadLetterClient is a channel whose every step must succeed.
type deadLetterClient struct {
	*amqp091.Channel
	t *testing.T
}

func deadLetterChannel(t *testing.T, b *Broker) deadLetterClient {
	t.Helper()
	return deadLetterClient{openChannel(t, dial(t, b.AMQPAddr().String())), t}
}

func (c deadLetterClient) declare(name string, arguments amqp091.Table) {
	c.t.Helper()
	if _, err := c.QueueDeclare(name, true, false, false, false, arguments); err != nil {
		c.t.Fatal(err)
	}
}

func (c deadLetterClient) exchange(name, kind string) {
	c.t.Helper()
	if err := c.ExchangeDeclare(name, kind, true, false, false, false, nil); err != nil {
		c.t.Fatal(err)
	}
}

func (c deadLetterClient) bind(queue, key, exchange string) {
	c.t.Helper()
	if err := c.QueueBind(queue, key, exchange, false, nil); err != nil {
		c.t.Fatal(err)
	}
}

func (c deadLetterClient) publish(exchange, key string, p amqp091.Publishing) {
	c.t.Helper()
	if err := c.PublishWithContext(c.t.Context(), exchange, key, false, false, p); err != nil {
		c.t.Fatal(err)
	}
}

func (c deadLetterClient) consume(queue string) <-chan amqp091.Delivery {
	c.t.Helper()
	deliveries, err := c.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return deliveries
}

func (c deadLetterClient) messages(queue string) int {
	c.t.Helper()
	q, err := c.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return q.Messages
}

// bodies are those of all messages that are ready in a queue.
func (c deadLetterClient) bodies(queue string) map[string]bool {
	c.t.Helper()
	found := make(map[string]bool)
	left := c.messages(queue)
	for deliveries := c.consume(queue); left > 0; left-- {
		found[string(next(c.t, deliveries).Body)] = true
	}
	return found
}

// next is the next delivery of a consumer.
func next(t *testing.T, deliveries <-chan amqp091.Delivery) amqp091.Delivery {
	t.Helper()
	select {
	case d, ok := <-deliveries:
		if !ok {
			t.Fatal("the channel closed")
		}
		return d
	case <-time.After(20 * time.Second):
		t.Fatal("no delivery came")
	}
	panic("unreachable")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// emptied waits until all messages that a queue had are settled.
func emptied(t *testing.T, b *Broker, name string) {
	t.Helper()
	q := b.findQueue("/", name)
	deadline := time.After(20 * time.Second)
	for {
		messages := make(chan uint64, 1)
		b.groups[q.Group].call(func() {
			info, _ := b.groups[q.Group].state.Queue(q.ID)
			messages <- info.Messages
		})
		select {
		case n := <-messages:
			if n == 0 {
				return
			}
		case <-deadline:
			t.Fatalf("queue %s still has messages", name)
		}
	}
}

// deathCounts lists the x-death of a delivery as "queue reason count".
func deathCounts(d amqp091.Delivery) (deaths []string) {
	list, _ := d.Headers["x-death"].([]any)
	for _, e := range list {
		death := e.(amqp091.Table)
		deaths = append(deaths, fmt.Sprint(death["queue"], " ", death["reason"], " ", death["count"]))
	}
	return deaths
}

func TestBehaviour23RejectedMessagesGoToTheDeadLetterExchange(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.exchange("in", "direct")
	c.exchange("dlx", "topic")
	c.declare("work", amqp091.Table{"x-dead-letter-exchange": "dlx"})
	c.declare("rekeyed", amqp091.Table{"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "new.key"})
	c.bind("work", "old.key", "in")
	c.bind("rekeyed", "other.key", "in")
	c.declare("dead.old", nil)
	c.declare("dead.new", nil)
	c.bind("dead.old", "old.*", "dlx")
	c.bind("dead.new", "new.#", "dlx")

	c.publish("in", "old.key", amqp091.Publishing{
		Body: []byte("a"), ContentType: "text/plain", DeliveryMode: 2, Priority: 3, CorrelationId: "c", MessageId: "m",
		Expiration: "60000", Timestamp: time.Unix(1700000000, 0), Headers: amqp091.Table{"mine": "yes"},
	})
	must(t, next(t, c.consume("work")).Reject(false))
	d := next(t, c.consume("dead.old"))
	if d.Exchange != "dlx" || d.RoutingKey != "old.key" || string(d.Body) != "a" || d.Redelivered {
		t.Errorf("got %q from %q with %q, redelivered %v", d.Body, d.Exchange, d.RoutingKey, d.Redelivered)
	}
	if d.ContentType != "text/plain" || d.DeliveryMode != 2 || d.Priority != 3 || d.CorrelationId != "c" ||
		d.MessageId != "m" || d.Timestamp.Unix() != 1700000000 || d.Headers["mine"] != "yes" {
		t.Errorf("its properties changed: %+v", d)
	}
	if d.Expiration != "" {
		t.Errorf("expiration %q is still there", d.Expiration)
	}
	deaths := d.Headers["x-death"].([]any)
	death := deaths[0].(amqp091.Table)
	at, _ := death["time"].(time.Time)
	if age := time.Since(at); age < -time.Second || age > time.Minute {
		t.Errorf("time is %v", at)
	}
	delete(death, "time")
	want := "map[count:1 exchange:in original-expiration:60000 queue:work reason:rejected routing-keys:[old.key]]"
	if got := fmt.Sprint(map[string]any(death)); len(deaths) != 1 || got != want {
		t.Errorf("x-death is %d deaths, the first %s, want %s", len(deaths), got, want)
	}

	c.publish("in", "other.key", amqp091.Publishing{Body: []byte("b")})
	must(t, next(t, c.consume("rekeyed")).Nack(false, false))
	if d := next(t, c.consume("dead.new")); d.RoutingKey != "new.key" || string(d.Body) != "b" {
		t.Errorf("got %q with key %q", d.Body, d.RoutingKey)
	}
	emptied(t, b, "work")
	emptied(t, b, "rekeyed")
}

// Where source and target are in different groups, or one of them in memory,
// the way of a dead letter is another one.
func TestBehaviour23DeadLettersCrossGroups(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.exchange("dlx", "fanout")
	groups := make(map[entry.GroupID]bool)
	var targets []<-chan amqp091.Delivery
	for i := 0; len(groups) < 2; i++ {
		name := fmt.Sprint("dead", i)
		c.declare(name, nil)
		c.bind(name, "", "dlx")
		groups[b.findQueue("/", name).Group] = true
		targets = append(targets, c.consume(name))
	}
	volatile, err := c.QueueDeclare("", false, false, true, false, nil)
	must(t, err)
	c.bind(volatile.Name, "", "dlx")
	targets = append(targets, c.consume(volatile.Name))
	c.declare("durable", amqp091.Table{"x-dead-letter-exchange": "dlx"})
	_, err = c.QueueDeclare("memory", false, false, true, false, amqp091.Table{"x-dead-letter-exchange": "dlx"})
	must(t, err)

	large := make([]byte, 3*flushBytes)
	for _, source := range []string{"durable", "memory"} {
		for _, body := range [][]byte{[]byte("small"), large, nil} {
			c.publish("", source, amqp091.Publishing{Body: body})
		}
		from := c.consume(source)
		for range 3 {
			must(t, next(t, from).Reject(false))
		}
		for i, target := range targets {
			for _, body := range [][]byte{[]byte("small"), large, nil} {
				if d := next(t, target); !slices.Equal(d.Body, body) || !slices.Equal(deathCounts(d), []string{source + " rejected 1"}) {
					t.Errorf("target %d: got %d bytes, %q, want %d", i, len(d.Body), deathCounts(d), len(body))
				}
			}
		}
		emptied(t, b, source)
	}
}

func TestBehaviour23DeadLettersKeepTheOrderOfRejections(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("dead", nil)
	c.declare("work", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	const n = 3000
	for i := range n {
		c.publish("", "work", amqp091.Publishing{Body: strconv.AppendInt(nil, int64(i), 10)})
	}
	work := c.consume("work")
	var last amqp091.Delivery
	for i := range n {
		if last = next(t, work); i%3 == 0 {
			must(t, last.Reject(false)) // One by one, and the rest together.
		}
	}
	must(t, last.Nack(true, false))
	var want []int
	for i := 0; i < n; i += 3 {
		want = append(want, i)
	}
	for i := range n {
		if i%3 != 0 {
			want = append(want, i)
		}
	}
	dead := c.consume("dead")
	for i := range n {
		if d := next(t, dead); string(d.Body) != strconv.Itoa(want[i]) {
			t.Fatalf("dead letter %d is %q, want %d", i, d.Body, want[i])
		}
	}
	emptied(t, b, "work")
}

func TestBehaviour23OnlyRejectionDeadLetters(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("dead", nil)
	c.declare("work", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	for _, body := range []string{"acked", "requeued", "rejected"} {
		c.publish("", "work", amqp091.Publishing{Body: []byte(body)})
	}
	work := c.consume("work")
	must(t, next(t, work).Ack(false))
	must(t, next(t, work).Nack(false, true))
	rejected := next(t, work)
	if d := next(t, work); string(d.Body) != "requeued" || !d.Redelivered || d.Headers["x-death"] != nil {
		t.Errorf("got %q, redelivered %v, headers %v", d.Body, d.Redelivered, d.Headers)
	} else {
		must(t, d.Ack(false))
	}
	must(t, rejected.Reject(false))
	if d := next(t, c.consume("dead")); string(d.Body) != "rejected" {
		t.Errorf("got %q", d.Body)
	}
	emptied(t, b, "work")
	if n := c.messages("dead"); n != 0 {
		t.Errorf("%d more dead letters", n)
	}
}

func TestBehaviour23DeadLetterThatGoesNowhereIsDropped(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.exchange("unbound", "direct")
	for _, exchange := range []string{"missing", "unbound", ""} {
		name := "work." + exchange
		c.declare(name, amqp091.Table{"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "nowhere"})
		c.publish("", name, amqp091.Publishing{})
		must(t, next(t, c.consume(name)).Reject(false))
		emptied(t, b, name)
	}
}

// A message that is rejected may go round as often as consumers reject it.
func TestBehaviour23RejectionMayGoRound(t *testing.T) {
	c := deadLetterChannel(t, deadLetterBroker(t, t.TempDir()))
	c.declare("a", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"})
	c.declare("b", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
	c.publish("", "a", amqp091.Publishing{Body: []byte("m")})
	a, b := c.consume("a"), c.consume("b")
	for range 5 {
		must(t, next(t, a).Reject(false))
		must(t, next(t, b).Reject(false))
	}
	d := next(t, a)
	if got := deathCounts(d); !slices.Equal(got, []string{"b rejected 5", "a rejected 5"}) {
		t.Errorf("deaths are %q", got)
	}
	if d.Headers["x-first-death-queue"] != "a" || d.Headers["x-last-death-queue"] != "b" {
		t.Errorf("first and last death in %v, %v", d.Headers["x-first-death-queue"], d.Headers["x-last-death-queue"])
	}
}

func TestBehaviour23RejectInATransactionTakesEffectAtCommit(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("dead", nil)
	c.declare("work", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	dead := deadLetterChannel(t, b).consume("dead")
	must(t, c.Tx())
	c.publish("", "work", amqp091.Publishing{Body: []byte("rejected")})
	c.publish("", "work", amqp091.Publishing{Body: []byte("acked")})
	must(t, c.TxCommit())
	work := c.consume("work")
	rejected, other := next(t, work), next(t, work)
	must(t, rejected.Reject(false))
	must(t, c.TxRollback())
	must(t, rejected.Reject(false))
	must(t, other.Ack(false))
	c.publish("", "dead", amqp091.Publishing{Body: []byte("committed")})
	if n := c.messages("work"); n != 0 {
		t.Errorf("%d messages are ready again after a rollback", n)
	}
	must(t, c.TxCommit())
	bodies := []string{string(next(t, dead).Body), string(next(t, dead).Body)}
	if slices.Sort(bodies); !slices.Equal(bodies, []string{"committed", "rejected"}) {
		t.Errorf("got %q", bodies)
	}
	emptied(t, b, "work")
}

func TestBehaviour23DeadLettersOutliveStopAndCrash(t *testing.T) {
	data := t.TempDir()
	b := deadLetterBroker(t, data)
	c := deadLetterChannel(t, b)
	c.declare("dead", nil)
	c.declare("work", amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	const n = 200
	must(t, c.Confirm(false))
	confirms := c.NotifyPublish(make(chan amqp091.Confirmation, n))
	for i := range n {
		c.publish("", "work", amqp091.Publishing{Body: strconv.AppendInt(nil, int64(i), 10)})
	}
	for range n {
		if confirm := <-confirms; !confirm.Ack {
			t.Fatalf("publish %d was refused", confirm.DeliveryTag)
		}
	}
	work := c.consume("work")
	for range n {
		must(t, next(t, work).Reject(false))
	}
	emptied(t, b, "work")

	// What a crash at this moment leaves is what is in the files.
	crashed := t.TempDir()
	must(t, os.CopyFS(crashed, os.DirFS(data)))
	stopBroker(t, b)
	for name, data := range map[string]string{"stop": data, "crash": crashed} {
		t.Run(name, func(t *testing.T) {
			c := deadLetterChannel(t, deadLetterBroker(t, data))
			if left := c.messages("work"); left != 0 {
				t.Errorf("%d messages are in their queue again", left)
			}
			dead := c.consume("dead")
			for i := range n {
				d := next(t, dead)
				if string(d.Body) != strconv.Itoa(i) || !slices.Equal(deathCounts(d), []string{"work rejected 1"}) {
					t.Fatalf("dead letter %d is %q, %q", i, d.Body, deathCounts(d))
				}
			}
		})
	}
}

// A broker that stops while it dead-letters loses nothing: each message is in
// the one queue or in the other, also where the stop waits for nothing.
func TestBehaviour23StopInBetweenLosesNoDeadLetter(t *testing.T) {
	for _, patience := range []time.Duration{0, 10 * time.Second} {
		t.Run(patience.String(), func(t *testing.T) {
			data := t.TempDir()
			b := deadLetterBroker(t, data)
			c := deadLetterChannel(t, b)
			c.exchange("dlx", "fanout")
			c.declare("work", amqp091.Table{"x-dead-letter-exchange": "dlx"})
			for i := range 3 {
				c.declare(fmt.Sprint("dead", i), nil)
				c.bind(fmt.Sprint("dead", i), "", "dlx")
			}
			const n = 2000
			for i := range n {
				c.publish("", "work", amqp091.Publishing{Body: strconv.AppendInt(nil, int64(i), 10)})
			}
			work := c.consume("work")
			var last amqp091.Delivery
			for range n {
				last = next(t, work)
			}
			must(t, last.Nack(true, false))
			must(t, c.Qos(1, 0, false)) // Answered when the nack was read.
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := b.Stop(ctx); err != nil && patience > 0 {
				t.Fatal(err)
			}

			c = deadLetterChannel(t, deadLetterBroker(t, data))
			left := c.bodies("work")
			if patience > 0 && len(left) > 0 {
				t.Errorf("%d messages are in their queue again", len(left))
			}
			for i := range 3 {
				found := c.bodies(fmt.Sprint("dead", i))
				maps.Copy(found, left)
				if len(found) != n {
					t.Errorf("of %d messages for dead%d %d are left", n, i, len(found))
				}
			}
		})
	}
}

// An exclusive queue goes with its connection, what was rejected before does not.
func TestBehaviour23QueueThatGoesTakesNoDeadLetterAlong(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	c := deadLetterChannel(t, b)
	c.declare("dead", nil)
	c.declare("other", nil)
	const n = 500
	arguments := amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
	for name, end := range map[string]func(*amqp091.Connection, *amqp091.Channel) error{
		"closed": func(conn *amqp091.Connection, _ *amqp091.Channel) error { return conn.Close() },
		"deleted": func(_ *amqp091.Connection, ch *amqp091.Channel) error {
			return deleted(ch.QueueDelete("work", false, false, false))
		},
	} {
		conn := dial(t, b.AMQPAddr().String())
		own := deadLetterClient{openChannel(t, conn), t}
		_, err := own.QueueDeclare("work", false, false, true, false, arguments)
		must(t, err)
		for i := range n {
			own.publish("", "work", amqp091.Publishing{Body: fmt.Append(nil, name, i)})
		}
		work := own.consume("work")
		var last amqp091.Delivery
		for range n {
			last = next(t, work)
		}
		must(t, last.Nack(true, false))
		must(t, end(conn, own.Channel))
		conn.Close()
	}
	dead := c.consume("dead")
	for range 2 * n {
		must(t, next(t, dead).Ack(false))
	}
}

func deleted(_ int, err error) error { return err }

func TestBehaviour23DeadLetteringNeedsPermissions(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	_, err := b.changeTopology(t.Context(), topology.AppendPutPermission(takeOps(), topology.Permission{
		User: "guest", Vhost: "/", Configure: ".*", Write: "^w", Read: "^r",
	}))
	must(t, err)
	for _, test := range []struct{ queue, exchange, want string }{
		{"r1", "w1", ""},
		{"x1", "w1", "ACCESS_REFUSED - read access to queue 'x1' in vhost '/' refused for user 'guest'"},
		{"r2", "x2", "ACCESS_REFUSED - write access to exchange 'x2' in vhost '/' refused for user 'guest'"},
	} {
		c := deadLetterChannel(t, b)
		_, err := c.QueueDeclare(test.queue, true, false, false, false, amqp091.Table{"x-dead-letter-exchange": test.exchange})
		var refused *amqp091.Error
		if errors.As(err, &refused); (refused == nil) != (test.want == "") || refused != nil && refused.Reason != test.want {
			t.Errorf("queue %s with exchange %s: %v, want %q", test.queue, test.exchange, err, test.want)
		}
	}
}

func TestRangesAreCutAtANumberOfIDs(t *testing.T) {
	ranges := []entry.Range{{First: 3, Last: 5}, {First: 9, Last: 9}, {First: 20, Last: 29}}
	for _, test := range []struct {
		n          uint64
		head, rest string
	}{
		{1, "[{3 3}]", "[{4 5} {9 9} {20 29}]"},
		{3, "[{3 5}]", "[{9 9} {20 29}]"},
		{4, "[{3 5} {9 9}]", "[{20 29}]"},
		{6, "[{3 5} {9 9} {20 21}]", "[{22 29}]"},
		{14, "[{3 5} {9 9} {20 29}]", "[]"},
		{100, "[{3 5} {9 9} {20 29}]", "[]"},
	} {
		head, rest := cutRanges(ranges, test.n)
		if fmt.Sprint(head) != test.head || fmt.Sprint(rest) != test.rest {
			t.Errorf("cut at %d: %v and %v, want %s and %s", test.n, head, rest, test.head, test.rest)
		}
	}
}
