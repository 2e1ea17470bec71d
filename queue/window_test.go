package queue

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func (w *window) seen(seqs ...uint64) *window {
	for _, seq := range seqs {
		w.add(seq)
	}
	return w
}

func upTo(first, last uint64) (seqs []uint64) {
	for seq := first; seq <= last; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

// What a window takes is bounded, and little for a producer that used little.
func TestAWindowTakesLittle(t *testing.T) {
	every := func(n, last uint64) (seqs []uint64) {
		for seq := n; seq <= last; seq += n {
			seqs = append(seqs, seq)
		}
		return seqs
	}
	for _, c := range []struct {
		name  string
		seen  []uint64
		words int
	}{
		{"the first", []uint64{1}, 1},
		{"in order", upTo(1, 100_000), 1},
		{"in order to the end of a word", upTo(1, 127), 0},
		{"in order from anywhere", upTo(1_000_000_000, 1_000_001_000), 1},
		{"one far above", append(upTo(1, 10), 1000), 16},
		{"one beyond the window", append(upTo(1, 10), 20_000), ProducerWindow/64 + 1},
		{"the highest there is", []uint64{MaxSequence}, 0},
		{"only each third", every(3, 100_000), ProducerWindow/64 + 1},
		{"a gap that is filled", slices.Concat(upTo(1, 10), upTo(1000, 2000), upTo(11, 999)), 1},
		{"out of order", []uint64{64, 3, 63, 2, 1}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := new(window).seen(c.seen...)
			if len(w.words) != c.words || cap(w.words) > 9+4*c.words+ProducerWindow/64*c.words {
				t.Errorf("%d words with room for %d, want %d", len(w.words), cap(w.words), c.words)
			}
			if !w.valid() {
				t.Errorf("not valid: %+v", w)
			}
		})
	}
}

func TestAWindowKnowsWhatAMapKnows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, seen := new(window), map[uint64]bool{}
		start := []uint64{1, 1, 60, 9000, 1 << 40, MaxSequence - 30_000}[die(t, 6)]
		next := start
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				step := []uint64{1, 1, 2, 63, 64, 65, 1000, 8191, 8192, 8193, 20_000}[die(t, 11)]
				for range 1 + die(t, 200) {
					seq := next
					switch {
					case die(t, 3) > 0 && w.highest+step <= MaxSequence:
						next = max(next, w.highest) + step
					case w.highest > 0:
						seq = w.highest - min(w.highest-1, uint64(die(t, ProducerWindow)))
					}
					if seq > MaxSequence || w.below(seq) {
						continue
					}
					if w.has(seq) != seen[seq] {
						t.Fatalf("%d was seen: %v, %+v", seq, seen[seq], w)
					}
					if !seen[seq] {
						w.add(seq)
						seen[seq] = true
					}
				}
			},
			"": func(t *rapid.T) {
				if w.highest == 0 {
					return
				}
				if !w.valid() || len(w.words) > ProducerWindow/64+1 {
					t.Fatalf("not valid: %+v", w)
				}
				for seq := w.highest - min(w.highest-1, ProducerWindow-1); seq <= w.highest; seq++ {
					if w.below(seq) || w.has(seq) != seen[seq] {
						t.Fatalf("%d was seen: %v, %+v", seq, seen[seq], w)
					}
				}
				if w.highest > ProducerWindow && !w.below(w.highest-ProducerWindow) {
					t.Fatalf("the window is larger than %d", ProducerWindow)
				}
			},
		})
	})
}
