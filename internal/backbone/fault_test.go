package backbone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestACutRouteIsDownAtOnceAndHeals(t *testing.T) {
	c := newCluster(t, 3, nil)
	w := c.wire()
	c.startAll()
	b1, b2 := c.live["b1"], c.live["b2"]
	cut := time.Now()
	w.between("b1", "b2", wireCut)
	b1.awaitCount(t, "down", "b2", 1)
	b2.awaitCount(t, "down", "b1", 1)
	took := max(b1.last("down", "b2").at.Sub(cut), b2.last("down", "b1").at.Sub(cut))
	t.Logf("down after %v", took)
	if took > 500*time.Millisecond {
		t.Errorf("down only after %v", took)
	}
	// The third hears both, and nothing goes around through it.
	if err := b1.b.SendLink(Gateway, []string{"b3"}, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	c.live["b3"].awaitCount(t, "message", "b1", 1)
	if err := b1.b.Send(Gateway, "b2", nil); !errors.Is(err, ErrDown) {
		t.Errorf("across the cut: %v", err)
	}

	healed := time.Now()
	w.between("b1", "b2", wirePasses)
	b1.awaitCount(t, "up", "b2", 2)
	b2.awaitCount(t, "up", "b1", 2)
	t.Logf("up again after %v", time.Since(healed))
	c.awaitMesh()
	if err := b1.b.SendLink(Gateway, []string{"b2"}, []byte("again")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "message", "b1", 1)
}

func TestARestartedBrokerDoesNotGetAroundACut(t *testing.T) {
	c := newCluster(t, 3, nil)
	w := c.wire()
	c.startAll()
	w.between("b1", "b2", wireCut)
	c.live["b1"].awaitCount(t, "down", "b2", 1)
	ups := c.live["b3"].count("up", "b2")
	c.stop("b2")
	c.start("b2")
	c.live["b3"].awaitCount(t, "up", "b2", ups+1)
	c.live["b2"].awaitUp(t, "b3")
	if n := c.live["b1"].count("up", "b2"); n != 1 {
		t.Errorf("b2 was up %d times for b1", n)
	}
}

func TestASwallowedRouteIsDownAfterItsSilence(t *testing.T) {
	c := newCluster(t, 3, nil)
	w := c.wire()
	c.startAll()
	b1, b2 := c.live["b1"], c.live["b2"]
	if err := b1.b.SendLink(Replication, []string{"b2"}, []byte("arrives")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "message", "b1", 1)
	cut := time.Now()
	w.between("b1", "b2", wireSwallows)
	if err := b1.b.SendLink(Replication, []string{"b2", "b3"}, []byte("swallowed")); err != nil {
		t.Fatal(err)
	}
	b1.awaitCount(t, "down", "b2", 1)
	b2.awaitCount(t, "down", "b1", 1)
	took := max(b1.last("down", "b2").at.Sub(cut), b2.last("down", "b1").at.Sub(cut))
	t.Logf("down after %v", took)
	if took > 1600*time.Millisecond {
		t.Errorf("down only after %v", took)
	}
	b1.awaitCount(t, "broken", "b2", 1)
	c.live["b3"].awaitCount(t, "message", "b1", 1)

	w.between("b1", "b2", wirePasses)
	b1.awaitCount(t, "up", "b2", 2)
	c.awaitMesh()
	if err := b1.b.SendLink(Replication, []string{"b2"}, []byte("again")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "message", "b1", 2)
	if n := b2.count("reset", "b1"); n < 1 {
		t.Error("b2 was not told that something is missing")
	}
}

func TestAHeldRouteCostsNoMoreThanTheLinksMayHold(t *testing.T) {
	c := newCluster(t, 3, func(c *Config) { c.Window, c.Transit = 4<<20, 2<<20 })
	w := c.wire()
	c.startAll(func(r *recorder) { r.forget = true })
	b1 := c.live["b1"]
	w.between("b1", "b2", wireHeld)
	payload := make([]byte, 256<<10)
	sent := 0
	for {
		err := b1.b.SendLink(Replication, []string{"b2"}, payload)
		if errors.Is(err, ErrFull) || errors.Is(err, ErrDown) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if sent*len(payload) > 4<<20 {
		t.Errorf("took %d bytes", sent*len(payload))
	}
	b1.awaitCount(t, "down", "b2", 1)
	b1.awaitCount(t, "broken", "b2", 1)
	w.between("b1", "b2", wirePasses)
	b1.awaitCount(t, "up", "b2", 2)
	c.awaitMesh()
	if s := b1.b.Status(); s.Peers[0].Links[Replication].Waiting != 0 {
		t.Errorf("a fresh link: %+v", s.Peers[0])
	}
}

func TestAHeldLinkRefusesUntilItIsReopened(t *testing.T) {
	c := newCluster(t, 2, func(c *Config) { c.HoldBroken = []Class{Gateway} })
	w := c.wire()
	c.startAll()
	b1 := c.live["b1"]
	if err := b1.b.SendLink(Gateway, []string{"b2"}, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := b1.b.SendLink(Replication, []string{"b2"}, []byte("one")); err != nil {
		t.Fatal(err)
	}
	c.live["b2"].awaitCount(t, "message", "b1", 2)
	w.between("b1", "b2", wireCut)
	b1.awaitCount(t, "broken", "b2", 2)
	w.between("b1", "b2", wirePasses)
	b1.awaitCount(t, "up", "b2", 2)
	b1.awaitOpen(t, Replication, "b2")
	if err := b1.b.SendLink(Gateway, []string{"b2"}, []byte("two")); !errors.Is(err, ErrHeld) {
		t.Errorf("on a held link: %v", err)
	}
	b1.b.Reopen(Gateway, "b2")
	b1.awaitOpen(t, Gateway, "b2")
	if err := b1.b.SendLink(Gateway, []string{"b2"}, []byte("two")); err != nil {
		t.Error(err)
	}
	c.live["b2"].awaitCount(t, "message", "b1", 3)
}

// TestALostFrameIsFound takes frames out of the stream between the writer and
// NATS, as a server that drops them would.
func TestALostFrameIsFound(t *testing.T) {
	for _, lastOne := range []bool{false, true} {
		t.Run(fmt.Sprintf("the last one %t", lastOne), func(t *testing.T) {
			c := newCluster(t, 2, nil)
			c.startAll()
			b1, b2 := c.live["b1"], c.live["b2"]
			out := b1.b.conns[Gateway].out
			number := func(k int) {
				if err := b1.b.SendLink(Gateway, []string{"b2"}, binary.LittleEndian.AppendUint32(nil, uint32(k))); err != nil {
					t.Fatal(err)
				}
			}
			number(1)
			b2.awaitCount(t, "message", "b1", 1)
			// A frame that is numbered and never published.
			out.mu.Lock()
			l := &out.mu.links[b1.b.numbers["b2"]]
			l.accepted++
			l.written++
			l.sent += 4
			l.progress = time.Now()
			out.mu.Unlock()
			if !lastOne {
				number(3)
			}
			began := time.Now()
			b1.awaitCount(t, "broken", "b2", 1)
			t.Logf("found after %v", time.Since(began))
			b2.awaitCount(t, "reset", "b1", 1)
			b1.awaitOpen(t, Gateway, "b2")
			number(4)
			b2.awaitCount(t, "message", "b1", 2)
			if h := b2.last("message", "b1"); binary.LittleEndian.Uint32(h.payload) != 4 {
				t.Errorf("got %v after the gap", h.payload)
			}
		})
	}
}
