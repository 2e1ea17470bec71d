//go:build !race

// The race detector would only find that the simulation has one processor, and
// slow it down.

package broker

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/replicate"
)

func (s *simulation) report(hash uint64) {
	s.t.Logf("seed %d: history %016x, %v, %d terms, %d entries: %+v", s.seed, hash, s.now.Round(time.Millisecond), s.counts.leaders, len(s.model.log), s.counts)
}

func TestSimulatedClustersKeepTheirPromises(t *testing.T) {
	first, seeds := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, seeds = *simSeed, 1
	}
	var hash uint64
	for i := range seeds {
		seed := first + uint64(i)
		plan := drawPlan(seed)
		t.Run(fmt.Sprintf("seed %d, %s", seed, plan.name), func(t *testing.T) {
			s, h := simulate(t, seed, plan, *simSteps)
			hash = hash*31 + h
			s.report(h)
		})
	}
	t.Logf("seeds %d to %d: history %016x", first, first+uint64(seeds)-1, hash)
}

// What is confirmed by the leader's disk alone is lost with its broker where no
// other has it yet, as the table of quorums says. That nothing else is lost, every
// run expects.
func TestWhatTheLeaderAloneConfirmedCanBeLost(t *testing.T) {
	for seed := range uint64(40) {
		plan := drawPlan(seed)
		plan.name, plan.crash, plan.quorums = "leaders killed", 2, []replicate.Quorum{replicate.QuorumLeader}
		if s, _ := simulate(t, seed, plan, 60000); s.counts.forgotten > 0 {
			t.Logf("seed %d loses %d of %d", seed, s.counts.forgotten, s.counts.confirmed)
			return
		}
	}
	t.Error("nothing is ever lost")
}

func TestTheSameSeedIsTheSameCluster(t *testing.T) {
	seed := cmp.Or(*simSeed, 1)
	hash := func(seed uint64) uint64 {
		_, hash := simulate(t, seed, drawPlan(seed), 20000)
		return hash
	}
	first := hash(seed)
	if again := hash(seed); again != first {
		t.Errorf("seed %d: histories %016x and %016x", seed, first, again)
	}
	if other := hash(seed + 1); other == first {
		t.Errorf("seeds %d and %d: the same history", seed, seed+1)
	}
}
