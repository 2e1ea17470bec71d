package queue

import "slices"

// ProducerWindow is how many sequences, counted down from a producer's highest,
// are known one by one: whether they were enqueued or not.
const ProducerWindow = 8192

// MaxSequence is the highest sequence that a publish may have.
const MaxSequence = 1<<63 - 1

// window is the sequences of one producer that were enqueued. It takes 8 bytes
// for every 64 between the oldest one that is missing and the highest, so next
// to nothing for a producer whose sequences come in order, and at most 1 KiB.
//
// The words end with that of the highest. Before them, from first on, all within
// the window were seen; before first none was.
type window struct {
	highest, first uint64 // 0 before the first
	words          []uint64
}

// base is the first sequence of words, a multiple of 64.
func (w *window) base() uint64 { return (w.highest/64 + 1 - uint64(len(w.words))) * 64 }

// below reports whether seq lies below the window: nobody knows of it.
func (w *window) below(seq uint64) bool { return seq+ProducerWindow <= w.highest }

// has reports whether seq was seen. REQUIRES: !below(seq).
func (w *window) has(seq uint64) bool {
	if seq > w.highest || seq < w.first {
		return false
	}
	base := w.base()
	return seq < base || w.words[(seq-base)/64]>>(seq%64)&1 == 1
}

// add notes that seq was seen. O(words) at worst, O(1) in order.
// REQUIRES: !below(seq).
func (w *window) add(seq uint64) {
	switch {
	case w.highest == 0:
		w.highest, w.first, w.words = seq, seq, append(w.words[:0], 0)
	case seq > w.highest:
		w.raise(seq)
	case seq < w.first:
		w.lower(seq)
	}
	if base := w.base(); seq >= base {
		w.words[(seq-base)/64] |= 1 << (seq % 64)
	}
	w.trim()
}

// raise makes seq the highest, and drops the words below the window.
func (w *window) raise(seq uint64) {
	base := w.base()
	lowest := base
	if seq >= ProducerWindow {
		lowest = max(base, (seq+1-ProducerWindow)&^63)
	}
	w.drop(int(min((lowest-base)/64, uint64(len(w.words)))))
	w.highest = seq
	n := len(w.words)
	w.words = slices.Grow(w.words, int((seq&^63-lowest)/64)+1-n)[:(seq&^63-lowest)/64+1]
	clear(w.words[n:])
}

// lower makes seq the first: there is nothing between it and the one before.
func (w *window) lower(seq uint64) {
	base := w.base()
	more := make([]uint64, (base-seq&^63)/64, int((base-seq&^63)/64)+len(w.words))
	for i := range more {
		// What was told by first alone: all from there on.
		switch at := seq&^63 + uint64(i)*64; {
		case at >= w.first:
			more[i] = ^uint64(0)
		case at+64 > w.first:
			more[i] = ^uint64(0) << (w.first % 64)
		}
	}
	w.words = append(more, w.words...)
	w.first = seq
}

// trim drops the words at the front that say no more than first does.
func (w *window) trim() {
	n, base := 0, w.base()
	for n < len(w.words) && w.words[n] == ^uint64(0)<<(max(w.first, base)-base) {
		n, base = n+1, base+64
	}
	w.drop(n)
}

// drop drops n words at the front, and memory that it is unlikely to need again.
func (w *window) drop(n int) {
	if n == 0 {
		return
	}
	rest := w.words[n:]
	if cap(w.words) > 8+4*len(rest) {
		w.words = slices.Clone(rest)
		return
	}
	w.words = w.words[:copy(w.words, rest)]
}

// valid reports whether a window that was read holds what the others rely on.
func (w *window) valid() bool {
	n := len(w.words)
	if w.first == 0 || w.first > w.highest || w.highest > MaxSequence ||
		n > ProducerWindow/64+1 || uint64(n) > w.highest/64+1 {
		return false
	}
	base := w.base()
	if n == 0 {
		return w.highest%64 == 63 && w.first < base
	}
	if w.words[n-1]>>(w.highest%64) != 1 {
		return false
	}
	if w.first < base {
		return true
	}
	// The first one seen, and nothing before it.
	at := int((w.first - base) / 64)
	for _, word := range w.words[:at] {
		if word != 0 {
			return false
		}
	}
	return w.words[at]&(1<<(w.first%64+1)-1) == 1<<(w.first%64)
}
