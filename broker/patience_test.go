package broker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// countedOrder counts the entries of a memory's order.
type countedOrder struct {
	orderer
	proposed int
}

func (c *countedOrder) propose(payload []byte) (uint64, error) {
	c.proposed++
	return c.orderer.propose(payload)
}

// Acks alone wait for company, and no longer than ackPatience; what anybody waits
// for takes them along at once.
func TestAcksWaitForCompany(t *testing.T) {
	ack := func() *submission {
		return &submission{ops: queue.AppendSettle(takeOps(), 1, []entry.Range{{First: 1, Last: 1}}), patient: true}
	}
	for _, c := range []struct {
		name string
		then func(l *loop, now *time.Time)
		want int
	}{
		{"nothing else comes", func(*loop, *time.Time) {}, 0},
		{"their time is over", func(_ *loop, now *time.Time) { *now = now.Add(ackPatience) }, 1},
		{"a publish comes", func(l *loop, _ *time.Time) { l.submitOwn(&submission{ops: takeOps()}) }, 1},
		{"somebody waits for all before", func(l *loop, _ *time.Time) { l.after(func() {}) }, 1},
		{"they are many", func(l *loop, _ *time.Time) {
			for range maxPatient {
				l.submitOwn(ack())
			}
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			const id = entry.Volatile
			now := time.Unix(0, 0)
			var wakes []time.Duration
			order := newVolatile()
			counted := &countedOrder{orderer: order}
			l := newLoop("test", slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })
			g := newGroup(id, l, queue.NewMachine(), &counters{}, func() []string { return nil })
			g.order, g.bodies, g.leads = counted, memoryBodies{order}, func(string, uint64) {}
			l.now = func() time.Time { return now }
			l.rouseIn = func(d time.Duration) { wakes = append(wakes, d) }
			l.round()
			counted.proposed = 0

			l.submitOwn(ack())
			l.round()
			if counted.proposed != 0 || len(wakes) != 1 || wakes[0] != ackPatience {
				t.Fatalf("%d entries; woken in %v", counted.proposed, wakes)
			}
			c.then(l, &now)
			for l.round() {
			}
			if counted.proposed != c.want {
				t.Errorf("%d entries, want %d", counted.proposed, c.want)
			}
			if waiting := len(l.pending) > 0; waiting != (c.want == 0) {
				t.Errorf("%d submissions wait", len(l.pending))
			}
		})
	}
}
