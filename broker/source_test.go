package broker

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
)

func TestTheStateOfAQueueIsThatOfItsLeader(t *testing.T) {
	three := []string{"b1", "b2", "b3"}
	for _, c := range []struct {
		what            string
		leader          string
		members, living []string
		want            string
	}{
		{"all are well", "b2", three, three, "running"},
		{"the leader was just lost", "b2", three, []string{"b1", "b3"}, "down"},
		{"too few are left", "b2", three, []string{"b1"}, "minority"},
		{"no leader is known yet", "", three, three, "down"},
		{"in the memory of a broker that is gone", "b2", []string{"b2"}, []string{"b1", "b3"}, "down"},
		{"a broker alone", "b1", []string{"b1"}, []string{"b1"}, "running"},
	} {
		if got := stateOf(c.leader, c.members, c.living); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestQueuesAreCountedInParts(t *testing.T) {
	b := memoryBroker(t, 1)
	ids := make([]entry.QueueID, 2*maxCounted+3)
	for i := range ids {
		ids[i] = entry.QueueID(i + 1)
	}
	counts, err := b.gateways[1].countNow(t.Context(), ids)
	if err != nil || len(counts) != len(ids) {
		t.Fatalf("%d counts of %d queues, %v", len(counts), len(ids), err)
	}
	if counts, err = b.gateways[1].countNow(t.Context(), nil); err != nil || len(counts) != 0 {
		t.Errorf("of none: %v, %v", counts, err)
	}
}

func TestACallThatNobodyWaitsForIsTakenBack(t *testing.T) {
	w := newGateway(1, 1, 3, slog.New(slog.DiscardHandler))
	w.port = func(string) func(*wireMessage) bool { return nil }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.countNow(ctx, []entry.QueueID{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("without a leader: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.calls) != 0 {
		t.Errorf("the next leader would be asked %d times", len(w.mu.calls))
	}
}

func TestAGroupOfOneBrokerIsNotTransferred(t *testing.T) {
	b := memoryBroker(t, 1)
	b.ready.Store(true)
	s := source{b}
	if err := s.Transfer(t.Context(), 1, b.config.Name); !errors.Is(err, admin.ErrRefused) || !errors.Is(err, errOneCopy) {
		t.Errorf("alone: %v", err)
	}
	if err := s.Transfer(t.Context(), 7, b.config.Name); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("no such group: %v", err)
	}
	if err := s.Transfer(t.Context(), 1, "b9"); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("no such broker: %v", err)
	}
	// The leader says so too, to a gateway that asks it all the same.
	var refused remoteError
	if err := b.gateways[1].transfer(t.Context(), "b9"); !errors.As(err, &refused) || refused.Error() != errOneCopy.Error() {
		t.Errorf("by the gateway: %v", err)
	}
}

func TestLagIsNeverBelowZero(t *testing.T) {
	if lacks(5, 8) != 3 || lacks(8, 5) != 0 || lacks(5, 5) != 0 {
		t.Error("lag is wrong")
	}
}
