package broker

import (
	"strconv"
	"sync/atomic"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// quorumUse knows the smallest number that queues of each group have as their
// ack quorum, the leader's alone left out: an election in a group with one below
// the majority has to hear of more positions than a majority's (see elect).
type quorumUse struct {
	// counts is the queues of each group by their number; the topology's loop
	// owns it.
	counts map[entry.GroupID]map[int]int
	// smallest is made anew with each change of it. Any goroutine reads it.
	smallest atomic.Pointer[map[entry.GroupID]int]
	// known is set once the topology here is up to date.
	known atomic.Bool
}

func newQuorumUse(state *topology.State) *quorumUse {
	u := &quorumUse{counts: make(map[entry.GroupID]map[int]int)}
	u.smallest.Store(new(map[entry.GroupID]int))
	u.change(state.AllQueues(), nil)
	return u
}

// change counts queues that came and went. Called on the topology's loop. O(1) a
// queue; O(numbers in use) more for each that has one.
func (u *quorumUse) change(added, deleted []*topology.Queue) {
	changed := false
	count := func(q *topology.Queue, by int) {
		n, err := strconv.Atoi(q.AckQuorum)
		if err != nil || n <= 1 || q.Group >= entry.Volatile {
			return
		}
		if u.counts[q.Group] == nil {
			u.counts[q.Group] = make(map[int]int)
		}
		if u.counts[q.Group][n] += by; u.counts[q.Group][n] <= 0 {
			delete(u.counts[q.Group], n)
		}
		changed = true
	}
	for _, q := range added {
		count(q, 1)
	}
	for _, q := range deleted {
		count(q, -1)
	}
	if !changed {
		return
	}
	smallest := make(map[entry.GroupID]int)
	for g, numbers := range u.counts {
		for n := range numbers {
			if smallest[g] == 0 || n < smallest[g] {
				smallest[g] = n
			}
		}
	}
	u.smallest.Store(&smallest)
}

// of is the smallest number in use in a group, 0 for none.
func (u *quorumUse) of(g entry.GroupID) int { return (*u.smallest.Load())[g] }

// smallestQuorum is the smallest number of disks above one that what is
// published to a group is confirmed at, 0 where no queue has a number. It may
// be that of a majority or more, which elections have no need to know. Until
// this broker has the whole topology, as after a restart of all brokers, it is
// the smallest there can be. Cheap: it is asked for in every round of a loop.
func (b *Broker) smallestQuorum(g entry.GroupID) int {
	switch {
	case g == entry.Topology:
		return 0 // Always confirmed at a majority.
	case !b.topology.use.known.Load():
		return 2
	}
	n := b.topology.use.of(g)
	if usual := int(b.quorums().usual); usual > 1 && (n == 0 || usual < n) {
		n = usual
	}
	return n
}

// quorums says what ack quorums mean here.
func (b *Broker) quorums() quorums { return newQuorums(b.members.copies, b.config.AckQuorum) }
