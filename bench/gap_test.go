package bench

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mirrormq/mirrormq/bench/report"
)

func TestAGapCountsFromTheLastEventBeforeItWasArmed(t *testing.T) {
	var g gap
	for _, at := range []int64{10, 500, 510} {
		g.note(at)
	}
	if g.longest.Load() != 0 {
		t.Errorf("%d before it was armed", g.longest.Load())
	}
	g.armed.Store(true)
	for _, at := range []int64{600, 640, 650} {
		g.note(at)
	}
	if g.longest.Load() != 90 {
		t.Errorf("longest %d, want 90", g.longest.Load())
	}
}

func TestAScheduledKillArmsTheGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed := 0
		target := Target{
			URLs: []string{"a", "b", "c"}, PIDs: []int{1, 2, 3},
			Leader: func(context.Context, string) (int, error) { return 1, nil },
			Kill:   func(broker int) { killed = broker },
		}
		s := Throughput()
		s.KillAfter = time.Second
		r, err := newRun(s)
		if err != nil {
			t.Fatal(err)
		}
		victim, err := r.victim(t.Context(), target)
		if err != nil || victim == nil || *victim != 1 {
			t.Fatalf("victim %v, %v", victim, err)
		}
		if left := target.without(*victim); len(left.URLs) != 2 || left.URLs[1] != "c" || left.PIDs[1] != 3 {
			t.Errorf("left are %v", left)
		}
		r.kill = func() { target.Kill(*victim) }
		var result report.Report
		finish := r.scheduleKill(&result)
		r.confirmGap.note(now())
		<-time.After(2 * time.Second)
		r.confirmGap.note(now())
		<-time.After(time.Second)
		finish()
		if killed != 1 || result.ConfirmGap != 2*time.Second || result.DeliveryGap != 0 || result.KilledAt != time.Second {
			t.Errorf("killed %d, %+v", killed, result)
		}
	})
}
