package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTheWindowIsBoundedInCountAndBytes(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	never := make(chan struct{})
	enter := func(w *window, size int64) bool { return w.enter(ended, never, size) == nil }

	w := newWindow(2, 100)
	if !enter(w, 60) || enter(w, 60) || !enter(w, 40) {
		t.Error("bytes")
	}
	if enter(w, 0) {
		t.Error("a third of two")
	}
	w.leave(60)
	if !enter(w, 60) {
		t.Error("no room after one has left")
	}
	w.leave(60)
	w.leave(40)
	if !enter(w, 1000) || enter(w, 1) {
		t.Error("one that is larger than the window goes alone")
	}
	w.leave(1000)

	// The one that has waited longest is first, and who gives up leaves no trace.
	if !enter(w, 100) {
		t.Fatal("the window is not empty")
	}
	entered := make(chan error, 1)
	go func() { entered <- w.enter(context.Background(), never, 50) }()
	for waiting := 0; waiting == 0; {
		w.mu.Lock()
		waiting = len(w.mu.waiting)
		w.mu.Unlock()
	}
	w.leave(100)
	if err := <-entered; err != nil {
		t.Error(err)
	}
	stopping := make(chan struct{})
	close(stopping)
	if err := w.enter(context.Background(), stopping, 100); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if w.mu.bytes != 50 || len(w.slots) != 1 || len(w.mu.waiting) != 0 {
		t.Errorf("%d bytes, %d slots, %d waiting", w.mu.bytes, len(w.slots), len(w.mu.waiting))
	}
}

// The deque against a slice, over random operations.
func TestADequeIsAQueue(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var d deque
	var twin []*pending
	for range 20_000 {
		switch r := (&pending{}); random.IntN(5) {
		case 0, 1:
			d.push(r)
			twin = append(twin, r)
		case 2:
			d.pushFront(r)
			twin = slices.Insert(twin, 0, r)
		case 3:
			if len(twin) > 0 {
				if d.pop() != twin[0] {
					t.Fatal("pop")
				}
				twin = twin[1:]
			}
		case 4:
			if len(twin) > 0 {
				i := random.IntN(len(twin))
				if r = twin[i]; !d.remove(r) || d.remove(r) {
					t.Fatal("remove")
				}
				twin = slices.Delete(twin, i, i+1)
			}
		}
		if d.len != len(twin) {
			t.Fatalf("%d, want %d", d.len, len(twin))
		}
		for i := range twin {
			if d.at(i) != twin[i] {
				t.Fatalf("at %d", i)
			}
		}
	}
}

func TestOneAckStandsForAllInARow(t *testing.T) {
	settled := func(tags ...uint64) map[uint64]struct{} {
		m := map[uint64]struct{}{}
		for _, tag := range tags {
			m[tag] = struct{}{}
		}
		return m
	}
	for _, test := range []struct {
		name    string
		low     uint64
		ahead   map[uint64]struct{}
		acks    []uint64
		through uint64
		rest    []uint64
		after   uint64 // low
	}{
		{"none", 0, nil, nil, 0, nil, 0},
		{"all in a row", 2, nil, []uint64{3, 4, 5}, 5, nil, 5},
		{"one is missing", 2, nil, []uint64{3, 5}, 3, []uint64{5}, 3},
		{"the first is missing", 2, nil, []uint64{4, 5}, 0, []uint64{4, 5}, 2},
		{"what was settled before fills the gap", 2, settled(3, 5), []uint64{4}, 4, nil, 5},
		{"an ack stands for none that was settled before", 2, settled(3), nil, 0, nil, 3},
	} {
		s := &settlements{low: test.low, ahead: test.ahead}
		through, rest := s.advance(test.acks)
		if through != test.through || !slices.Equal(rest, test.rest) || s.low != test.after {
			t.Errorf("%s: through %d, rest %v, low %d", test.name, through, rest, s.low)
		}
	}
}

func TestPausesDoubleAndEnd(t *testing.T) {
	b := backoff{least: 10, most: 100}
	for _, most := range []time.Duration{10, 20, 40, 80, 100, 100} {
		if p := b.pause(); p < most/2 || p > most {
			t.Errorf("a pause of %d, want %d to %d", p, most/2, most)
		}
	}
	b.reset()
	if p := b.pause(); p > 10 {
		t.Errorf("a pause of %d after the reset", p)
	}
}

func TestEndpointsInTheirOrder(t *testing.T) {
	given, err := parseEndpoints("amqp://u:p@a, amqps://b:5000/v,amqp://c")
	if err != nil {
		t.Fatal(err)
	}
	e := newEndpoints(given, true)
	addresses := func(lost string) []string {
		var list []string
		for _, p := range e.round(lost) {
			list = append(list, p.address)
		}
		return list
	}
	if got := addresses("a:5672"); !slices.Equal(got, []string{"b:5000", "c:5672", "a:5672"}) {
		t.Errorf("got %v", got)
	}
	e.learn(given[0], []string{"a:5672", "d:1"})
	if got := addresses(""); !slices.Equal(got, []string{"a:5672", "b:5000", "c:5672", "d:1"}) {
		t.Errorf("got %v", got)
	}
	if learned := e.round("")[3]; learned.url != "amqp://u:p@d:1" || learned.user != "u" {
		t.Errorf("learned %+v", learned)
	}
	e.learn(given[0], nil) // A broker that does not tell changes nothing.
	if got := addresses(""); len(got) != 4 {
		t.Errorf("got %v", got)
	}
	e.learn(given[0], []string{"c:5672"})
	if got := addresses(""); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}
