package client_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/internal/launch"
	"github.com/mirrormq/mirrormq/internal/testcluster"
)

var (
	rollFor   = flag.Duration("rolling", 12*time.Second, "for how long brokers are killed in turn")
	rollEvery = flag.Duration("every", 3*time.Second, "how often one is killed")
)

const (
	rollers     = 4                     // producers, and consumers
	rollPace    = 10 * time.Millisecond // between two publishes of a goroutine
	rollWriters = 4                     // goroutines of a producer
	settleTime  = 2 * time.Minute       // for what is on its way in the end
)

// victims are brokers that can be killed and started again.
type victims interface {
	urls() string
	// strike kills the nth broker, and starts it again.
	strike(ctx context.Context, n int) error
}

// Three brokers are killed in turn while producers and consumers are at work:
// what was confirmed is consumed, and nothing twice but with the flag.
func TestARollingKillOfThreeBrokers(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	dir := t.TempDir()
	binary, err := testcluster.Build(t.Context(), "..", dir)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := testcluster.Start(deadline(t), testcluster.Config{Binary: binary, Dir: dir, Brokers: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := roll(t, threeBrokers{cluster})
	for _, problem := range append(cluster.Problems(), r.doubled...) {
		t.Error(problem)
	}
}

// The same against one RabbitMQ, which makes no promise about doubled messages.
func TestARollingKillOfRabbitMQ(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	if err := launch.Installed(launch.RabbitMQ{}); err != nil {
		t.Skip(err)
	}
	starting, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	broker, err := launch.Start(starting, launch.RabbitMQ{}, launch.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	one := &oneBroker{broker}
	t.Cleanup(func() { one.Kill() })
	roll(t, one)
}

type threeBrokers struct{ *testcluster.Cluster }

func (c threeBrokers) urls() string {
	var list []string
	for _, b := range c.Brokers {
		list = append(list, b.URL())
	}
	return strings.Join(list, ",")
}

func (c threeBrokers) strike(ctx context.Context, n int) error {
	b := c.Brokers[n%len(c.Brokers)]
	c.Kill(b)
	return c.Restart(ctx, b)
}

type oneBroker struct{ *launch.Broker }

func (o *oneBroker) urls() string { return o.URL() }

func (o *oneBroker) strike(ctx context.Context, _ int) (err error) {
	o.Kill()
	again, err := launch.Start(ctx, o.Program, o.Config)
	if err == nil {
		o.Broker = again
	}
	return err
}

// rolled is what became of the messages of a run.
type rolled struct {
	mu        sync.Mutex
	confirmed map[string]bool
	unknown   int                    // publishes that were not confirmed
	plain     map[string][]time.Time // when each came without the flag
	struck    []time.Time            // when a broker was killed
	seen      map[string]bool
	doubled   []string
	arrived   chan struct{} // gets a value when one has come
}

// roll has producers and consumers at work while brokers are killed, and fails
// the test for what was confirmed and is not consumed.
func roll(t *testing.T, brokers victims) *rolled {
	t.Helper()
	r := &rolled{confirmed: map[string]bool{}, plain: map[string][]time.Time{}, seen: map[string]bool{}, arrived: make(chan struct{}, 1)}
	config := client.Config{Logger: rollLogger(t)}
	setup := dial(t, brokers.urls(), config)
	declare(t, setup, client.Queue{Name: "rolling", Type: client.QuorumQueue})

	consuming, stopConsuming := context.WithCancel(t.Context())
	defer stopConsuming()
	producing, stopProducing := context.WithCancel(t.Context())
	defer stopProducing()
	var producers, consumers sync.WaitGroup
	var clients []*client.Client
	for i := range rollers {
		c, p := dial(t, brokers.urls(), config), dial(t, brokers.urls(), config)
		clients = append(clients, c, p)
		consumers.Go(func() {
			if err := c.Consume(consuming, "rolling", client.ConsumerConfig{Concurrency: 2}, r.take); err != nil {
				t.Errorf("consumer %d: %v", i, err)
			}
		})
		sender := producer(t, p, client.ProducerConfig{})
		for j := range rollWriters {
			producers.Go(func() { r.produce(producing, t, sender, fmt.Sprintf("%d.%d", i, j)) })
		}
	}
	strikes := r.strike(t, brokers)
	stopProducing()
	producers.Wait()
	r.awaitAll(t)
	stopConsuming()
	consumers.Wait()

	r.mu.Lock()
	defer r.mu.Unlock()
	unmarked := 0
	for body, times := range r.plain {
		if len(times) > 1 && r.justBefore(times[0]) {
			unmarked++
		} else if len(times) > 1 {
			r.doubled = append(r.doubled, fmt.Sprintf("message %s came %d times without the flag: %s", body, len(times), r.told(times)))
		}
	}
	var total client.Stats
	for _, c := range clients {
		s := c.Stats()
		total.Reconnects += s.Reconnects
		total.Republished += s.Republished
		total.Delivered += s.Delivered
		total.Redelivered += s.Redelivered
		total.Stale += s.Stale
	}
	t.Logf("%d strikes; %d messages confirmed, %d not; %d doubled without the flag, and %d right before a kill; %d reconnects, %d republished, %d delivered, %d redelivered, %d stale",
		strikes, len(r.confirmed), r.unknown, len(r.doubled), unmarked, total.Reconnects, total.Republished, total.Delivered, total.Redelivered, total.Stale)
	return r
}

// unmarkedFor is how long before a broker's end deliveries may come again without
// the flag: docs/compatibility.md says 50 ms, and the clocks of this test and its
// machine are not exact.
const unmarkedFor = 250 * time.Millisecond

// justBefore says whether a broker was killed right after that time.
func (r *rolled) justBefore(at time.Time) bool {
	for _, kill := range r.struck {
		if d := kill.Sub(at); d > -unmarkedFor && d < unmarkedFor {
			return true
		}
	}
	return false
}

// told says how long before or after the nearest kill each time was.
func (r *rolled) told(times []time.Time) string {
	var list []string
	for _, at := range times {
		nearest := time.Duration(math.MaxInt64)
		for _, kill := range r.struck {
			if d := at.Sub(kill); d.Abs() < nearest.Abs() {
				nearest = d
			}
		}
		list = append(list, fmt.Sprintf("%+d ms", nearest.Milliseconds()))
	}
	return strings.Join(list, ", ")
}

// rollLogger logs to the file that MIRRORMQ_TEST_LOG names, if any.
func rollLogger(t *testing.T) *slog.Logger {
	path := os.Getenv("MIRRORMQ_TEST_LOG")
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return slog.New(slog.NewTextHandler(file, nil))
}

// strike kills brokers in turn for the time that was asked for, and once at
// least.
func (r *rolled) strike(t *testing.T, brokers victims) (strikes int) {
	t.Helper()
	for end := time.Now().Add(*rollFor); ; strikes++ {
		<-time.After(*rollEvery) // Messages flow before each, and after the last.
		if strikes > 0 && time.Now().After(end) {
			return strikes
		}
		ctx, cancel := context.WithTimeout(t.Context(), settleTime)
		r.mu.Lock()
		r.struck = append(r.struck, time.Now())
		r.mu.Unlock()
		err := brokers.strike(ctx, strikes)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rolled) produce(ctx context.Context, t *testing.T, p *client.Producer, name string) {
	pace := time.NewTicker(rollPace)
	defer pace.Stop()
	for n := 0; ; n++ {
		body := fmt.Sprintf("%s.%d", name, n)
		switch err := p.Publish(ctx, client.Message{RoutingKey: "rolling", Body: []byte(body)}); {
		case err == nil:
			r.mu.Lock()
			r.confirmed[body] = true
			r.mu.Unlock()
		case errors.Is(err, client.ErrNotSent), errors.Is(err, client.ErrUnconfirmed), errors.Is(err, client.ErrNacked):
			r.mu.Lock()
			r.unknown++
			r.mu.Unlock()
		default:
			t.Errorf("publish %s: %v", body, err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}

// take is the consumers' handler.
func (r *rolled) take(_ context.Context, d *client.Delivery) error {
	r.mu.Lock()
	body := string(d.Body)
	r.seen[body] = true
	if !d.Redelivered {
		r.plain[body] = append(r.plain[body], time.Now())
	}
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
	return nil
}

// awaitAll waits until all that was confirmed has come, or fails the test.
func (r *rolled) awaitAll(t *testing.T) {
	t.Helper()
	patience := time.After(settleTime)
	for {
		var missing []string
		r.mu.Lock()
		for body := range r.confirmed {
			if !r.seen[body] {
				missing = append(missing, body)
			}
		}
		r.mu.Unlock()
		if len(missing) == 0 {
			return
		}
		select {
		case <-r.arrived:
		case <-patience:
			t.Fatalf("%d messages were confirmed and are not consumed: %v", len(missing), missing[:min(10, len(missing))])
		}
	}
}
