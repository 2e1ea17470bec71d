package broker

import (
	"sync"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// placing counts, by group, the queues that this broker is declaring: the
// registry does not know of them yet. Without it the queues that many
// connections declare at once would all go to the same group.
type placing struct {
	mu    sync.Mutex
	queue map[entry.GroupID]int
}

// place chooses the group of a new queue: in memory for what goes with its
// broker or connection, else the one with the fewest queues, the lowest of
// several. done is to be called once the queue is registered, or is not to be.
//
// Two brokers that declare at the same time may choose the same group; asking
// the topology's leader first would cost each declare a round trip. O(groups).
func (b *Broker) place(q *topology.Queue) (chosen entry.GroupID, done func()) {
	if inMemory(q) {
		return b.members.volatileGroup(b.config.Name), func() {}
	}
	p := &b.placing
	p.mu.Lock()
	defer p.mu.Unlock()
	b.view(func(s *topology.State) {
		fewest := 0
		for id := entry.GroupID(1); int(id) <= b.config.Groups; id++ {
			if n := s.QueuesIn(id) + p.queue[id]; chosen == 0 || n < fewest {
				chosen, fewest = id, n
			}
		}
	})
	if p.queue == nil {
		p.queue = make(map[entry.GroupID]int)
	}
	p.queue[chosen]++
	return chosen, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queue[chosen]--
	}
}

// inMemory reports whether a queue goes with its broker or connection.
func inMemory(q *topology.Queue) bool { return !q.Durable || q.Exclusive || q.AutoDelete }
