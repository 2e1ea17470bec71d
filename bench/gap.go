package bench

import "sync/atomic"

// gap finds the longest time from one event to the next, of those that end
// after it was armed. Events come from several goroutines.
type gap struct {
	last, longest atomic.Int64 // by now(); 0 before the first event
	armed         atomic.Bool
}

// note tells of an event now. Of two at the same time the one may hide that
// the other came later, by no more than they lie apart.
func (g *gap) note(at int64) {
	last := g.last.Swap(at)
	if last == 0 || !g.armed.Load() {
		return
	}
	for longest := g.longest.Load(); at-last > longest; longest = g.longest.Load() {
		if g.longest.CompareAndSwap(longest, at-last) {
			return
		}
	}
}
