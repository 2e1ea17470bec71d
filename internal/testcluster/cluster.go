package testcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// settleTime is how long after its fault a broker is not yet counted as living:
// what it had sent or been told before may still be under way.
const settleTime = 2 * time.Second

// Config says what cluster to start.
type Config struct {
	Binary  string
	Dir     string // for all that the brokers write
	Brokers int
	Args    []string // added to each broker's command line
	Log     func(string)
}

// Cluster is brokers b1…bN as processes of this machine. Its faults may be
// called from one goroutine at a time.
type Cluster struct {
	Brokers  []*Broker
	Timeline *Timeline
	Ledger   *Ledger

	wires map[[2]int]*wire // from the dialer to the target
	mu    struct {
		sync.Mutex
		problems []string
	}
}

// Start starts a cluster and returns when all its brokers serve.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	c := &Cluster{Timeline: newTimeline(config.Log), wires: make(map[[2]int]*wire)}
	c.Ledger = newLedger(c.Timeline, config.Brokers)
	host := loopback()
	for i := range config.Brokers {
		b, err := c.place(config, host, i)
		if err != nil {
			return nil, err
		}
		c.Brokers = append(c.Brokers, b)
	}
	for _, b := range c.Brokers {
		if err := c.connect(config, host, b); err != nil {
			c.Close()
			return nil, err
		}
	}
	if err := c.Restart(ctx, c.Brokers...); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// place chooses a broker's addresses and directory.
func (c *Cluster) place(config Config, host string, i int) (*Broker, error) {
	name := fmt.Sprintf("b%d", i+1)
	b := &Broker{
		Name: name, index: i, binary: config.Binary, timeline: c.Timeline,
		Data: filepath.Join(config.Dir, name), Output: filepath.Join(config.Dir, name+".log"),
		unexpected: func(b *Broker, err error) {
			c.problem("%s ended by itself: %v\n%s", b.Name, err, b.Tail(8192))
		},
	}
	for _, address := range []*string{&b.AMQP, &b.HTTP, &b.Backbone} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		*address = l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return b, os.MkdirAll(config.Dir, 0o755)
}

// connect puts the wires to the others in b's command line.
func (c *Cluster) connect(config Config, host string, b *Broker) error {
	var list []string
	for _, other := range c.Brokers {
		address := other.Backbone
		if other != b {
			w, err := newWire(host, other.Backbone)
			if err != nil {
				return err
			}
			c.wires[[2]int{b.index, other.index}] = w
			address = w.address()
		}
		list = append(list, other.Name+"="+address)
	}
	b.args = append([]string{
		"serve", "--name", b.Name, "--data", b.Data, "--amqp", b.AMQP, "--http", b.HTTP,
		"--cluster", strings.Join(list, ","),
	}, config.Args...)
	return nil
}

// Close kills all brokers.
func (c *Cluster) Close() {
	for _, b := range c.Brokers {
		b.kill()
	}
	for _, w := range c.wires {
		w.close()
	}
}

func (c *Cluster) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.problems = append(c.mu.problems, fmt.Sprintf(format, args...))
}

// Problems is what went wrong with the brokers themselves: ends that nobody
// asked for, and races that they reported.
func (c *Cluster) Problems() []string {
	c.mu.Lock()
	problems := append([]string(nil), c.mu.problems...)
	c.mu.Unlock()
	for _, b := range c.Brokers {
		text, err := os.ReadFile(b.Output)
		if err != nil {
			continue // It never started.
		}
		if at := strings.Index(string(text), "WARNING: DATA RACE"); at >= 0 {
			problems = append(problems, b.Name+": "+string(text[at:min(at+4000, len(text))]))
		}
	}
	return problems
}

// Restart starts brokers that are down, and returns when all of them serve.
func (c *Cluster) Restart(ctx context.Context, brokers ...*Broker) error {
	for _, b := range brokers {
		if err := b.Launch(); err != nil {
			return err
		}
	}
	for _, b := range brokers {
		if err := b.AwaitReady(ctx); err != nil {
			return err
		}
		c.Ledger.healed(b.index)
	}
	return nil
}

// Kill ends brokers with SIGKILL, all at once.
func (c *Cluster) Kill(brokers ...*Broker) {
	c.fault("killed", brokers...)
	var all sync.WaitGroup
	for _, b := range brokers {
		all.Go(b.kill)
	}
	all.Wait()
}

// Stop ends a broker with SIGTERM.
func (c *Cluster) Stop(ctx context.Context, b *Broker) error {
	c.fault("told to stop", b)
	err := b.terminate(ctx)
	c.Timeline.Note("%s has stopped", b.Name)
	return err
}

// Pause stops a broker's process from running.
func (c *Cluster) Pause(b *Broker) error {
	c.fault("paused", b)
	return b.pause(true)
}

// Resume lets a paused broker go on.
func (c *Cluster) Resume(b *Broker) error {
	c.Timeline.Note("%s resumes", b.Name)
	defer c.Ledger.healed(b.index)
	c.Ledger.goesOn(b.index)
	return b.pause(false)
}

// Cut takes the wires between b and all others. Bytes from b to the others meet
// out, bytes from them to b meet in.
func (c *Cluster) Cut(b *Broker, out, in Mode) {
	c.fault(fmt.Sprintf("cut off (out %v, in %v)", out, in), b)
	c.setWires(b, out, in)
}

// Heal mends what Cut cut.
func (c *Cluster) Heal(b *Broker) {
	c.Timeline.Note("%s is connected again", b.Name)
	c.setWires(b, Passes, Passes)
	c.Ledger.healed(b.index)
}

func (c *Cluster) setWires(b *Broker, out, in Mode) {
	for pair, w := range c.wires {
		switch b.index {
		case pair[0]:
			w.set(out, in)
		case pair[1]:
			w.set(in, out)
		}
	}
}

func (m Mode) String() string { return [...]string{"passes", "broken", "silent"}[m] }

func (c *Cluster) fault(what string, brokers ...*Broker) {
	for _, b := range brokers {
		c.Timeline.Note("%s is %s", b.Name, what)
		c.Ledger.faulted(b.index)
	}
}

// group is what a broker's HTTP side says of a group.
type group struct {
	ID      uint32 `json:"id"`
	Role    string `json:"role"`
	Term    uint64 `json:"term"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Last    uint64 `json:"last"`
}

// groups asks b how it stands in its groups.
func (b *Broker) groups(ctx context.Context) ([]group, error) {
	var nodes []struct {
		Name   string  `json:"name"`
		Groups []group `json:"groups"`
	}
	err := b.get(ctx, "/api/nodes", func(r io.Reader) error { return json.NewDecoder(r).Decode(&nodes) })
	for _, n := range nodes {
		if n.Name == b.Name {
			return n.Groups, err
		}
	}
	return nil, errors.Join(err, fmt.Errorf("GET /api/nodes of %s does not have it", b.Name))
}

// queueView is what a broker's HTTP side says of a queue.
type queueView struct {
	Group    uint32 `json:"group"`
	Messages int    `json:"messages"`
	Ready    int    `json:"messages_ready"`
	Unacked  int    `json:"messages_unacknowledged"`
}

func (b *Broker) queue(ctx context.Context, name string) (queueView, error) {
	var q queueView
	err := b.get(ctx, "/api/queues/%2F/"+url.PathEscape(name), func(r io.Reader) error { return json.NewDecoder(r).Decode(&q) })
	return q, err
}

// Leader returns the broker that leads a queue's group: of those that answer
// and say so, the one with the highest term. Brokers in without are not asked.
// It waits until there is one.
func (c *Cluster) Leader(ctx context.Context, queue string, without ...*Broker) (*Broker, error) {
	for {
		if b := c.leader(ctx, queue, without); b != nil {
			return b, nil
		}
		if err := pause(ctx, poll); err != nil {
			return nil, fmt.Errorf("testcluster: no leader of %s: %w", queue, err)
		}
	}
}

func (c *Cluster) leader(ctx context.Context, queue string, without []*Broker) *Broker {
	var leader *Broker
	var term uint64
	for _, b := range c.Brokers {
		if !b.answers() || contains(without, b) {
			continue
		}
		q, err := b.queue(ctx, queue)
		if err != nil {
			continue
		}
		groups, err := b.groups(ctx)
		if err != nil {
			continue
		}
		for _, g := range groups {
			if g.ID == q.Group && g.Role == "leader" && g.Term > term {
				leader, term = b, g.Term
			}
		}
	}
	return leader
}

func contains(brokers []*Broker, b *Broker) bool {
	for _, other := range brokers {
		if other == b {
			return true
		}
	}
	return false
}

// Mirrors are the brokers that are not b.
func (c *Cluster) Mirrors(b *Broker) []*Broker {
	var mirrors []*Broker
	for _, other := range c.Brokers {
		if other != b {
			mirrors = append(mirrors, other)
		}
	}
	return mirrors
}
