package bench

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// window bounds a publisher's unconfirmed messages and remembers when each
// was sent. One goroutine sends, another confirms.
type window struct {
	sentAt []atomic.Int64 // by tag modulo its length; 0 once confirmed

	mu struct {
		sync.Mutex
		published, confirmed uint64 // Invariant: published-confirmed <= len(sentAt)
		oldest               uint64 // every tag before it is confirmed
		waiting              bool
	}
	wake chan struct{} // capacity 1
}

func newWindow(size int) *window {
	// Twice the size: with tags confirmed out of order, the oldest may lag
	// while newer ones take its successors' places. add waits for that too.
	w := &window{sentAt: make([]atomic.Int64, 2*size), wake: make(chan struct{}, 1)}
	w.mu.oldest = 1
	return w
}

// full says whether another message must wait, and if so arranges for wake.
func (w *window) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := uint64(len(w.sentAt))
	w.mu.waiting = w.mu.published-w.mu.confirmed >= size/2 || w.mu.published+1-w.mu.oldest >= size
	return w.mu.waiting
}

// add notes a message sent at the given time and returns its tag.
// REQUIRES: !full()
func (w *window) add(at int64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.published++
	w.sentAt[w.mu.published%uint64(len(w.sentAt))].Store(at)
	return w.mu.published
}

// confirm settles tag, or all up to it, and calls each with the time that
// every newly settled message was sent at.
func (w *window) confirm(tag uint64, multiple bool, each func(sentAt int64)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if tag == 0 || tag > w.mu.published {
		return fmt.Errorf("bench: confirm of tag %d, published %d", tag, w.mu.published)
	}
	size := uint64(len(w.sentAt))
	first := tag
	if multiple {
		first = w.mu.oldest
	}
	for t := max(first, w.mu.oldest); t <= tag; t++ {
		if at := w.sentAt[t%size].Swap(0); at != 0 {
			w.mu.confirmed++
			each(at)
		}
	}
	for w.mu.oldest <= w.mu.published && w.sentAt[w.mu.oldest%size].Load() == 0 {
		w.mu.oldest++
	}
	// An eighth of the window must be free before the publisher is woken: to
	// wake it for every single confirm would cost the machine more than the
	// publishing itself.
	room := max(1, size/16)
	if w.mu.waiting && w.mu.published-w.mu.confirmed <= size/2-room {
		w.mu.waiting = false
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (w *window) counts() (published, confirmed uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.published, w.mu.confirmed
}
