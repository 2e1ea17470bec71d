package testcluster

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// A leader that is cut off confirms nothing after this time.
const confirmsCease = 2 * time.Second

func TestALeaderIsKilled(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	for range times(1, 10) {
		r.play(Killed, r.leader(), 1500*time.Millisecond)
	}
	r.judge()
}

func TestALeaderIsPausedAndHearsThatItLeadsNoMore(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	lasts := 3 * time.Second
	if *long {
		lasts = 25 * time.Second
	}
	for range times(1, 4) {
		r.play(Paused, r.leader(), lasts)
	}
	r.judge()
}

func TestALeaderIsCutOffFromItsMirrorsButNotFromItsClients(t *testing.T) {
	for _, f := range choose(1, []Fault{Unheard, CutOff, Mute, Deaf}) {
		t.Run(f.Name, func(t *testing.T) {
			r := start(t, 3, quorum("majority"))
			for range times(1, 5) {
				leader := r.leader()
				if o := r.play(f, leader, 4*time.Second); o.LastConfirm > confirmsCease {
					r.fail(fmt.Errorf("%s confirmed %v after it was %s", leader.Name, o.LastConfirm, f.Name))
				}
			}
			r.judge()
		})
	}
}

func TestAMirrorIsKilledOrPaused(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	for range times(1, 5) {
		r.play(Killed, r.mirror(), 1500*time.Millisecond)
		r.play(Paused, r.mirror(), 1500*time.Millisecond)
		if *long {
			r.play(CutOff, r.mirror(), 3*time.Second)
			r.play(Unheard, r.mirror(), 5*time.Second)
		}
	}
	r.judge()
}

func TestALeaderStopsAsPlanned(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	for range times(1, 10) {
		r.play(Stopped, r.leader(), 1500*time.Millisecond)
	}
	r.judge()
}

func TestAllBrokersAreKilledAtOnce(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	for range *rounds {
		r.wait(time.Duration(300+r.random.IntN(1000)) * time.Millisecond)
		r.killAll()
	}
	r.judge()
}

// killAll kills all brokers at once, starts them again, and waits for the clients.
func (r *run) killAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, recoverTime)
	defer cancel()
	c := r.cluster
	c.Kill(c.Brokers...)
	if err := c.Restart(ctx, c.Brokers...); err != nil {
		r.fail(err)
	}
	if err := r.load.AwaitFlow(ctx, c.Timeline.now(), c.Brokers...); err != nil {
		r.fail(err)
	}
}

// With an ack quorum of 2 of 5, a confirmed message may be on one mirror alone:
// that one has to be found and promoted.
func TestTheOneMirrorThatHasAllIsPromoted(t *testing.T) {
	onlyLong(t)
	r := start(t, 5, quorum(2))
	seen := 0
	for range times(1, 20) {
		seen += r.promoted(Killed, r.leader(), time.Second)
	}
	if r.judge(); seen == 0 {
		t.Fatal("no leader was killed while it led: the test tested nothing")
	}
}

// promoted plays a fault that ends a leader, and fails unless those who followed
// it had the highest position of the living. It returns how many did.
func (r *run) promoted(f Fault, leader *Broker, lasts time.Duration) int {
	r.t.Helper()
	living := r.cluster.Mirrors(leader)
	before := r.history(living[0])
	var q queueView
	r.until("the queue is known", func() (known bool) {
		var err error
		q, err = living[0].queue(r.ctx, r.load.config.Queue)
		return err == nil
	})
	r.play(f, leader, lasts)
	after := r.history(living[0])
	n := 0
	for _, p := range after[:len(after)-len(before)] {
		if p.Group != q.Group || p.From != leader.Name || p.Reason == "balanced" {
			continue // It led no more when the fault struck, or leads again.
		}
		r.t.Log(&p)
		r.must(p.check(living))
		n++
	}
	return n
}

// history is the changes of leaders that a broker has seen.
func (r *run) history(b *Broker) (seen []Promotion) {
	r.t.Helper()
	r.until(b.Name+" tells of promotions", func() bool {
		var err error
		seen, err = b.promotions(r.ctx)
		return err == nil
	})
	return seen
}

// onlyLong skips a test whose time `make test` had better not take.
func onlyLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("skipped: played with -long (make faults)")
	}
}

// times is how often to play something.
func times(short, full int) int {
	if *long {
		return full
	}
	return short
}

// choose takes the first few unless all are wanted.
func choose(n int, faults []Fault) []Fault {
	if *long {
		return faults
	}
	return faults[:n]
}

// With the ack quorum leader, one copy is enough for a confirm, but not when the
// leader can't hear from a majority: somebody else may lead by then. What it
// confirmed before that may be lost, so the ledger is not asked here.
func TestALeaderThatIsCutOffDoesNotConfirmAlone(t *testing.T) {
	for _, f := range choose(1, []Fault{CutOff, Unheard, Mute, Deaf}) {
		t.Run(f.Name, func(t *testing.T) {
			r := start(t, 3, quorum("leader"))
			leader := r.leader()
			if o := r.play(f, leader, 4*time.Second); o.LastConfirm > confirmsCease {
				r.fail(fmt.Errorf("%s confirmed %v after it was %s", leader.Name, o.LastConfirm, f.Name))
			}
		})
	}
}
