package elect

import (
	"flag"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
)

// leaderless is how long it takes from now until another than gone leads.
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

// best is the running node, but for one, that got furthest.
func (w *world) best(but *node) *node {
	var best *node
	for _, n := range w.nodes {
		if n != but && n.state == runs && (best == nil || n.last.Compare(best.last) > 0) {
			best = n
		}
	}
	return best
}

// others are the running nodes but one.
func (w *world) others(but *node) []*node {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(n *node) bool { return n == but || n.state != runs })
}

// steady runs and wants the leader to stay.
func (w *world) steady(l *node, d time.Duration) {
	w.t.Helper()
	term := l.term
	for end := w.now.Add(d); w.now.Before(end); {
		w.step()
		if w.leader() != l || l.term != term {
			w.fatalf("%s led term %d, and was deposed", l.name, term)
		}
	}
}

var scenarioSeeds = flag.Int("elect.seeds", 6, "seeds of each timed scenario")

func TestHowLongAGroupHasNoLeader(t *testing.T) {
	cases := []struct {
		what   string
		quorum int
		event  func(w *world, leader *node)
		limit  time.Duration
		reason Reason
	}{
		{"the leader is killed", 0, (*world).kill, 150 * millisecond, Gone},
		{"the leader is paused", 0, (*world).pause, 550 * millisecond, Silent},
		{"the leader is cut off", 0, (*world).isolate, 550 * millisecond, Silent},
		{"the leader's disk hangs", 0, func(_ *world, l *node) { l.hung = true }, 850 * millisecond, Silent},
		{"the leader is stopped as planned", 0, func(w *world, l *node) { l.elector.HandOver(w.now) }, 100 * millisecond, HandedOver},
		{"an operator transfers", 0, func(w *world, l *node) {
			w.check(l.elector.TransferTo(w.now, w.others(l)[1].name))
		}, 100 * millisecond, Ordered},
		{"the leader is killed, quorum 2", 2, (*world).kill, 200 * millisecond, Gone},
		{"the leader is paused, quorum 2", 2, (*world).pause, 600 * millisecond, Silent},
	}
	for _, c := range cases {
		for _, size := range []int{3, 5} {
			if c.quorum > 0 && size == 3 {
				continue // 2 is a majority
			}
			var took []time.Duration
			for seed := range uint64(*scenarioSeeds) {
				w := newWorld(t, seed+1, size, c.quorum)
				old := w.settle()
				w.steady(old, 2*time.Second)
				w.onLeader = func(n *node, p Promotion) {
					if p.From != old.name || p.Reason != c.reason || !p.Clean {
						w.fatalf("%s: %+v", c.what, p)
					}
				}
				c.event(w, old)
				d, l := w.leaderless(old)
				if d > c.limit {
					w.fatalf("%s: it took %v", c.what, d)
				}
				if best := w.best(old); l.last.Index < best.last.Index {
					w.fatalf("%s was promoted at %v, %s has %v", l.name, l.last, best.name, best.last)
				}
				took = append(took, d)
			}
			slices.Sort(took)
			t.Logf("%s, %d brokers: median %v, worst %v", c.what, size, took[len(took)/2], took[len(took)-1])
		}
	}
}

func TestAPausedLeaderComesBackAsAMirror(t *testing.T) {
	w := newWorld(t, 1, 3, 0)
	old := w.settle()
	w.pause(old)
	w.run(25 * time.Second)
	w.resume(old)
	w.step()
	if old.elector.Leads() {
		t.Error("it takes itself for the leader after it heard of its successor")
	}
	w.run(200 * millisecond)
	if old.role == raft.StateLeader {
		t.Error("it still leads")
	}
	if l := w.settle(); l == old {
		t.Error("it leads again at once")
	}
}

func TestALeaderThatIsCutOffStepsDownAndFollowsAfterHealing(t *testing.T) {
	w := newWorld(t, 1, 3, 0)
	old := w.settle()
	w.isolate(old)
	w.run(2 * time.Second)
	if old.role == raft.StateLeader {
		t.Error("it still leads after 2 s")
	}
	_, l := w.leaderless(old)
	clear(w.cut)
	w.steady(l, 5*time.Second)
}

func TestOneDeafMirrorDeposesNobody(t *testing.T) {
	for _, size := range []int{3, 5} {
		for seed := range uint64(5) {
			w := newWorld(t, seed+1, size, 0)
			l := w.settle()
			deaf := w.others(l)[0]
			w.cut[[2]int{l.id, deaf.id}] = true
			w.steady(l, 20*time.Second)
			if deaf.elector.View().Round == 0 {
				t.Error("it noticed nothing")
			}
			w.tell(deaf, l.name, false, 0) // and its backbone says so too
			w.steady(l, 5*time.Second)
			clear(w.cut)
			w.steady(l, 5*time.Second)
			if deaf.elector.View().Leader != l.name {
				t.Error("it did not come back")
			}
		}
	}
}

func TestALostMirrorChangesNothing(t *testing.T) {
	for _, event := range []func(*world, *node){(*world).kill, (*world).pause, (*world).isolate} {
		w := newWorld(t, 1, 3, 0)
		l := w.settle()
		mirror := w.others(l)[0]
		event(w, mirror)
		w.steady(l, 10*time.Second)
		clear(w.cut)
		w.resume(mirror)
		w.start(mirror)
		w.steady(l, 5*time.Second)
	}
}

func TestTheSecondBestCampaignsWhenTheBestCannot(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed+1, 5, 0)
		old := w.settle()
		w.run(time.Second)
		w.kill(old)
		// The best's votes reach nobody; its positions, which go by another
		// connection, do.
		mute := w.others(old)[0]
		w.mute = mute
		took, l := w.leaderless(old)
		if l == mute || took > 400*millisecond {
			w.fatalf("%s leads after %v", l.name, took)
		}
	}
}

func TestSlowDisksElectToo(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed+1, 3, 0)
		w.fsync = [2]time.Duration{80 * millisecond, 200 * millisecond}
		old := w.settle()
		w.run(2 * time.Second)
		w.kill(old)
		if took, _ := w.leaderless(old); took > 1500*millisecond {
			w.fatalf("it took %v", took)
		}
	}
}

func TestABrokerThatStopsLeadsNeverAgain(t *testing.T) {
	w := newWorld(t, 1, 3, 0)
	old := w.settle()
	old.elector.HandOver(w.now)
	w.run(time.Second)
	if !old.elector.Handed() {
		t.Fatal("it still leads")
	}
	for _, n := range w.others(old) {
		w.kill(n)
		w.run(time.Second)
		w.start(n)
		l := w.settle()
		if l == old {
			w.fatalf("%s leads while it stops", l.name)
		}
	}
}

// The first to be gone may be the one that leads: the others have work to finish.
func TestBrokersThatAllStopHaveALeaderToTheEnd(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := newWorld(t, seed, 3, 0)
		w.settle()
		w.run(time.Second)
		for _, n := range w.nodes {
			n.elector.HandOver(w.now)
		}
		w.run(200 * millisecond)
		last := w.leader()
		if last == nil {
			w.fatalf("nobody leads")
		}
		w.kill(last)
		if took, l := w.leaderless(last); took > 300*millisecond {
			w.fatalf("%s leads after %v", l.name, took)
		}
	}
}

func TestAGroupStartsWithSomeMissing(t *testing.T) {
	w := newWorld(t, 1, 5, 0)
	w.kill(w.nodes[0])
	w.kill(w.nodes[3])
	if l := w.settle(); w.now.Sub(time.Unix(1_000_000, 0)) > time.Second {
		t.Errorf("%s leads after %v", l.name, w.now)
	}
	w.kill(w.nodes[1])
	w.run(10 * time.Second)
	if l := w.leader(); l != nil {
		t.Errorf("%s leads without a majority", l.name)
	}
	w.start(w.nodes[0])
	began := w.now
	if l := w.settle(); w.now.Sub(began) > time.Second {
		t.Errorf("%s leads after %v", l.name, w.now.Sub(began))
	}
}

func TestAQuorumBelowAMajorityWaitsForPositions(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed+1, 5, 2)
		old := w.settle()
		w.run(time.Second)
		held := w.onlyAt(old)
		w.pause(held)
		w.kill(old)
		w.run(4 * time.Second)
		if l := w.leader(); l != nil {
			w.fatalf("%s leads without the position of %s", l.name, held.name)
		}
		w.resume(held)
		began := w.now
		for w.leader() == nil {
			w.step()
		}
		if l := w.leader(); l != held || w.now.Sub(began) > 700*millisecond || w.unclean > 0 {
			w.fatalf("%s leads after %v, %d unclean", l.name, w.now.Sub(began), w.unclean)
		}
	}
}

func TestPatienceEndsInAnUncleanPromotion(t *testing.T) {
	w := newWorld(t, 1, 5, 2)
	old := w.settle()
	w.run(time.Second)
	w.kill(w.others(old)[0])
	w.kill(old)
	took, l := w.leaderless(old)
	if took < 5*time.Second || took > 6*time.Second || w.unclean != 1 {
		t.Errorf("%s leads after %v, %d unclean", l.name, took, w.unclean)
	}
	if _, unclean := l.promoted.Counts(); unclean != 1 {
		t.Error("its history does not say so")
	}
	w.run(time.Second)
	for _, n := range w.others(l) {
		if _, unclean := n.promoted.Counts(); unclean != 1 {
			t.Errorf("%s was not told", n.name)
		}
	}
}

// onlyAt makes one mirror hold what the leader confirms for half a second, and
// returns it.
func (w *world) onlyAt(leader *node) *node {
	held := w.others(leader)[3]
	for _, n := range w.others(leader) {
		w.slow[n.id] = n != held
	}
	w.run(500 * millisecond)
	return held
}

func TestABrokerThatStopsLeadsIfItAloneHoldsAll(t *testing.T) {
	w := newWorld(t, 1, 5, 2)
	old := w.settle()
	w.run(time.Second)
	held := w.onlyAt(old)
	held.elector.HandOver(w.now)
	w.kill(old)
	if took, l := w.leaderless(old); l != held || took > 200*millisecond {
		w.fatalf("%s leads after %v", l.name, took)
	}
	clear(w.slow)
	w.run(500 * millisecond)
	if l := w.leader(); l == nil || l == held || w.unclean > 0 {
		w.fatalf("%v leads, %d unclean", l, w.unclean)
	}
}

func TestPatienceEndsAlsoForTheOneThatHoldsAll(t *testing.T) {
	w := newWorld(t, 1, 5, 2)
	old := w.settle()
	w.run(time.Second)
	held := w.onlyAt(old)
	w.mute = held // Its positions are heard, but it cannot be elected.
	w.kill(old)
	took, l := w.leaderless(old)
	if l == held || took < 5*time.Second || took > 6*time.Second || w.unclean != 1 {
		w.fatalf("%s leads after %v, %d unclean", l.name, took, w.unclean)
	}
}

func TestAMirrorThatIsLeftFencedIsFreedByATransfer(t *testing.T) {
	w := newWorld(t, 1, 5, 2)
	l := w.settle()
	w.run(time.Second)
	mirror, term := w.others(l)[0], l.term
	// It missed the leader with a majority that then heard it again.
	for _, from := range w.others(l)[1:3] {
		w.cut[[2]int{l.id, mirror.id}] = true
		mirror.elector.Receive(w.now, from.name, Message{Kind: Missing, Group: 7, Term: term, Round: term + 1, Last: from.last})
	}
	w.run(350 * millisecond)
	for _, from := range w.others(l)[1:3] {
		mirror.elector.Receive(w.now, from.name, Message{Kind: Missing, Group: 7, Term: term, Round: term + 1, Last: from.last})
	}
	w.act(mirror)
	clear(w.cut)
	if mirror.fenced != term+1 {
		t.Fatalf("it is fenced at %d", mirror.fenced)
	}
	w.run(3 * time.Second)
	if next := w.settle(); next.term <= term || mirror.elector.View().Leader != next.name {
		t.Errorf("%s leads term %d, and the mirror knows %+v", next.name, next.term, mirror.elector.View())
	}
	promotions := w.leader().promoted.Promotions()
	if p := promotions[len(promotions)-1]; p.Reason != Unstuck {
		t.Errorf("%+v", p)
	}
}

func TestLeadershipComesBackToThePreferredBroker(t *testing.T) {
	w := newWorld(t, 1, 3, 0)
	first := w.settle()
	if first != w.nodes[0] {
		t.Fatalf("%s leads of equals", first.name)
	}
	w.run(time.Second)
	w.kill(first)
	_, second := w.leaderless(first)
	w.run(2 * time.Second)
	w.start(first)
	w.steady(second, 7*time.Second)
	w.run(4 * time.Second)
	if l := w.settle(); l != first {
		t.Fatalf("%s leads", l.name)
	}
	w.steady(first, 20*time.Second)
	for _, n := range w.nodes {
		promotions := n.promoted.Promotions()
		if p := promotions[len(promotions)-1]; p.Reason != Balanced || p.From != second.name || p.Leaderless > 100*millisecond {
			t.Errorf("%s tells %+v", n.name, p)
		}
	}
}
