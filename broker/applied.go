package broker

import (
	"context"
	"sync"
	"time"
)

// followersTime is how long a change of the topology waits for the other living
// brokers to apply it. Who declares a queue at one broker and publishes to it
// at another at once must find it there; a broker that is in trouble must not
// stop everybody's declares.
const followersTime = time.Second

// appliedAt knows up to which entry of the topology each broker has applied.
type appliedAt struct {
	mu      sync.Mutex
	changed sync.Cond
	index   map[string]uint64
}

func newAppliedAt() *appliedAt {
	a := &appliedAt{index: make(map[string]uint64)}
	a.changed.L = &a.mu
	return a
}

// tell notes what a broker says.
func (a *appliedAt) tell(name string, index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index[name] = index
	a.changed.Broadcast()
}

// await waits until all that living names have applied the entry at index, or
// ctx ends.
func (a *appliedAt) await(ctx context.Context, index uint64, living func() []string) {
	ctx, cancel := context.WithTimeout(ctx, followersTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		a.mu.Lock()
		a.changed.Broadcast()
		a.mu.Unlock()
	})()
	a.mu.Lock()
	defer a.mu.Unlock()
	for ctx.Err() == nil && a.behind(index, living()) {
		a.changed.Wait()
	}
}

// behind is called with mu held.
func (a *appliedAt) behind(index uint64, names []string) bool {
	for _, name := range names {
		if a.index[name] < index {
			return true
		}
	}
	return false
}

// applied tells the other brokers, and itself, how far this one's topology is.
func (c *cluster) appliedTopology(index uint64) {
	c.applied.tell(c.broker.config.Name, index)
	for _, name := range c.broker.living() {
		if name != c.broker.config.Name {
			c.sendTo(name, toGateway, &wireMessage{kind: wireApplied, seq: index})
		}
	}
}
