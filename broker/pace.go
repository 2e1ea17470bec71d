package broker

import (
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// paceShare is how much more than clients commit goes to mirrors that catch
	// up: above 1, or they never would; and the less, the more is left to clients.
	// What publishers commit is written and carried for each mirror anyway, so
	// that this much costs them less than a fifth.
	paceShare = 1.5
	// paceLeast is what goes to mirrors in any case, in bytes a second.
	paceLeast = 32 << 20
	// paceWindow is what the rate of commits is measured over.
	paceWindow = 100 * time.Millisecond
	// paceBurst is for how long what was not sent may be made up for: more than
	// it takes until raft asks again.
	paceBurst = 2 * tickInterval
	// paceIdle is for how long nothing is committed when there is nothing to
	// yield to; or it may be that commits wait for the very mirror. A stall of
	// the disk is shorter, mostly.
	paceIdle = 500 * time.Millisecond
)

// pace bounds what mirrors that are far behind get, by what clients do
// meanwhile in the groups that this broker leads. It may be used from many
// goroutines.
type pace struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		since  time.Time // of the window
		bytes  float64   // committed in it
		rate   float64   // bytes a second that were committed
		last   time.Time // when something was
		at     time.Time // when tokens was right
		tokens float64   // bytes that may be sent; below 0 for what was sent before its time
	}
}

func newPace(now func() time.Time) *pace { return &pace{now: now} }

// committed counts an entry that was committed in a group led here.
func (p *pace) committed(size int) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roll(now)
	p.mu.bytes += float64(size)
	p.mu.last = now
}

// roll ends the window when it is time. REQUIRES: mu held.
func (p *pace) roll(now time.Time) {
	took := now.Sub(p.mu.since)
	if took < paceWindow {
		return
	}
	rate := p.mu.bytes / took.Seconds()
	if took > paceIdle {
		p.mu.rate = rate
	}
	// Not the last window alone: a stall of the disk is no lack of traffic.
	p.mu.rate += (rate - p.mu.rate) / 4
	p.mu.since, p.mu.bytes = now, 0
}

// spend reports whether so many bytes may be sent now, and counts them.
func (p *pace) spend(size uint64) bool {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roll(now)
	if now.Sub(p.mu.last) > paceIdle {
		p.mu.at, p.mu.tokens = now, 0
		return true
	}
	allowed := max(paceLeast, paceShare*p.mu.rate)
	p.mu.tokens = min(p.mu.tokens+allowed*now.Sub(p.mu.at).Seconds(), allowed*paceBurst.Seconds())
	p.mu.at = now
	if p.mu.tokens < 0 {
		return false
	}
	p.mu.tokens -= float64(size)
	return true
}

// feeder serves a group's mirrors that are far behind.
type feeder struct {
	*pace
	broker *Broker
	loop   *loop
	group  entry.GroupID
	log    replicate.Log
	node   *replicate.Node // set when it is made
}

// newFeeder makes a group's; nil where mirrors are served as they ask.
func (b *Broker) newFeeder(l *loop, g entry.GroupID, entries replicate.Log) *feeder {
	if b.cluster == nil || b.cluster.catchup == nil {
		return nil
	}
	return &feeder{pace: b.cluster.catchup.pace, broker: b, loop: l, group: g, log: entries}
}

// Spend implements replicate.Feeder.
func (f *feeder) Spend(size uint64) bool { return f.spend(size) }

// Fetch implements replicate.Feeder.
func (f *feeder) Fetch(lo, hi, maxBytes uint64) {
	f.broker.spawn(func() {
		entries, err := f.log.Read(f.group, lo, hi, maxBytes)
		f.loop.call(func() { f.node.Fetched(lo, entries, err) })
	})
}
