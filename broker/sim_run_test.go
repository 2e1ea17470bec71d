package broker

import (
	"cmp"
	"flag"
	"fmt"
	"testing"
	"time"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "simulate only this seed")
	simSeeds = flag.Int("sim.seeds", 10, "seeds to simulate")
	simSteps = flag.Int("sim.steps", 60000, "steps of trouble in each run")
	simTrace = flag.Bool("sim.trace", false, "print what happens")
	simLogs  = flag.Bool("sim.log", false, "print what the brokers log")
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
			s := newSimulation(t, seed, plan)
			h := s.run(*simSteps)
			hash = hash*31 + h
			s.report(h)
		})
	}
	t.Logf("seeds %d to %d: history %016x", first, first+uint64(seeds)-1, hash)
}

// What simulation found, by the seed that did.
func TestSeedsThatFoundBugs(t *testing.T) {
	for name, seed := range map[string]uint64{
		"half a greeting was taken for all of it":             33,
		"what a closed channel got was asked for again":       45,
		"the consumer of a closed channel waited for ever":    72,
		"a credit settled a message that was never delivered": 12,
		"a get of a closed channel kept its message for ever": 43,
		"a get waited longer than its channel":                42,
	} {
		t.Run(name, func(t *testing.T) { newSimulation(t, seed, drawPlan(seed)).run(60000) })
	}
}

func TestTheSameSeedIsTheSameCluster(t *testing.T) {
	seed := cmp.Or(*simSeed, 1)
	first := newSimulation(t, seed, drawPlan(seed)).run(20000)
	if again := newSimulation(t, seed, drawPlan(seed)).run(20000); again != first {
		t.Errorf("seed %d: histories %016x and %016x", seed, first, again)
	}
	if other := newSimulation(t, seed+1, drawPlan(seed)).run(20000); other == first {
		t.Errorf("seeds %d and %d: the same history", seed, seed+1)
	}
}
