package client

import (
	"context"
	"sync"
)

// window bounds what is on its way, in count and bytes. Whoever finds it full
// waits; the one who has waited longest is first.
type window struct {
	slots    chan struct{}
	maxBytes int64

	mu struct {
		sync.Mutex
		bytes   int64
		waiting []byteWaiter
	}
}

type byteWaiter struct {
	size  int64
	ready chan struct{}
}

func newWindow(count int, bytes int64) *window {
	return &window{slots: make(chan struct{}, count), maxBytes: bytes}
}

// enter takes a place for a message of that size, or returns why ctx or stopping
// has ended (ErrClosed).
func (w *window) enter(ctx context.Context, stopping <-chan struct{}, size int64) error {
	select {
	case w.slots <- struct{}{}:
	default:
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stopping:
			return ErrClosed
		}
	}
	w.mu.Lock()
	if len(w.mu.waiting) == 0 && w.fits(size) {
		w.mu.bytes += size
		w.mu.Unlock()
		return nil
	}
	mine := byteWaiter{size, make(chan struct{})}
	w.mu.waiting = append(w.mu.waiting, mine)
	w.mu.Unlock()
	var err error
	select {
	case <-mine.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-stopping:
		err = ErrClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	<-w.slots
	for i, other := range w.mu.waiting {
		if other.ready == mine.ready {
			w.mu.waiting = append(w.mu.waiting[:i], w.mu.waiting[i+1:]...)
			w.admit() // It may have stood before one that fits.
			return err
		}
	}
	w.release(size) // It was let in meanwhile.
	return err
}

// fits says whether there is room; a message larger than the window goes alone.
// REQUIRES: mu held.
func (w *window) fits(size int64) bool { return w.mu.bytes == 0 || w.mu.bytes+size <= w.maxBytes }

// leave gives a place back.
func (w *window) leave(size int64) {
	w.mu.Lock()
	w.release(size)
	w.mu.Unlock()
	<-w.slots
}

// release gives bytes back. REQUIRES: mu held.
func (w *window) release(size int64) {
	w.mu.bytes -= size
	w.admit()
}

// admit lets in who fits. REQUIRES: mu held.
func (w *window) admit() {
	for len(w.mu.waiting) > 0 && w.fits(w.mu.waiting[0].size) {
		w.mu.bytes += w.mu.waiting[0].size
		close(w.mu.waiting[0].ready)
		w.mu.waiting = w.mu.waiting[1:]
	}
}
