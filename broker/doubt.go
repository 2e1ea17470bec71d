package broker

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxStill is how long a broker may stand still before others may have given
// away what it holds: less than it takes to elect another leader.
const maxStill = 300 * time.Millisecond

// doubt notices that this process was stopped (SIGSTOP, a hypervisor's pause) or
// starved of the processor. What it has to hand to its clients then may have been
// given to others since: it is doubtful until its leader has been asked. Nil, of a
// broker alone, never doubts. Any goroutine.
type doubt struct {
	now    func() time.Time
	began  time.Time
	alive  atomic.Int64  // when it last was seen to run, as time since began
	rounds atomic.Uint32 // how often it was stopped
	// raised has a token after each stop.
	raised chan struct{}
	mu     sync.Mutex // held to count a stop
}

func newDoubt(now func() time.Time) *doubt {
	return &doubt{now: now, began: now(), raised: make(chan struct{}, 1)}
}

// round is how often this broker was stopped until now. Two atomic loads and the
// clock, unless it just was.
func (d *doubt) round() uint32 {
	if d == nil {
		return 0
	}
	if now := int64(d.now().Sub(d.began)); now-d.alive.Load() > int64(maxStill) {
		d.count(now)
	}
	return d.rounds.Load()
}

// count counts a stop, once: whoever sees the new time sees the new count too.
func (d *doubt) count(now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now-d.alive.Load() <= int64(maxStill) {
		return
	}
	d.rounds.Add(1)
	d.alive.Store(now)
	select {
	case d.raised <- struct{}{}:
	default:
	}
}

// beat is to be called much more often than every maxStill.
func (d *doubt) beat() {
	// The clock is read once: a stop between two readings would go unnoticed.
	now := int64(d.now().Sub(d.began))
	d.count(now)
	d.alive.Store(now)
}

// stopped has a token after each stop.
func (d *doubt) stopped() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.raised
}
