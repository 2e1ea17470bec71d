package elect

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
)

var (
	simSeed    = flag.Uint64("sim.seed", 0, "play only this seed")
	simRuns    = flag.Int("sim.runs", 3, "seeds to play")
	simSeconds = flag.Int("sim.seconds", 15, "virtual seconds of a run")
)

// chaos is a world in which bad things happen.
type chaos struct {
	*world
	// back is when a dead, paused, hung or cut node is to be well again.
	back map[*node]time.Time

	promotions int
}

func newChaos(t *testing.T, seed uint64, size, quorum int) *chaos {
	c := &chaos{world: newWorld(t, seed, size, quorum), back: map[*node]time.Time{}}
	c.loss = c.random.IntN(60)
	c.delay[1] = time.Duration(1+c.random.IntN(25)) * millisecond
	c.fsync[1] = time.Duration(1+c.random.IntN(40)) * millisecond
	c.onLeader = func(*node, Promotion) { c.promotions++ }
	return c
}

// disturb lets something happen about three times a second.
func (c *chaos) disturb() {
	for _, n := range c.nodes {
		if due, ok := c.back[n]; ok && !c.now.Before(due) {
			c.well(n)
		}
	}
	if c.random.IntN(300) > 0 {
		return
	}
	n := c.nodes[c.random.IntN(len(c.nodes))]
	if _, ok := c.back[n]; ok {
		return
	}
	c.back[n] = c.now.Add(c.between([2]time.Duration{100 * millisecond, 5 * time.Second}))
	switch c.random.IntN(8) {
	case 0, 1:
		c.kill(n)
	case 2, 3:
		c.pause(n)
	case 4:
		c.note("hang %s", n.name)
		n.hung = true
	case 5:
		c.note("isolate %s", n.name)
		c.isolate(n)
	case 6: // one direction of some links
		for _, m := range c.nodes {
			if c.random.IntN(2) == 0 {
				c.cut[[2]int{n.id, m.id}] = true
			}
		}
	case 7: // only the backbone thinks that something happened
		m := c.nodes[c.random.IntN(len(c.nodes))]
		if n.state != dead && m != n {
			c.tell(n, m.name, false, millisecond)
			c.tell(n, m.name, true, time.Second)
		}
	}
}

func (c *chaos) well(n *node) {
	delete(c.back, n)
	n.hung = false
	for _, m := range c.nodes {
		delete(c.cut, [2]int{n.id, m.id})
		delete(c.cut, [2]int{m.id, n.id})
	}
	c.resume(n)
	c.start(n)
}

func (c *chaos) play() uint64 {
	for range *simSeconds * 1000 {
		c.step()
		c.disturb()
	}
	for _, n := range c.nodes {
		c.well(n)
	}
	c.loss = 0
	began := c.now
	l := c.settle()
	if took := c.now.Sub(began); took > 4*time.Second {
		c.fatalf("%s leads %v after all was well", l.name, took)
	}
	// Once at ease the group stays with its leader, but for its return to the
	// preferred one.
	c.run(12 * time.Second)
	for _, n := range c.nodes {
		if l := c.settle(); n.elector.View().Leader != l.name || n.role == raft.StateLeader && n != l {
			c.fatalf("%s leads, %s knows %+v", l.name, n.name, n.elector.View())
		}
	}
	return c.history.Sum64()
}

func TestSimulatedGroupsPromoteTheMostCaughtUp(t *testing.T) {
	cases := []struct{ size, quorum int }{{3, 0}, {5, 0}, {5, 2}, {7, 3}}
	for _, k := range cases {
		t.Run(fmt.Sprintf("%d brokers, quorum %d", k.size, k.quorum), func(t *testing.T) {
			first, runs := uint64(1), *simRuns
			if *simSeed != 0 {
				first, runs = *simSeed, 1
			}
			promotions, unclean, proposals := 0, 0, uint64(0)
			for seed := first; seed < first+uint64(runs); seed++ {
				c := newChaos(t, seed, k.size, k.quorum)
				hash := c.play()
				if seed == first {
					if again := newChaos(t, seed, k.size, k.quorum).play(); again != hash {
						t.Fatalf("seed %d told %x, and then %x", seed, hash, again)
					}
				}
				promotions += c.promotions
				unclean += c.unclean
				proposals += c.proposals
			}
			t.Logf("%d runs: %d promotions, %d unclean, %d proposals", runs, promotions, unclean, proposals)
		})
	}
}
