package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// ledger knows what was confirmed and what was acked.
type ledger struct {
	mu        sync.Mutex
	confirmed map[string]bool
	acked     map[string]int
	seen      map[string]bool // delivered at least once
	fresh     []string        // delivered again without the redelivered flag
}

func (l *ledger) deliver(d *amqp091.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[string(d.Body)] && !d.Redelivered {
		l.fresh = append(l.fresh, string(d.Body))
	}
	l.seen[string(d.Body)] = true
}

func (l *ledger) ack(d *amqp091.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[string(d.Body)]++
}

func (l *ledger) confirm(body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed[body] = true
}

// TestChurnLosesAndDoublesNothing lets consumers do everything that they may
// (ack one or many, requeue, recover, cancel, close the channel, drop the
// connection) while publishers publish to queues of several groups. In the end
// every confirmed message was acked, and none twice but where an ack was lost
// with its connection.
func TestChurnLosesAndDoublesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := testSeed; s != 0 {
		seed = s
	}
	t.Logf("seed %d", seed)
	_, address := startBroker(t, func(c *Config) { c.Groups = 3 })
	url := "amqp://guest:guest@" + address + "/"
	const queues, publishers, consumers, each = 5, 3, 6, 400
	setup := openChannel(t, dial(t, address))
	for q := range queues {
		if _, err := setup.QueueDeclare(fmt.Sprint("q", q), true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	l := &ledger{confirmed: map[string]bool{}, acked: map[string]int{}, seen: map[string]bool{}}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var publishing, consuming sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(p)))
			if err := publishConfirmed(ctx, dial(t, address), p, each, random, l, queues); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	for n := range consumers {
		consuming.Go(func() {
			random := rand.New(rand.NewPCG(seed, 100+uint64(n)))
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := consumeForAWhile(url, random, l, queues); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	publishing.Wait()
	close(done)
	consuming.Wait()
	drain(t, setup, l, queues)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.confirmed) != publishers*each {
		t.Errorf("%d confirmed of %d", len(l.confirmed), publishers*each)
	}
	for body := range l.confirmed {
		if l.acked[body] != 1 {
			t.Errorf("%s was acked %d times", body, l.acked[body])
		}
	}
	if len(l.fresh) > 0 {
		t.Errorf("delivered again without being marked: %v", l.fresh)
	}
}

// publishConfirmed publishes messages to random queues and waits for all confirms.
func publishConfirmed(ctx context.Context, c *amqp091.Connection, p, each int, random *rand.Rand, l *ledger, queues int) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirms := make([]*amqp091.DeferredConfirmation, each)
	body := func(i int) string { return fmt.Sprintf("%d-%d", p, i) }
	for i := range confirms {
		message := amqp091.Publishing{Body: []byte(body(i))}
		confirms[i], err = ch.PublishWithDeferredConfirm("", fmt.Sprint("q", random.IntN(queues)), false, false, message)
		if err != nil {
			return err
		}
	}
	for i, confirm := range confirms {
		if ok, err := confirm.WaitContext(ctx); !ok || err != nil {
			return fmt.Errorf("%s: %v, %w", body(i), ok, err)
		}
		l.confirm(body(i))
	}
	return nil
}

// testSeed replays a run when it isn't 0.
var testSeed uint64

// drain consumes what is left, to the last message.
func drain(t *testing.T, ch *amqp091.Channel, l *ledger, queues int) {
	t.Helper()
	for q := range queues {
		for {
			d, ok, err := ch.Get("q"+strconv.Itoa(q), false)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			l.deliver(&d)
			l.ack(&d)
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// consumeForAWhile is the life of one consumer's connection. It acks only what
// it will not take back, and ends in one of the ways in which clients end.
func consumeForAWhile(url string, random *rand.Rand, l *ledger, queues int) error {
	c, err := amqp091.Dial(url)
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(1+random.IntN(50), 0, random.IntN(3) == 0); err != nil {
		return err
	}
	deliveries, err := ch.Consume("q"+strconv.Itoa(random.IntN(queues)), "t", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var held []amqp091.Delivery
	enough := time.After(time.Duration(20+random.IntN(100)) * time.Millisecond)
	for {
		select {
		case d := <-deliveries:
			l.deliver(&d)
			held = append(held, d)
		case <-enough:
			return endConsumer(c, ch, random)
		}
		switch random.IntN(12) {
		case 0: // All so far.
			for i := range held {
				l.ack(&held[i])
			}
			err, held = held[len(held)-1].Ack(true), held[:0]
		case 1:
			err, held = held[len(held)-1].Nack(true, true), held[:0]
		case 2, 3, 4:
			i := random.IntN(len(held))
			err = held[i].Reject(true)
			held = append(held[:i], held[i+1:]...)
		default:
			i := random.IntN(len(held))
			l.ack(&held[i])
			err = held[i].Ack(false)
			held = append(held[:i], held[i+1:]...)
		}
		if err != nil {
			return err
		}
	}
}

// endConsumer leaves in one of several ways. Each makes sure that the acks that
// were sent have arrived: what is on its way when a connection drops may count
// or not, and then nobody can say how often a message should come.
func endConsumer(c *amqp091.Connection, ch *amqp091.Channel, random *rand.Rand) error {
	if err := ch.Qos(1, 0, false); err != nil {
		return err
	}
	switch random.IntN(4) {
	case 0:
		if err := ch.Cancel("t", false); err != nil {
			return err
		}
		return ch.Close()
	case 1:
		return ch.Close()
	case 2:
		return c.Close()
	}
	// No word of farewell: the deadline has passed before it can be said.
	_ = c.CloseDeadline(time.Now())
	return nil
}
