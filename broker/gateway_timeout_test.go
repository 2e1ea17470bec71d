package broker

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// A publish that no leader takes is nacked in time. What is acked stays acked
// however long it takes, even beside such a publish: else it would come back.
func TestWithoutALeaderPublishesAreNackedAndAcksWait(t *testing.T) {
	now := time.Now()
	w := newGateway(1, 7, 3, slog.New(slog.DiscardHandler))
	w.timeout = time.Minute
	w.now = func() time.Time { return now }
	told := make(map[string]error)
	hand := func(name string, lasting, awaited bool) {
		w.submit(&submission{ops: []byte(name), lasting: lasting, awaited: awaited, done: func(o outcome) { told[name] = o.err }})
	}
	hand("publish", false, true)
	hand("acks", true, false)
	hand("both", true, true)
	w.tick()
	if len(told) != 0 {
		t.Fatalf("ended early: %v", told)
	}
	now = now.Add(2 * time.Minute)
	w.tick()
	w.tick()
	if len(told) != 2 || !errors.Is(told["publish"], errPublishTimeout) || !errors.Is(told["both"], errPublishTimeout) {
		t.Errorf("ended: %v", told)
	}
	var sent []string
	w.port = func(string) func(*wireMessage) bool {
		return func(m *wireMessage) bool {
			if m.kind == wireSubmit {
				sent = append(sent, string(m.ops))
			}
			return true
		}
	}
	w.leads("b2", 3)
	if len(sent) != 2 || sent[0] != "acks" || sent[1] != "both" {
		t.Errorf("the leader got %q", sent)
	}
	w.receive("b2", &wireMessage{kind: wireHello, group: entry.GroupID(1), term: 3, seq: 1})
	w.receive("b2", &wireMessage{kind: wireDone, group: entry.GroupID(1), term: 3, ended: []ended{{seq: 2, index: 9}, {seq: 3, index: 9}}})
	if told["acks"] != nil || len(told) != 3 {
		t.Errorf("at the end: %v", told)
	}
}
