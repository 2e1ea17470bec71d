package broker

import (
	"flag"
	"math/rand/v2"
	"testing"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "simulate only this seed")
	simSeeds = flag.Int("sim.seeds", 10, "seeds to simulate")
	simSteps = flag.Int("sim.steps", 60000, "steps of trouble in each run")
	simTrace = flag.Bool("sim.trace", false, "print what happens")
	simLogs  = flag.Bool("sim.log", false, "print what the brokers log")
)

func TestSimulatedClustersKeepTheirPromises(t *testing.T) {
	first, seeds := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, seeds = *simSeed, 1
	}
	var hash uint64
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(drawPlan(seed).name, func(t *testing.T) {
			s := newSimulation(t, seed, drawPlan(seed))
			h := s.run(*simSteps)
			hash = hash*31 + h
			t.Logf("seed %d: history %016x, %v, %d terms, %d entries: %+v", seed, h, s.now, s.counts.leaders, len(s.model.log), s.counts)
		})
	}
	t.Logf("seeds %d to %d: history %016x", first, first+uint64(seeds)-1, hash)
}

func TestTheSameSeedIsTheSameCluster(t *testing.T) {
	seed := *simSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	first := newSimulation(t, seed, drawPlan(seed)).run(10000)
	if again := newSimulation(t, seed, drawPlan(seed)).run(10000); again != first {
		t.Errorf("seed %d: histories %016x and %016x", seed, first, again)
	}
}
