package backbone

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mirrormq/mirrormq/internal/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

// happening is one call of a handler, as it was.
type happening struct {
	what    string
	class   Class
	peer    string
	payload []byte
	at      time.Time
}

// recorder is a Handler that remembers, and lets tests wait for a condition.
type recorder struct {
	b        *Backbone
	take     bool // gives every message back at once
	forget   bool // keeps no payloads
	onArrive func(c Class, from string, payload []byte)
	watch    func(h happening)
	drop     func(i item) bool // loses what is published
	echo     chan struct{}     // datagrams are answered, and answers told here

	mu      sync.Mutex
	changed chan struct{}
	events  []happening
	up      map[string]uint64
	bytes   int
}

func newRecorder() *recorder {
	return &recorder{take: true, changed: make(chan struct{}), up: map[string]uint64{}}
}

func (r *recorder) note(h happening) {
	h.at = time.Now()
	if r.watch != nil {
		r.watch(h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += len(h.payload)
	if r.forget {
		h.payload = nil
	}
	if !r.forget || h.what != "message" {
		r.events = append(r.events, h)
	}
	switch h.what {
	case "down":
		delete(r.up, h.peer)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Datagram(c Class, from string, payload []byte) {
	if r.echo != nil && string(payload) == "beat" {
		r.b.Send(c, from, []byte("back"))
	} else if r.echo != nil {
		r.echo <- struct{}{}
	}
	r.note(happening{what: "datagram", class: c, peer: from, payload: payload})
}

func (r *recorder) Message(c Class, from string, payload []byte) {
	if r.onArrive != nil {
		r.onArrive(c, from, payload)
	}
	r.note(happening{what: "message", class: c, peer: from, payload: payload})
	if r.take {
		r.b.Consumed(c, from, len(payload))
	}
}

func (r *recorder) LinkReset(c Class, from string) {
	r.note(happening{what: "reset", class: c, peer: from})
}

func (r *recorder) LinkBroken(c Class, to string) {
	r.note(happening{what: "broken", class: c, peer: to})
}

func (r *recorder) LinkWritable(c Class, to string) {
	r.note(happening{what: "writable", class: c, peer: to})
}

func (r *recorder) PeerUp(name string, incarnation uint64) {
	r.mu.Lock()
	r.up[name] = incarnation
	r.mu.Unlock()
	r.note(happening{what: "up", peer: name})
}

func (r *recorder) PeerDown(name string) { r.note(happening{what: "down", peer: name}) }

// await waits until the condition holds.
func (r *recorder) await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if condition() {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("%s: waited %v in vain for %s", r.b.config.Name, patience, what)
		}
	}
}

// count is how many events of a kind there were.
func (r *recorder) count(what, peer string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, h := range r.events {
		if h.what == what && h.peer == peer {
			n++
		}
	}
	return n
}

// last is the latest event of a kind.
func (r *recorder) last(what, peer string) happening {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := len(r.events) - 1; n >= 0; n-- {
		if r.events[n].what == what && r.events[n].peer == peer {
			return r.events[n]
		}
	}
	return happening{}
}

func (r *recorder) awaitUp(t testing.TB, peers ...string) {
	t.Helper()
	r.await(t, fmt.Sprintf("%v up", peers), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range peers {
			if _, ok := r.up[p]; !ok {
				return false
			}
		}
		return true
	})
}

func (r *recorder) awaitCount(t testing.TB, what, peer string, n int) {
	t.Helper()
	r.await(t, fmt.Sprintf("%d × %s %s", n, what, peer), func() bool { return r.count(what, peer) >= n })
}

// freePorts are addresses that were free a moment ago.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	addresses, err := freeport.Addresses(n)
	if err != nil {
		t.Fatal(err)
	}
	return addresses
}

// cluster is several backbones in this process.
type cluster struct {
	t       testing.TB
	configs map[string]Config
	live    map[string]*recorder
}

// newCluster has brokers b1…bn, none of them started.
func newCluster(t testing.TB, n int, change func(c *Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, configs: map[string]Config{}, live: map[string]*recorder{}}
	peers := map[string]string{}
	for k, address := range freePorts(t, n) {
		peers[fmt.Sprintf("b%d", k+1)] = address
	}
	for name := range peers {
		own := map[string]string{}
		for n, a := range peers {
			own[n] = a
		}
		config := Config{Name: name, Peers: own, Incarnation: uint64(name[1]), Secret: "test"}
		if os.Getenv("MIRRORMQ_LOG") != "" {
			config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("broker", name)
		}
		if change != nil {
			change(&config)
		}
		c.configs[name] = config
	}
	t.Cleanup(func() {
		for name := range c.live {
			c.stop(name)
		}
	})
	return c
}

func (c *cluster) start(name string, prepare ...func(r *recorder)) *recorder {
	c.t.Helper()
	r := newRecorder()
	for _, p := range prepare {
		p(r)
	}
	config := c.configs[name]
	config.Handler = r
	// The handler may be called before Start returns.
	r.mu.Lock()
	defer r.mu.Unlock()
	b := newBackbone(config.withDefaults())
	for _, conn := range b.conns {
		if publish := conn.w.publish; r.drop != nil {
			conn.w.publish = func(i item) {
				if !r.drop(i) {
					publish(i)
				}
			}
		}
	}
	if err := b.start(); err != nil {
		c.t.Fatal(err)
	}
	r.b, c.live[name] = b, r
	return r
}

// startAll starts every broker and waits until all see all with open links.
func (c *cluster) startAll(prepare ...func(r *recorder)) {
	c.t.Helper()
	for name := range c.configs {
		c.start(name, prepare...)
	}
	c.awaitMesh()
}

func (c *cluster) awaitMesh() {
	c.t.Helper()
	for _, r := range c.live {
		for other := range c.live {
			if other == r.b.config.Name {
				continue
			}
			r.awaitUp(c.t, other)
			for class := range Class(classes) {
				r.awaitOpen(c.t, class, other)
			}
		}
	}
}

// awaitOpen waits until a link takes messages.
func (r *recorder) awaitOpen(t testing.TB, class Class, to string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !r.b.Writable(class, to, 0) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: the %s link to %s does not open", r.b.config.Name, class, to)
		}
		<-ticker.C
	}
}

func (c *cluster) stop(name string) {
	if r, ok := c.live[name]; ok {
		delete(c.live, name)
		if err := r.b.Close(); err != nil {
			c.t.Error(err)
		}
	}
}
