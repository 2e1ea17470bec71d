package broker

import (
	"context"
	"fmt"
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
			c.sendTo(name, toGateway, &wireMessage{
				kind: wireApplied, seq: index, n: uint64(c.broker.members.copies), m: uint64(c.broker.members.groups),
			})
		}
	}
}

// differTime is how long a broker that can't go on stays to say so.
const differTime = time.Second

// compare takes how many copies and groups another broker knows of. Brokers that
// differ in the copies don't agree on who has which group: their raft ids are
// others, so neither hears the other's, and one that starts is to say why.
func (c *cluster) compare(name string, copies, groups int) {
	own := c.broker.members
	if copies == 0 || copies == own.copies && groups == own.groups {
		return
	}
	err := fmt.Errorf("broker %s has %d copies of each queue in %d groups, this one %d in %d: give all brokers the same --copies and --groups",
		name, copies, groups, own.copies, own.groups)
	c.mu.Lock()
	told := c.mu.differs[name]
	c.mu.differs[name] = true
	c.mu.Unlock()
	if told {
		return
	}
	c.logger.Error("brokers differ", "err", err)
	if copies != own.copies && !c.broker.ready.Load() {
		c.broker.spawn(func() {
			pause(c.broker.context, differTime) // The other is to hear of it too.
			c.broker.fail(err)
		})
	}
}
