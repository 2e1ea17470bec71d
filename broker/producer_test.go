package broker

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// producerClient publishes as one producer, on a channel that confirms.
type producerClient struct {
	deadLetterClient
	name string
}

func newProducer(t *testing.T, address, name string) producerClient {
	t.Helper()
	ch := openChannel(t, dial(t, address))
	must(t, ch.Confirm(false))
	return producerClient{deadLetterClient{ch, t}, name}
}

// numbered is the producer's publish with that sequence, whose body it is.
func (p producerClient) numbered(sequence any) amqp091.Publishing {
	return amqp091.Publishing{
		Body:    fmt.Append(nil, sequence),
		Headers: amqp091.Table{"a": "b", producerKey: p.name, sequenceKey: sequence, "z": int32(1)},
	}
}

// put publishes all before it waits for the confirms, and returns those that
// were nacked.
func (p producerClient) put(exchange, key string, publishes ...amqp091.Publishing) (nacked []string) {
	p.t.Helper()
	var confirms []*amqp091.DeferredConfirmation
	for _, m := range publishes {
		d, err := p.PublishWithDeferredConfirmWithContext(p.t.Context(), exchange, key, false, false, m)
		must(p.t, err)
		confirms = append(confirms, d)
	}
	for i, d := range confirms {
		acked, err := d.WaitContext(p.t.Context())
		must(p.t, err)
		if !acked {
			nacked = append(nacked, string(publishes[i].Body))
		}
	}
	return nacked
}

// publishes puts messages with these sequences, which have to be confirmed.
func (p producerClient) publishes(queue string, sequences ...int64) {
	p.t.Helper()
	var all []amqp091.Publishing
	for _, n := range sequences {
		all = append(all, p.numbered(n))
	}
	if nacked := p.put("", queue, all...); nacked != nil {
		p.t.Fatalf("nacked: %v", nacked)
	}
}

// has expects just these messages in a queue, and takes them out.
func (c deadLetterClient) has(queue string, want ...int64) {
	c.t.Helper()
	var bodies, wanted []string
	for {
		d, ok, err := c.Get(queue, true)
		must(c.t, err)
		if !ok {
			break
		}
		bodies = append(bodies, string(d.Body))
	}
	for _, n := range want {
		wanted = append(wanted, fmt.Sprint(n))
	}
	if !slices.Equal(bodies, wanted) {
		c.t.Errorf("%s has %v, want %v", queue, bodies, wanted)
	}
}

// queueIn declares a queue that lies in a group.
func (c deadLetterClient) queueIn(b *Broker, g entry.GroupID) string {
	c.t.Helper()
	for i := range 100 {
		name := fmt.Sprintf("q%d.%d", g, i)
		c.declare(name, nil)
		if b.findQueue("/", name).Group == g {
			return name
		}
	}
	c.t.Fatalf("no queue comes to group %d", g)
	return ""
}

func TestWhatAProducerPublishesAgainIsThereOnce(t *testing.T) {
	b := deadLetterBroker(t, t.TempDir())
	first, second := newProducer(t, b.AMQPAddr().String(), "p"), newProducer(t, b.AMQPAddr().String(), "p")
	other := newProducer(t, b.AMQPAddr().String(), "another")
	first.declare("q", nil)
	first.publishes("q", 1, 2, 3, 5)
	second.publishes("q", 2, 3, 4, 5, 6)
	first.publishes("q", 6, 4)
	other.publishes("q", 1)
	first.has("q", 1, 2, 3, 5, 4, 6, 1)
	second.publishes("q", 1) // Though it is consumed.
	first.has("q")
	if totals := (source{b}).Totals(); totals.Duplicates != 6 || totals.TooOld != 0 {
		t.Errorf("%d duplicates and %d too old", totals.Duplicates, totals.TooOld)
	}
}

// Others in the same submission are confirmed.
func TestAPublishBelowTheWindowIsNackedAlone(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	p := newProducer(t, address, "p")
	p.declare("q", nil)
	var all []amqp091.Publishing
	for _, n := range []int64{queue.ProducerWindow + 10, 11, 10, 9, 12, 12, 1} {
		all = append(all, p.numbered(n), amqp091.Publishing{Body: []byte("0")})
	}
	if nacked := p.put("", "q", all...); !slices.Equal(nacked, []string{"10", "9", "1"}) {
		t.Errorf("nacked: %v", nacked)
	}
	p.has("q", queue.ProducerWindow+10, 0, 11, 0, 0, 0, 12, 0, 0, 0)
}

// Publishes of several channels go in one submission, and not all are confirmed.
func TestARefusalFindsItsChannel(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	c := dial(t, address)
	p, confirmed := producerClient{deadLetterClient{openChannel(t, c), t}, "p"}, openChannel(t, c)
	unconfirmed := deadLetterClient{openChannel(t, c), t}
	must(t, p.Confirm(false))
	must(t, confirmed.Confirm(false))
	p.declare("q", nil)
	p.publishes("q", 20_000)
	for round := range int64(50) {
		var acks [3]*amqp091.DeferredConfirmation
		for i, n := range []int64{1, 20_001 + round, 2} {
			var err error
			unconfirmed.publish("", "q", p.numbered(int64(3)))
			acks[i], err = p.PublishWithDeferredConfirmWithContext(t.Context(), "", "q", false, false, p.numbered(n))
			must(t, err)
			if i == 1 {
				plain, err := confirmed.PublishWithDeferredConfirmWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{})
				must(t, err)
				defer func() {
					if !plain.Wait() {
						t.Error("a publish of another channel is nacked")
					}
				}()
			}
		}
		if acks[0].Wait() || !acks[1].Wait() || acks[2].Wait() {
			t.Fatalf("round %d: %v, %v, %v", round, acks[0].Acked(), acks[1].Acked(), acks[2].Acked())
		}
	}
	if n := p.messages("q"); n != 101 {
		t.Errorf("%d messages", n)
	}
}

func TestConfirmsArePartedAtWhatIsRefused(t *testing.T) {
	confirms := []confirmRange{{first: 5, last: 8, op: 0}, {first: 1, last: 1, op: 4}, {first: 9, last: 11, op: 6}, {first: 2, last: 3, op: 9}}
	for _, c := range []struct {
		refused []int
		want    string
	}{
		{nil, "5-8 1-1 9-11 2-3"},
		{[]int{5}, "5-8 1-1 9-11 2-3"}, // Nobody waits for it.
		{[]int{0}, "5-5! 6-8 1-1 9-11 2-3"},
		{[]int{1, 3}, "5-5 6-6! 7-7 8-8! 1-1 9-11 2-3"},
		{[]int{0, 1, 2, 3, 4, 5, 6}, "5-5! 6-6! 7-7! 8-8! 1-1! 9-9! 10-11 2-3"},
		{[]int{4, 7, 10, 12}, "5-8 1-1! 9-9 10-10! 11-11 2-2 3-3!"},
	} {
		var results []queue.OpResult
		for _, op := range c.refused {
			results = append(results, queue.OpResult{Op: op, Code: queue.TooOld}, queue.OpResult{Op: op, Code: queue.Exists})
		}
		var got []string
		for _, r := range split(confirms, results) {
			text := fmt.Sprintf("%d-%d", r.first, r.last)
			if r.refused {
				text += "!"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v are refused: %v, want %s", c.refused, got, c.want)
		}
	}
}

// What a crash leaves is a checkpoint and the log behind it, what a stop leaves a
// checkpoint of all.
func TestProducersAreRememberedOverARestart(t *testing.T) {
	data, crashed := t.TempDir(), t.TempDir()
	b, err := Start(t.Context(), Config{Name: "b1", Data: data, AMQP: "127.0.0.1:0", HTTP: "-"})
	must(t, err)
	p := newProducer(t, b.AMQPAddr().String(), "p")
	p.declare("q", nil)
	p.publishes("q", 1, 2, 4)
	g := b.groups[firstGroup]
	g.call(func() { g.keep.urged = true })
	g.rouse()
	(&testCluster{t: t}).eventually("a checkpoint", func() bool { return b.log.Floor(firstGroup).Index > 0 })
	p.publishes("q", 5)
	must(t, os.CopyFS(crashed, os.DirFS(data)))
	stopBroker(t, b)
	for _, left := range []string{data, crashed} {
		p = newProducer(t, deadLetterBroker(t, left).AMQPAddr().String(), "p")
		p.publishes("q", 1, 2, 3, 4, 5, 6)
		p.has("q", 1, 2, 4, 5, 3, 6)
	}
}

func TestAProducersHeadersAreChecked(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	newProducer(t, address, "p").declare("q", nil)
	const noName, noNumber = "invalid x-producer header", "invalid x-producer-sequence header"
	for _, c := range []struct {
		headers amqp091.Table
		text    string
	}{
		{amqp091.Table{producerKey: "p"}, "x-producer header without x-producer-sequence"},
		{amqp091.Table{sequenceKey: int64(1)}, "x-producer-sequence header without x-producer"},
		{amqp091.Table{producerKey: "", sequenceKey: int64(1)}, noName},
		{amqp091.Table{producerKey: strings.Repeat("p", 256), sequenceKey: int64(1)}, noName},
		{amqp091.Table{producerKey: int32(7), sequenceKey: int64(1)}, noName},
		{amqp091.Table{producerKey: nil, sequenceKey: int64(1)}, noName},
		{amqp091.Table{producerKey: "p", sequenceKey: int64(0)}, noNumber},
		{amqp091.Table{producerKey: "p", sequenceKey: int64(-1)}, noNumber},
		{amqp091.Table{producerKey: "p", sequenceKey: "1"}, noNumber},
		{amqp091.Table{producerKey: "p", sequenceKey: 1.0}, noNumber},
	} {
		p := newProducer(t, address, "p")
		closed := p.NotifyClose(make(chan *amqp091.Error, 1))
		p.publish("", "q", amqp091.Publishing{Headers: c.headers, Body: []byte("m")})
		if err := <-closed; err.Code != 406 || !strings.Contains(err.Reason, c.text) {
			t.Errorf("%v: %v", c.headers, err)
		}
	}
	p := newProducer(t, address, strings.Repeat("p", 255))
	for i, sequence := range []any{int64(1), int32(2), int16(3), byte(4), int8(5), int64(1<<63 - 1)} {
		if nacked := p.put("", "q", p.numbered(sequence), p.numbered(sequence)); nacked != nil {
			t.Errorf("%T: nacked", sequence)
		}
		if n := p.messages("q"); n != i+1 {
			t.Errorf("%T: %d messages, want %d", sequence, n, i+1)
		}
	}
}

// A dead letter is the message that its producer published, and no second copy.
func TestADeadLetterIsNoDuplicateOfItself(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	p := newProducer(t, address, "p")
	p.exchange("dlx", "fanout")
	p.declare("dead", nil)
	p.bind("dead", "", "dlx")
	p.declare("q", amqp091.Table{"x-dead-letter-exchange": "dlx"})
	expires := p.numbered(int64(2))
	expires.Expiration = "0"
	p.put("", "q", p.numbered(int64(1)), expires, expires)
	must(t, next(t, p.consume("q")).Reject(false))
	dead := p.consume("dead")
	bodies := []string{string(next(t, dead).Body), string(next(t, dead).Body)}
	if slices.Sort(bodies); !slices.Equal(bodies, []string{"1", "2"}) {
		t.Errorf("dead: %v", bodies)
	}
	p.publishes("dead", 1)
	if n := p.messages("dead"); n != 0 {
		t.Errorf("%d more", n)
	}
}

func TestATransactionOfAProducerIsEnqueuedOnce(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	p := newProducer(t, address, "p")
	p.declare("q", nil)
	transact := func(sequences ...int64) error {
		tx := deadLetterClient{openChannel(t, dial(t, address)), t}
		must(t, tx.Tx())
		for _, n := range sequences {
			tx.publish("", "q", p.numbered(n))
		}
		return tx.TxCommit()
	}
	must(t, transact(1, 2, 2))
	must(t, transact(2, 9000))
	p.has("q", 1, 2, 9000)
	err := transact(9001, 3)
	if e, ok := err.(*amqp091.Error); !ok || e.Code != 406 || !strings.Contains(e.Reason, "partial tx completion") {
		t.Errorf("a transaction with what is too old: %v", err)
	}
	p.has("q", 9001)
}

func TestAMandatoryPublishComesAgain(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	p := newProducer(t, address, "p")
	returns := p.NotifyReturn(make(chan amqp091.Return, 3))
	put := func() {
		d, err := p.PublishWithDeferredConfirmWithContext(t.Context(), "", "q", true, false, p.numbered(int64(1)))
		must(t, err)
		if !d.Wait() {
			t.Error("nacked")
		}
	}
	put()
	put()
	if n := len(returns); n != 2 {
		t.Errorf("%d returns", n)
	}
	p.declare("q", nil)
	put()
	put()
	if n := len(returns); n != 2 {
		t.Errorf("%d returns", n)
	}
	p.has("q", 1)
}

// Each group takes what it has not.
func TestAProducersPublishToSeveralGroups(t *testing.T) {
	b := memoryBroker(t, 2)
	_, address := serveFront(t, b)
	p := newProducer(t, address, "p")
	one, two := p.queueIn(b, 1), p.queueIn(b, 2)
	p.exchange("both", "fanout")
	p.bind(one, "", "both")
	p.bind(two, "", "both")
	p.publishes(one, 1)
	p.publishes(two, queue.ProducerWindow+2)
	if nacked := p.put("both", "", p.numbered(int64(1)), p.numbered(int64(2)), p.numbered(int64(3))); !slices.Equal(nacked, []string{"1", "2"}) {
		t.Errorf("nacked: %v", nacked)
	}
	p.has(one, 1, 2, 3)
	p.has(two, queue.ProducerWindow+2, 3)
}

func TestInMemoryQueuesKnowProducersToo(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1))
	p := newProducer(t, address, "p")
	_, err := p.QueueDeclare("q", false, false, true, false, nil)
	must(t, err)
	p.publishes("q", 1, 1)
	p.publishes("q", 1, 2)
	p.has("q", 1, 2)
}

// Bodies of several frames, and so large that they go alone.
func TestLargeMessagesOfAProducerAreThereOnce(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1), func(c *frontConfig) { c.frameMax = 4096 })
	p := newProducer(t, address, "p")
	p.declare("q", nil)
	p.publishes("q", queue.ProducerWindow+1)
	for i, size := range []int{5_000, 2 * aloneBytes} {
		m, old := p.numbered(int64(100+i)), p.numbered(int64(1))
		m.Body, old.Body = make([]byte, size), make([]byte, size)
		plain := amqp091.Publishing{Body: make([]byte, size)}
		if nacked := p.put("", "q", plain, m, old, plain, m); len(nacked) != 1 {
			t.Errorf("size %d: %d nacked", size, len(nacked))
		}
		if n := p.messages("q"); n != 1+3*(i+1) {
			t.Errorf("size %d: %d messages", size, n)
		}
	}
}
