package admin

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// counterNames are message_stats' fields and how each is read, in RabbitMQ's
// (alphabetical) order.
var counterNames = [...]struct {
	name string
	get  func(*Counters) uint64
}{
	{"ack", func(c *Counters) uint64 { return c.Ack }},
	{"confirm", func(c *Counters) uint64 { return c.Confirm }},
	{"deliver", func(c *Counters) uint64 { return c.Deliver }},
	{"deliver_get", func(c *Counters) uint64 { return c.DeliverGet() }},
	{"deliver_no_ack", func(c *Counters) uint64 { return c.DeliverNoAck }},
	{"drop_unroutable", func(c *Counters) uint64 { return c.DropUnroutable }},
	{"get", func(c *Counters) uint64 { return c.Get }},
	{"get_empty", func(c *Counters) uint64 { return c.GetEmpty }},
	{"get_no_ack", func(c *Counters) uint64 { return c.GetNoAck }},
	{"publish", func(c *Counters) uint64 { return c.Publish }},
	{"redeliver", func(c *Counters) uint64 { return c.Redeliver }},
	{"return_unroutable", func(c *Counters) uint64 { return c.ReturnUnroutable }},
}

// messageStats is a message_stats object: the counters, and the rate a second
// of each in "NAME_details". It writes itself since the field names are data,
// and a map a queue would be slow where there are many.
type messageStats struct {
	now  Counters
	rate rate[Counters]
}

// MarshalJSON implements json.Marshaler.
func (m messageStats) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 1024)
	for i := range counterNames {
		n := &counterNames[i]
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		b = append(b, separator, '"')
		b = append(b, n.name...)
		b = append(b, `":`...)
		b = strconv.AppendUint(b, n.get(&m.now), 10)
		b = append(b, `,"`...)
		b = append(b, n.name...)
		b = append(b, `_details":{"rate":`...)
		b = strconv.AppendFloat(b, m.rate.of(n.get), 'f', 1, 64)
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

// details is RabbitMQ's "…_details" object.
type details struct {
	Rate float64 `json:"rate"`
}

// rate is two samples of T and the seconds between them.
type rate[T any] struct {
	before, after T
	seconds       float64
}

// of is the rate a second of one of T's counters: 0 without two samples, or
// where the counter went back (a queue deleted and declared again).
func (r *rate[T]) of(get func(*T) uint64) float64 {
	before, after := get(&r.before), get(&r.after)
	if r.seconds <= 0 || after < before {
		return 0
	}
	return float64(after-before) / r.seconds
}

func (r *rate[T]) sample(now T, seconds float64) {
	r.before, r.after, r.seconds = r.after, now, seconds
}

// traffic is what a connection has carried, in bytes.
type traffic struct{ in, out uint64 }

type queueKey struct{ vhost, name string }

// sampled is a rate with the round it was last sampled in, to forget what is
// gone.
type sampled[T any] struct {
	rate[T]
	round uint64
}

// rates holds the last two samples of every counter that is shown with a rate.
// A round costs O(queues + connections).
type rates struct {
	source Source

	mu struct {
		sync.Mutex
		round       uint64
		at          time.Time
		total       rate[Counters]
		queues      map[queueKey]*sampled[Counters]
		connections map[string]*sampled[traffic]
	}
}

func newRates(s Source) *rates {
	r := &rates{source: s}
	r.mu.queues = map[queueKey]*sampled[Counters]{}
	r.mu.connections = map[string]*sampled[traffic]{}
	return r
}

// run samples every interval until ctx ends.
func (r *rates) run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		r.sample(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sample takes one sample of everything, as of now.
func (r *rates) sample(now time.Time) {
	total, queues, connections := r.source.Totals(), r.source.Queues(), r.source.Connections()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mu
	seconds := 0.0
	if m.round > 0 {
		seconds = now.Sub(m.at).Seconds()
	}
	m.round++
	m.at = now
	m.total.sample(total.Counters, seconds)
	for i := range queues {
		sampleInto(m.queues, queueKey{queues[i].Vhost, queues[i].Name}, queues[i].Counters, seconds, m.round)
	}
	for i := range connections {
		c := &connections[i]
		sampleInto(m.connections, c.Name, traffic{c.BytesIn, c.BytesOut}, seconds, m.round)
	}
	forget(m.queues, m.round)
	forget(m.connections, m.round)
}

// sampleInto samples one thing. What is seen for the first time has no rate
// yet: its first sample says nothing of when it counted.
func sampleInto[K comparable, T any](m map[K]*sampled[T], key K, now T, seconds float64, round uint64) {
	s := m[key]
	if s == nil {
		s = &sampled[T]{}
		m[key] = s
		seconds = 0
	}
	s.sample(now, seconds)
	s.round = round
}

func forget[K comparable, T any](m map[K]*sampled[T], round uint64) {
	for key, s := range m {
		if s.round != round {
			delete(m, key)
		}
	}
}

func (r *rates) total() rate[Counters] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.total
}

func (r *rates) queue(vhost, name string) rate[Counters] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.mu.queues[queueKey{vhost, name}]; s != nil {
		return s.rate
	}
	return rate[Counters]{}
}

func (r *rates) connection(name string) rate[traffic] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.mu.connections[name]; s != nil {
		return s.rate
	}
	return rate[traffic]{}
}
