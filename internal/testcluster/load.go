package testcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// firstTime is how long the clients may take until each had something.
	firstTime = 30 * time.Second
	// drainTime is how long nothing may come before what is missing is lost.
	drainTime = 10 * time.Second
	// probePause is how long the probe of the disk pauses.
	probePause = 10 * time.Millisecond
)

// LoadConfig says what clients do. There is a publisher and a consumer on each
// broker, all with one queue.
type LoadConfig struct {
	Queue     string
	Arguments amqp.Table
	Rate      int // messages a second of each publisher
	Window    int // unconfirmed messages of each publisher
	Size      int // of bodies at the mean, in bytes
	// Probe is a directory on the brokers' disk where a file is written and synced
	// all the time, to know how long the disk alone makes anybody wait; "" does
	// without.
	Probe string
	Seed  uint64
}

// Load is running clients.
type Load struct {
	cluster    *Cluster
	config     LoadConfig
	cancel     context.CancelFunc
	quiet      chan struct{}
	wait       sync.WaitGroup
	publishers []*publisher
	consumers  []*consumer
	disk       *meter
}

// StartLoad starts the clients and returns when each of them has had a confirm
// or a message.
func (c *Cluster) StartLoad(ctx context.Context, config LoadConfig) (*Load, error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &Load{cluster: c, config: config, cancel: cancel, quiet: make(chan struct{})}
	for i, b := range c.Brokers {
		newClient := func(kind uint64) client {
			return client{
				load: l, broker: b, meter: &meter{timeline: c.Timeline, broker: i},
				random: rand.New(rand.NewPCG(config.Seed, uint64(i)<<8|kind)),
			}
		}
		p := &publisher{client: newClient(0), number: c.Ledger.publisher(), quiet: l.quiet}
		k := &consumer{newClient(1)}
		l.publishers, l.consumers = append(l.publishers, p), append(l.consumers, k)
		l.wait.Go(func() { p.run(running, p.session) })
		l.wait.Go(func() { k.run(running, k.session) })
	}
	l.disk = &meter{timeline: c.Timeline}
	if config.Probe != "" {
		f, err := os.CreateTemp(config.Probe, "probe")
		if err != nil {
			l.Close()
			return nil, err
		}
		l.wait.Go(func() { probe(running, f, l.disk) })
	}
	ctx, stop := context.WithTimeout(ctx, firstTime)
	defer stop()
	if err := l.AwaitFlow(ctx, 0, c.Brokers...); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// probe writes to a file and syncs it every probePause until ctx ends, and
// removes it.
func probe(ctx context.Context, f *os.File, m *meter) {
	defer os.Remove(f.Name())
	defer f.Close()
	for pause(ctx, probePause) == nil {
		if _, err := f.WriteAt(make([]byte, 4<<10), 0); err != nil || f.Sync() != nil {
			return // It only measures.
		}
		m.event()
	}
}

// AwaitFlow returns when the clients of brokers have each had a confirm or a
// message since a time.
func (l *Load) AwaitFlow(ctx context.Context, since time.Duration, brokers ...*Broker) error {
	for {
		var still string
		for _, b := range brokers {
			p, k := l.publishers[b.index].meter.newest(), l.consumers[b.index].meter.newest()
			if p <= since || k <= since {
				still = fmt.Sprintf("%s: last confirm at %.3f, last message at %.3f", b.Name, p.Seconds(), k.Seconds())
			}
		}
		if still == "" {
			return nil
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("testcluster: clients stand still: %s, now %.3f: %w", still, l.cluster.Timeline.now().Seconds(), err)
		}
	}
}

// Begin starts to measure stand-stills.
func (l *Load) Begin() {
	l.disk.begin()
	for i := range l.publishers {
		l.publishers[i].meter.begin()
		l.consumers[i].meter.begin()
	}
}

// StandStill is the longest that a client stood still.
type StandStill struct {
	Confirms, Deliveries Gap
	// Disk is the longest that the probe stood still, whatever the brokers did.
	Disk Gap
}

func (s StandStill) String() string {
	text := fmt.Sprintf("confirms stood still for %d ms (from %.3f), deliveries for %d ms (from %.3f)",
		s.Confirms.Length.Milliseconds(), s.Confirms.From.Seconds(), s.Deliveries.Length.Milliseconds(), s.Deliveries.From.Seconds())
	if s.Disk.Length > 0 {
		text += fmt.Sprintf(", the disk for %d ms (from %.3f)", s.Disk.Length.Milliseconds(), s.Disk.From.Seconds())
	}
	return text
}

// End returns the longest stand-still since Begin of a client of the brokers.
func (l *Load) End(living ...*Broker) StandStill {
	s := StandStill{Disk: l.disk.end()}
	for _, b := range living {
		if gap := l.publishers[b.index].meter.end(); gap.Length > s.Confirms.Length {
			s.Confirms = gap
		}
		if gap := l.consumers[b.index].meter.end(); gap.Length > s.Deliveries.Length {
			s.Deliveries = gap
		}
	}
	l.cluster.Timeline.Note("%v", s)
	return s
}

// LastConfirm is when a broker's publisher got its newest confirm.
func (l *Load) LastConfirm(b *Broker) time.Duration { return l.publishers[b.index].meter.newest() }

// Drain has the publishers stop, and returns when all that they published has
// ended and was consumed, or when nothing has come for a long time: the ledger
// says then what is missing.
func (l *Load) Drain(ctx context.Context) error {
	close(l.quiet)
	l.cluster.Timeline.Note("publishers stop")
	last, lastTime := -1, time.Now()
	for {
		undelivered, unconfirmed := l.cluster.Ledger.outstanding()
		if undelivered == 0 && unconfirmed == 0 {
			break
		}
		if n := l.cluster.Ledger.delivered(); n != last {
			last, lastTime = n, time.Now()
		}
		if time.Since(lastTime) > drainTime {
			l.cluster.Timeline.Note("%d undelivered, %d unconfirmed, and nothing comes", undelivered, unconfirmed)
			break
		}
		if err := pause(ctx, 10*poll); err != nil {
			return err
		}
	}
	return l.awaitEmpty(ctx)
}

// awaitEmpty returns when every broker says that the queue is empty: no message
// stays behind that nobody can get.
func (l *Load) awaitEmpty(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, drainTime)
	defer stop()
	for {
		var left string
		for _, b := range l.cluster.Brokers {
			q, err := b.queue(ctx, l.config.Queue)
			if err != nil || q.Messages > 0 {
				left = fmt.Sprintf("%s says %d ready, %d unacked (%v)", b.Name, q.Ready, q.Unacked, err)
			}
		}
		if left == "" {
			return nil
		}
		if err := pause(ctx, 20*poll); err != nil {
			return fmt.Errorf("testcluster: the queue is not empty: %s", left)
		}
	}
}

// Close ends the clients.
func (l *Load) Close() {
	l.cancel()
	l.wait.Wait()
}
