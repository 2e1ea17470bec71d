package broker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Consumers of all brokers once stood still for a second because one was
// paused: its gateway was waited for until its route was given up.
func TestTheGatewayOfALeaderThatFellSilentIsWaitedForShortly(t *testing.T) {
	now := time.Now()
	l := newLoop("test", slog.New(slog.DiscardHandler), func(error) {})
	l.now = func() time.Time { return now }
	a := newAttendance(l, entry.GroupID(1), func() []string { return []string{"b1", "b2", "b3"} })
	wait := func(d time.Duration, want bool) {
		t.Helper()
		now = now.Add(d)
		if got := a.gathering(); got != want {
			t.Fatalf("gathering is %t, want %t", got, want)
		}
	}

	a.doubt("b2") // It is told before what was ordered before has been applied.
	wait(time.Second, false)
	a.lead()
	a.arrived("b1")
	a.arrived("b3")
	wait(doubtTime-1, true)
	wait(1, false)

	// Others are waited for as ever, and nobody is doubted in the next term.
	a.follow()
	a.doubt("b2")
	a.lead()
	a.arrived("b1")
	wait(doubtTime, true)
	wait(gatherTime-doubtTime, false)
	a.follow()
	a.doubt("")
	a.lead()
	a.arrived("b1")
	a.arrived("b3")
	wait(gatherTime-1, true)
	a.arrived("b2")
	wait(0, false)
}

// Nothing could be committed for longer than gateways are waited for. What they
// submitted again was passed over then: a message that had been returned long ago
// was given out, and by the old return to another one too.
func TestAGatewayThatHasToldIsWaitedForUntilWhatItSubmittedAgainIsApplied(t *testing.T) {
	now := time.Now()
	l := newLoop("test", slog.New(slog.DiscardHandler), func(error) {})
	l.now, l.term, l.order = func() time.Time { return now }, 1, newVolatile()
	a := newAttendance(l, entry.GroupID(1), func() []string { return []string{"b1", "b2"} })
	a.doubt("b1")
	a.lead()
	for _, kind := range []wireKind{wireHello, wireSubmit, wireAttached} {
		a.receive("b1", func(*wireMessage) bool { return true }, &wireMessage{kind: kind, term: 1, session: 7, seq: 1})
	}
	now = now.Add(2 * gatherTime)
	if !a.gathering() {
		t.Error("what was submitted again is not waited for")
	}
	l.refusePending(nil) // It ends.
	if a.gathering() {
		t.Error("it is waited for who never came, or has come")
	}
}
