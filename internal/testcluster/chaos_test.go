package testcluster

import (
	"context"
	"testing"
	"time"
)

// TestRandomFaults plays faults that are drawn one after the other: mostly on
// one broker, so that a majority lives, now and then on two or on all.
func TestRandomFaults(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	until := time.Now().Add(*chaos)
	for time.Now().Before(until) {
		r.wait(r.between(50*time.Millisecond, time.Second))
		switch n := r.random.IntN(20); {
		case n == 0:
			r.killAll()
		case n < 4:
			r.two()
		default:
			r.one()
		}
	}
	r.judge()
}

func (r *run) between(low, high time.Duration) time.Duration {
	return low + time.Duration(r.random.Int64N(int64(high-low)))
}

// one has a random fault strike one broker, for a short time or a longer one.
func (r *run) one() {
	r.t.Helper()
	faults := []Fault{Killed, Killed, Paused, Paused, CutOff, Unheard, Mute, Deaf, Stopped, Lost}
	lasts := r.between(0, 800*time.Millisecond)
	if r.random.IntN(2) == 0 {
		lasts = r.between(time.Second, 6*time.Second)
	}
	victim := r.leader()
	if r.random.IntN(2) == 0 {
		victim = r.cluster.Brokers[r.random.IntN(len(r.cluster.Brokers))]
	}
	r.play(faults[r.random.IntN(len(faults))], victim, lasts)
}

// two has faults strike two brokers, one after the other, so that no majority
// is left for a while: clients wait, and go on when it is back.
func (r *run) two() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 2*recoverTime)
	defer cancel()
	faults := []Fault{Killed, Paused, CutOff, Unheard}
	order := r.random.Perm(len(r.cluster.Brokers))
	first, second := r.cluster.Brokers[order[0]], r.cluster.Brokers[order[1]]
	f, g := faults[r.random.IntN(len(faults))], faults[r.random.IntN(len(faults))]
	if g.Name == f.Name {
		g = Killed // Mending a cut mends the wire between the two.
	}
	r.must(f.Strike(ctx, r.cluster, first))
	r.wait(r.between(0, time.Second))
	r.must(g.Strike(ctx, r.cluster, second))
	// The third can't reach a majority: to the others it is as good as dead.
	third := r.cluster.Brokers[order[2]]
	r.cluster.fault("left alone", third)
	r.wait(r.between(0, 2*time.Second))
	// A broker that starts may not be ready before the other is back.
	mended := make(chan error, 1)
	go func() { mended <- g.Mend(ctx, r.cluster, second) }()
	r.wait(r.between(0, 500*time.Millisecond))
	r.must(f.Mend(ctx, r.cluster, first))
	r.must(<-mended)
	r.cluster.Ledger.healed(third.index)
	r.must(r.load.AwaitFlow(ctx, r.cluster.Timeline.now(), r.cluster.Brokers...))
	r.wait(settleTime)
}

func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.fail(err)
	}
}
