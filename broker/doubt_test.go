package broker

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

func TestAStopIsCountedOnceWhoeverNoticesIt(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDoubt(func() time.Time { return now })
	expect := func(want uint32) {
		t.Helper()
		if got := d.round(); got != want {
			t.Errorf("round %d, want %d", got, want)
		}
	}
	for range 10 {
		now = now.Add(maxStill)
		d.beat()
	}
	expect(0)
	now = now.Add(maxStill + 1)
	expect(1)
	expect(1)
	now = now.Add(maxStill + 1)
	d.beat() // The first to notice need not be who asks.
	expect(2)
	if len(d.stopped()) != 1 {
		t.Error("nobody is told")
	}
	if (*doubt)(nil).round() != 0 {
		t.Error("a broker alone was stopped")
	}
}

func TestTheVerdictOfAStopIsOnWhatCameBefore(t *testing.T) {
	var j judgment
	mine := claim{1, 7}
	expect := func(id entry.MessageID, came, round uint32, want verdict) {
		t.Helper()
		if got := j.of(mine, id, came, round); got != want {
			t.Errorf("message %d of round %d in %d: %d, want %d", id, came, round, got, want)
		}
	}
	expect(1, 0, 1, doubtful)
	j.take(mine, []entry.Range{{First: 2, Last: 3}})
	expect(2, 0, 1, doubtful) // Not before all is judged.
	j.end(1)
	expect(1, 0, 1, ours)
	expect(2, 0, 1, others)
	expect(3, 0, 1, others)
	expect(2, 1, 2, doubtful)
	j.end(2)
	expect(2, 1, 2, ours) // It was given again since.
	expect(3, 0, 2, others)
	for round := uint32(3); round < 3+2*maxStops; round++ {
		j.take(mine, []entry.Range{{First: 9, Last: 9}})
		j.end(round)
	}
	if len(j.stops) > maxStops {
		t.Errorf("%d stops are remembered", len(j.stops))
	}
}

// What a leader gave to others while a broker stood still reached its clients
// nevertheless, when it went on.
func TestALeaderSaysWhatABrokerThatWasStoppedHasNoMore(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	now := time.Unix(1000, 0)
	b2.doubt = newDoubt(func() time.Time { return now })
	judged := 0
	b2.judged = func() { judged++ }
	b2.consume(2)
	b2.consume(3, withoutAcks)
	u.publish(4)
	b2.expect("1 2 3 4")
	b1.consume(1, prefetch(2))
	u.lost("b2")
	b1.expect("1r 2r")
	b1.settle(false, 1)
	b1.expect("3r")
	now = now.Add(time.Second)
	judge := func(want ...verdict) {
		t.Helper()
		for i, v := range want {
			if got := b2.judge(claim{b2.holder, linkQueue}, entry.MessageID(i+1), 0, b2.doubt.round()); got != v {
				t.Errorf("message %d: %d, want %d", i+1, got, v)
			}
		}
	}
	judge(doubtful, doubtful, doubtful, doubtful)
	b2.tick()
	u.run()
	judge(others, others, others, ours)
	if judged != 1 {
		t.Errorf("told %d times", judged)
	}
	// It holds 4 and no more, and its consumers have room for others.
	b1.settle(false, 2, 3)
	u.publish(3)
	b1.expect("7")
	b2.expect("5 6")
	u.expectLeft(0, 4)
	b2.closeHolder(b2.holder, func() {})
	u.run()
	u.expectLeft(2, 2)
}

// A leader that stood still may be deposed without knowing: it gives nothing out,
// and gives no weak confirm, before a majority has followed it again.
func TestALeaderThatStoodStillProvesThatItLeads(t *testing.T) {
	u := newLoopUnderTest(t)
	u.doubts = true
	a := newAttendance(u.loop, 1, func() []string { return nil })
	u.hand(1, atLeader, true)
	u.expect()
	if a.gathering() {
		t.Error("it gathers")
	}
	u.clock = u.clock.Add(maxStill + 1)
	u.order.confirms[atLeader] = 1
	u.expect()
	if !a.gathering() {
		t.Error("it gives out messages")
	}
	if n := len(u.order.proposals); n != 2 {
		t.Errorf("%d proposals", n)
	}
}

// What waits for a client when its broker is stopped is written once its leader
// has said that it is still that client's.
func TestAWriterWithholdsWhatCameBeforeAStop(t *testing.T) {
	b := memoryBroker(t, 1)
	var clock atomic.Int64
	d := newDoubt(func() time.Time { return time.Unix(0, clock.Load()) })
	f, address := serveFront(t, b, func(c *frontConfig) { c.doubt = d })
	for _, w := range b.gateways {
		w.mu.Lock()
		w.doubt, w.judged = d, f.connections.judged
		w.mu.Unlock()
	}
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	for i := range 20 {
		clock.Add(int64(maxStill) + 1)
		c.publish("", "q", fmt.Sprint(i))
		// Other answers do not wait for it.
		call[*amqp.QueueDeclareOk](c, &amqp.QueueDeclare{Queue: "q", Passive: true})
		for _, w := range b.gateways {
			w.tick()
		}
		if d, body := c.delivery(); d.Redelivered || body != fmt.Sprint(i) {
			t.Fatalf("got %q, redelivered %t, want %d", body, d.Redelivered, i)
		}
	}
}
