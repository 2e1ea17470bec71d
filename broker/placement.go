package broker

import (
	"sync"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// placing is the queues that this broker is declaring, with their groups: the
// registry need not know of them yet. Without it the queues that many connections
// declare at once would all go to the same group.
type placing struct {
	mu     sync.Mutex
	queues map[entry.QueueID]entry.GroupID
}

// place chooses the group of a new queue: in memory for what goes with its
// broker or connection, else the one with the fewest queues, the lowest of
// several. done is to be called once the queue is registered, or is not to be.
//
// Two brokers that declare at the same time may choose the same group; asking
// the topology's leader first would cost each declare a round trip. O(groups + those that are being declared).
func (b *Broker) place(q *topology.Queue) (chosen entry.GroupID, done func()) {
	if inMemory(q) {
		return b.members.volatileGroup(b.config.Name), func() {}
	}
	p := &b.placing
	p.mu.Lock()
	defer p.mu.Unlock()
	b.view(func(s *topology.State) {
		beside := make(map[entry.GroupID]int)
		for other, id := range p.queues {
			if s.QueueByID(other) == nil { // else it is counted
				beside[id]++
			}
		}
		fewest := 0
		for id := range b.members.queueGroups() {
			if n := s.QueuesIn(id) + beside[id]; chosen == 0 || n < fewest {
				chosen, fewest = id, n
			}
		}
	})
	if p.queues == nil {
		p.queues = make(map[entry.QueueID]entry.GroupID)
	}
	p.queues[q.ID] = chosen
	return chosen, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.queues, q.ID)
	}
}

// inMemory reports whether a queue goes with its broker or connection.
func inMemory(q *topology.Queue) bool { return !q.Durable || q.Exclusive || q.AutoDelete }
