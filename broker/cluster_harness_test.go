package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/elect"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/freeport"
)

// testCluster is brokers b1…bN in this process, each with a directory and ports
// of its own, over a real backbone.
type testCluster struct {
	t       testing.TB
	names   []string
	configs map[string]Config
	brokers map[string]*Broker // those that run
	alone   map[string]bool    // those that were cut off
}

// startCluster starts n brokers, which are stopped when the test ends.
func startCluster(t testing.TB, n int, change ...func(*Config)) *testCluster {
	t.Helper()
	c := &testCluster{t: t, configs: make(map[string]Config), brokers: make(map[string]*Broker), alone: make(map[string]bool)}
	addresses := make(map[string]string)
	for i := range n {
		name := fmt.Sprintf("b%d", i+1)
		c.names = append(c.names, name)
		addresses[name] = freeAddress(t, addresses)
	}
	for _, name := range c.names {
		config := Config{
			Name: name, Data: t.TempDir(), AMQP: "127.0.0.1:0", HTTP: "-", Fsync: "never", Groups: 1,
			Cluster: addresses, ClusterSecret: "of this test",
		}
		if os.Getenv("MIRRORMQ_TEST_LOG") != "" {
			options := &slog.HandlerOptions{Level: slog.LevelDebug}
			config.Logger = slog.New(slog.NewTextHandler(os.Stderr, options)).With("broker", name)
		}
		for _, f := range change {
			f(&config)
		}
		c.configs[name] = config
	}
	c.start(c.names...)
	t.Cleanup(func() { c.stop(c.running()...) })
	return c
}

// freeAddress is an address that nobody listens on, and none of those taken.
func freeAddress(t testing.TB, taken map[string]string) string {
	t.Helper()
	for {
		addresses, err := freeport.Addresses(1)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(slices.Collect(maps.Values(taken)), addresses[0]) {
			return addresses[0]
		}
	}
}

// start starts brokers at the same time: alone, one would wait for the others.
func (c *testCluster) start(names ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	var mu sync.Mutex
	c.all(names, func(name string) error {
		b, err := startAgain(ctx, c.configs[name])
		if err == nil {
			mu.Lock()
			c.brokers[name], c.alone[name] = b, false
			mu.Unlock()
		}
		return err
	})
}

// startAgain starts a broker, and again where it finds out that it is a newcomer.
func startAgain(ctx context.Context, config Config) (*Broker, error) {
	b, err := Start(ctx, config)
	if errors.Is(err, ErrNewcomer) {
		b, err = Start(ctx, config)
	}
	return b, err
}

// stop stops brokers as SIGTERM does, and waits: not for long where one was cut
// off, which can't finish what it has begun.
func (c *testCluster) stop(names ...string) {
	c.t.Helper()
	stopping := make(map[string]*Broker)
	for _, name := range names {
		stopping[name] = c.brokers[name]
		delete(c.brokers, name)
	}
	c.all(names, func(name string) error {
		grace := patience
		if c.alone[name] {
			grace = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		return stopping[name].Stop(ctx)
	})
}

// all calls f for each name at the same time, and waits.
func (c *testCluster) all(names []string, f func(name string) error) {
	c.t.Helper()
	var wait sync.WaitGroup
	for _, name := range names {
		wait.Go(func() {
			if err := f(name); err != nil {
				c.t.Errorf("%s: %v", name, err)
			}
		})
	}
	wait.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *testCluster) running() (names []string) {
	for _, name := range c.names {
		if c.brokers[name] != nil {
			names = append(names, name)
		}
	}
	return names
}

// others is the running brokers but for some.
func (c *testCluster) others(but ...string) []string {
	return slices.DeleteFunc(c.running(), func(name string) bool { return slices.Contains(but, name) })
}

func (c *testCluster) address(name string) string { return c.brokers[name].AMQPAddr().String() }

// cut takes a broker off the backbone for good, at once, as if it were killed as
// far as the others can see. It goes on running and serving its clients.
func (c *testCluster) cut(name string) {
	c.t.Helper()
	c.alone[name] = true
	if err := c.brokers[name].cluster.backbone.Close(); err != nil {
		c.t.Fatal(err)
	}
}

// deafen has brokers lose what another's raft sends them: of the groups that it
// leads they get nothing more, though they hear that it lives.
func (c *testCluster) deafen(from string, names ...string) {
	for _, name := range names {
		cluster := c.brokers[name].cluster
		cluster.mu.Lock()
		delete(cluster.mu.up, from)
		cluster.mu.Unlock()
	}
}

// hear ends deafen.
func (c *testCluster) hear(from string, names ...string) {
	for _, name := range names {
		cluster := c.brokers[name].cluster
		cluster.mu.Lock()
		cluster.mu.up[from] = true
		cluster.mu.Unlock()
	}
}

// leader waits until every running broker but some knows the same leader of a
// group, which is none of those, and returns it.
func (c *testCluster) leader(g entry.GroupID, but ...string) string {
	c.t.Helper()
	names := c.others(but...)
	var leader string
	c.eventually(fmt.Sprintf("a leader of group %d", g), func() bool {
		leaders := make(map[string]bool)
		for _, name := range names {
			w := c.brokers[name].gateways[g]
			w.mu.Lock()
			leader = w.mu.leader
			accepted := w.mu.accepted
			w.mu.Unlock()
			if !accepted {
				return false
			}
			leaders[leader] = true
		}
		return len(leaders) == 1 && slices.Contains(names, leader)
	})
	return leader
}

// applied waits until brokers have applied all that another has of a group.
func (c *testCluster) applied(g entry.GroupID, from string, names ...string) {
	c.t.Helper()
	index := c.brokers[from].groups[g].applied.Load()
	c.eventually("the mirrors", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return c.brokers[name].groups[g].applied.Load() < index })
	})
}

// term is a group's as a broker knows it.
func (c *testCluster) term(name string, g entry.GroupID) uint64 {
	w := c.brokers[name].gateways[g]
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.term
}

// promotion waits until a broker knows who followed the leader of a term, and
// returns the account of it.
func (c *testCluster) promotion(name string, g entry.GroupID, term uint64) (next elect.Promotion) {
	c.t.Helper()
	cluster := c.brokers[name].cluster
	c.eventually("the account of a promotion", func() bool {
		cluster.mu.Lock()
		defer cluster.mu.Unlock()
		for _, p := range cluster.history.Promotions() {
			if p.Group == g && p.Term > term && (next.Term == 0 || p.Term < next.Term) {
				next = p
			}
		}
		return next.Term != 0
	})
	return next
}

// eventually waits until a condition holds.
func (c *testCluster) eventually(what string, holds func() bool) {
	c.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(2 * patience); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}
