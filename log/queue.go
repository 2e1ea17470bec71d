package log

import (
	"sync"
	"time"
)

// queue is what waits for the writer, bounded in bytes and in count. What the
// writer has taken counts until it says that it is finished.
type queue struct {
	maxBytes, maxAppends int
	wake                 chan struct{} // cap 1: there is something to take, or closed
	made                 time.Time

	mu struct {
		sync.Mutex
		space   sync.Cond
		waiting []item
		taken   []item // what the writer is not yet finished with; its first is the oldest
		bytes   int    // of waiting and of what is taken
		count   int
		closed  bool
	}
}

type item struct {
	Append
	size   int           // bytes of its records
	since  time.Duration // after queue.made: when it came to wait
	refill bool          // of Log.Refill
}

func newQueue(maxBytes, maxAppends int) *queue {
	q := &queue{maxBytes: maxBytes, maxAppends: maxAppends, wake: make(chan struct{}, 1), made: time.Now()}
	q.mu.space.L = &q.mu
	return q
}

func appendSize(a Append) int {
	n := 0
	for k := range a.Entries {
		n += headerSize + len(a.Entries[k].Payload)
	}
	if a.HardState != nil {
		n += headerSize + voteSize
	}
	return n
}

// push adds an append, after waiting for room. An append that is larger than
// the bound gets in when nothing else waits. False once closed.
func (q *queue) push(a Append, refill bool) bool {
	it := item{Append: a, size: appendSize(a), refill: refill}
	q.mu.Lock()
	for !q.mu.closed && q.mu.count > 0 && (q.mu.bytes+it.size > q.maxBytes || q.mu.count >= q.maxAppends) {
		q.mu.space.Wait()
	}
	if q.mu.closed {
		q.mu.Unlock()
		return false
	}
	it.since = time.Since(q.made)
	q.mu.waiting = append(q.mu.waiting, it)
	q.mu.bytes += it.size
	q.mu.count++
	q.mu.Unlock()
	q.nudge()
	return true
}

func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits, in exchange for an empty slice to fill next.
// closed means that nothing more will come.
func (q *queue) take(empty []item) (items []item, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.mu.waiting = q.mu.waiting, empty
	q.mu.taken = items
	return items, q.mu.closed
}

// finished makes room for what has been done.
func (q *queue) finished(count, bytes int) {
	q.mu.Lock()
	q.mu.taken = q.mu.taken[min(count, len(q.mu.taken)):]
	q.mu.count -= count
	q.mu.bytes -= bytes
	q.mu.Unlock()
	q.mu.space.Broadcast()
}

// oldest returns when the oldest append that is not finished was pushed.
func (q *queue) oldest() (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, items := range [][]item{q.mu.taken, q.mu.waiting} {
		if len(items) > 0 {
			return q.made.Add(items[0].since), true
		}
	}
	return time.Time{}, false
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.closed
}

func (q *queue) close() {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	q.mu.space.Broadcast()
	q.nudge()
}
