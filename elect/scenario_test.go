package elect

import (
	"flag"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
)

// leaderless is how long it takes after an event until a new leader is known
// here.
func (w *world) leaderless(gone *node) (time.Duration, *node) {
	w.t.Helper()
	began := w.now
	for range 10_000 {
		w.step()
		if l := w.leader(); l != nil && l != gone {
			return w.now.Sub(began), l
		}
	}
	w.fatalf("no new leader within 10 s")
	return 0, nil
}

var one = flag.Uint64("one", 0, "")

type times []time.Duration

func (t times) report(tt *testing.T, what string) {
	slices.Sort(t)
	tt.Logf("%s: median %v, worst %v of %d", what, t[len(t)/2], t[len(t)-1], len(t))
}

// best is the highest position of the running nodes but one.
func (w *world) best(but *node) *node {
	var best *node
	for _, n := range w.nodes {
		if n != but && n.state == runs && (best == nil || n.last.Compare(best.last) > 0) {
			best = n
		}
	}
	return best
}

func TestAKilledLeaderIsFollowedWithin150Milliseconds(t *testing.T) {
	for _, size := range []int{3, 5} {
		var all times
		for seed := range uint64(100) {
			if *one != 0 && *one != seed+1 {
				continue
			}
			w := newWorld(t, seed+1, size, 0)
			old := w.settle()
			w.run(3 * time.Second)
			if l := w.leader(); l != old {
				w.fatalf("leadership went from %s to %v without a cause", old.name, l)
			}
			w.kill(old)
			took, l := w.leaderless(old)
			if took > 150*millisecond {
				w.fatalf("it took %v", took)
			}
			if best := w.best(old); l.last.Index < best.last.Index {
				w.fatalf("%s was promoted at %v, %s has %v", l.name, l.last, best.name, best.last)
			}
			all = append(all, took)
		}
		all.report(t, "killed")
	}
}

func TestAPausedLeaderIsFollowedWithin550Milliseconds(t *testing.T) {
	for _, size := range []int{3, 5} {
		var all times
		for seed := range uint64(100) {
			if *one != 0 && *one != seed+1 {
				continue
			}
			w := newWorld(t, seed+1, size, 0)
			old := w.settle()
			w.run(time.Second)
			w.pause(old)
			took, _ := w.leaderless(old)
			if took > 550*millisecond {
				w.fatalf("it took %v", took)
			}
			all = append(all, took)
			w.run(3 * time.Second)
			w.resume(old)
			w.run(200 * millisecond)
			if old.role == raft.StateLeader && w.leader() != old {
				w.fatalf("%s came back and still leads", old.name)
			}
		}
		all.report(t, "paused")
	}
}
