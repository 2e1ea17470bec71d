package broker

import (
	"testing"
	"time"
)

// played is a pace over seconds in which clients commit commits bytes a second
// and mirrors take all that they may, and how much that is in the last of them.
func played(seconds int, commits float64) float64 {
	now := time.Unix(1000, 0)
	p := newPace(func() time.Time { return now })
	const step, piece = 5 * time.Millisecond, 64 << 10
	var owed, taken float64
	for i := range seconds * int(time.Second/step) {
		now = now.Add(step)
		if owed += commits * step.Seconds(); owed >= piece {
			p.committed(int(owed))
			owed = 0
		}
		if i >= (seconds-1)*int(time.Second/step) {
			for n := 0; n < 100 && p.spend(piece); n++ {
				taken += piece
			}
		}
	}
	return taken
}

func TestMirrorsGetMoreThanClientsCommitAndLeaveTheRest(t *testing.T) {
	for _, commits := range []float64{1 << 20, 20 << 20, 40 << 20, 100 << 20} {
		want := max(paceLeast, paceShare*commits)
		if got := played(4, commits); got < 0.95*want || got > 1.1*want {
			t.Errorf("clients commit %.0f bytes a second, mirrors get %.0f, want %.0f", commits, got, want)
		}
	}
	if got := played(2, 0); got < 1<<30 {
		t.Errorf("mirrors get %.0f bytes a second though clients do nothing", got)
	}
}
