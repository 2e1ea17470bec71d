package backbone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestThreeBrokersHearOneAnother(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.startAll()
	for _, r := range c.live {
		r.mu.Lock()
		for peer, incarnation := range r.up {
			if incarnation != uint64(peer[1]) {
				t.Errorf("%s has incarnation %d", peer, incarnation)
			}
		}
		r.mu.Unlock()
	}
	b1, b2, b3 := c.live["b1"], c.live["b2"], c.live["b3"]
	if err := b1.b.Send(Beats, "b2", []byte("beat")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "datagram", "b1", 1)
	if err := b1.b.Broadcast(Beats, []byte("beat")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "datagram", "b1", 2)
	b3.awaitCount(t, "datagram", "b1", 1)
	if got := b3.last("datagram", "b1"); string(got.payload) != "beat" || got.class != Beats {
		t.Errorf("got %+v", got)
	}
	if err := b1.b.Send(Beats, "b1", nil); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("to oneself: %v", err)
	}
}

func TestALinkKeepsTheOrderOfMessagesForOneAndForSeveral(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.startAll()
	b1 := c.live["b1"]
	const n = 300
	for k := range n {
		to := [][]string{{"b2", "b3"}, {"b2"}, {"b3", "b2"}}[k%3]
		if err := b1.b.SendLink(Replication, to, []byte("message "), fmt.Append(nil, k)); err != nil {
			t.Fatal(err)
		}
	}
	c.live["b2"].awaitCount(t, "message", "b1", n)
	c.live["b3"].awaitCount(t, "message", "b1", n*2/3)
	for name, want := range map[string]func(k int) bool{
		"b2": func(int) bool { return true },
		"b3": func(k int) bool { return k%3 != 1 },
	} {
		r, k := c.live[name], -1
		r.mu.Lock()
		events := slices.Clone(r.events)
		r.mu.Unlock()
		for _, h := range events {
			if h.what != "message" {
				continue
			}
			for k++; !want(k); k++ {
			}
			if got := string(h.payload); got != fmt.Sprintf("message %d", k) {
				t.Fatalf("%s: got %q, want message %d", name, got, k)
			}
		}
	}
	if s := b1.b.Status(); s.SentFrames != n {
		t.Errorf("%d frames for %d messages: several recipients are not one publish", s.SentFrames, n)
	}
}

func TestMessagesOfAllSizesPassUnchanged(t *testing.T) {
	c := newCluster(t, 3, func(c *Config) { c.MaxPayload = 1 << 20 })
	c.startAll()
	b1 := c.live["b1"]
	header := dataHeaderSize(2)
	source := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{
		0, 1, 1000, 1<<20 - header - 1, 1<<20 - header, 1<<20 - header + 1,
		1 << 20, 2 * (1<<20 - header), 5 << 20, 64<<20 + 17, 3,
	} {
		payload := make([]byte, size)
		source.Read(payload)
		for n := 1; ; n++ {
			err := b1.b.SendLink(Replication, []string{"b2", "b3"}, payload[:size/3], payload[size/3:])
			if err == nil {
				break
			}
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			b1.awaitOpen(t, Replication, "b2")
			b1.await(t, "room", func() bool {
				return b1.b.Writable(Replication, "b2", size) && b1.b.Writable(Replication, "b3", size)
			})
		}
		for _, name := range []string{"b2", "b3"} {
			r := c.live[name]
			r.await(t, fmt.Sprintf("%d bytes", size), func() bool {
				h := r.last("message", "b1")
				return h.what != "" && len(h.payload) == size && bytes.Equal(h.payload, payload)
			})
			r.mu.Lock()
			r.events = r.events[:0]
			r.mu.Unlock()
		}
	}
	if err := b1.b.SendLink(Replication, []string{"b2"}, make([]byte, 257<<20)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("257 MiB: %v", err)
	}
	if s := b1.b.Status(); s.Broken != 0 {
		t.Errorf("%d links broke", s.Broken)
	}
}

func TestAReceiverThatTakesNothingFillsItsLink(t *testing.T) {
	c := newCluster(t, 3, func(c *Config) { c.Window = 1 << 20 })
	c.startAll(func(r *recorder) { r.take = false })
	b1, b2 := c.live["b1"], c.live["b2"]
	payload := make([]byte, 64<<10)
	sent := 0
	for {
		err := b1.b.SendLink(Gateway, []string{"b2"}, payload)
		if err == nil {
			sent++
			continue
		}
		var refused *SendError
		if !errors.As(err, &refused) || !errors.Is(err, ErrFull) || refused.Refusals[0].To != "b2" {
			t.Fatal(err)
		}
		break
	}
	if want := (1 << 20) / (64<<10 + messageCost); sent != want {
		t.Errorf("took %d messages, want %d", sent, want)
	}
	// Another peer's link and another class's are not concerned.
	if err := b1.b.SendLink(Gateway, []string{"b2", "b3"}, payload); !errors.Is(err, ErrFull) || len(err.(*SendError).Refusals) != 1 {
		t.Errorf("to a full link and a free one: %v", err)
	}
	if err := b1.b.SendLink(Replication, []string{"b2"}, payload); err != nil {
		t.Error(err)
	}
	b2.awaitCount(t, "message", "b1", sent+1)
	c.live["b3"].awaitCount(t, "message", "b1", 1)
	told := b1.count("writable", "b2")
	b2.b.Consumed(Gateway, "b1", sent*len(payload))
	b1.awaitCount(t, "writable", "b2", told+1)
	if err := b1.b.SendLink(Gateway, []string{"b2"}, payload); err != nil {
		t.Error(err)
	}
}

func TestAKilledBrokerIsDownAtOnceAndUpAgainWithAnotherLife(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.startAll()
	b1 := c.live["b1"]
	if err := b1.b.SendLink(Replication, []string{"b2", "b3"}, []byte("before")); err != nil {
		t.Fatal(err)
	}
	c.live["b2"].awaitCount(t, "message", "b1", 1)

	killed := time.Now()
	c.stop("b3")
	b1.awaitCount(t, "down", "b3", 1)
	took := b1.last("down", "b3").at.Sub(killed)
	t.Logf("down after %v", took)
	if took > 500*time.Millisecond {
		t.Errorf("down only after %v", took)
	}
	b1.awaitCount(t, "broken", "b3", 1)
	if err := b1.b.SendLink(Replication, []string{"b2", "b3"}, []byte("without b3")); !errors.Is(err, ErrDown) {
		t.Errorf("to a peer that is down: %v", err)
	}
	c.live["b2"].awaitCount(t, "message", "b1", 2)

	b3 := c.start("b3")
	c.awaitMesh()
	if err := b1.b.SendLink(Replication, []string{"b3"}, []byte("after")); err != nil {
		t.Fatal(err)
	}
	b3.awaitCount(t, "message", "b1", 1)
	if n := b3.count("reset", "b1"); n != 0 {
		t.Errorf("a fresh broker was told of %d resets", n)
	}
	if n := c.live["b2"].count("reset", "b1"); n != 0 {
		t.Errorf("b2 was told of %d resets", n)
	}
	// b1 and b3 again: now b1 has had a link from b3 that ended.
	if err := b3.b.SendLink(Replication, []string{"b1"}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	b1.awaitCount(t, "message", "b3", 1)
	if n := b1.count("reset", "b3"); n != classes {
		t.Errorf("b1 was told of %d resets, want one a class", n)
	}
}

func TestAnAnnouncedLeaveIsKnownToAllBeforeItReturns(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.startAll()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if err := c.live["b3"].b.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("left after %v", time.Since(began))
	for _, name := range []string{"b1", "b2"} {
		r := c.live[name]
		r.mu.Lock()
		if _, up := r.up["b3"]; up {
			t.Errorf("%s still sees b3", name)
		}
		r.mu.Unlock()
	}
	if err := c.live["b3"].b.SendLink(Gateway, []string{"b1"}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after leaving: %v", err)
	}
	c.stop("b3")
	c.start("b3")
	c.awaitMesh()
}

func TestCloseTwiceAndLeaveAfterClose(t *testing.T) {
	c := newCluster(t, 1, nil)
	r := c.start("b1")
	r.b.Close()
	r.b.Close()
	if err := r.b.Leave(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("leave after close: %v", err)
	}
	if err := r.b.Send(Beats, "b1", nil); !errors.Is(err, ErrUnknownPeer) {
		t.Error(err)
	}
}
