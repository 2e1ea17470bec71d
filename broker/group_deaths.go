package broker

import (
	"context"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// A group's part in dead lettering: it hands dead messages to the broker's
// worker, and knows which of them are on their way.

// die hands messages that are given out to nobody any more to the worker.
func (g *group) die(q *topology.Queue, reason deathReason, ranges []entry.Range, done func()) {
	x := &deaths{source: g, queue: q, reason: reason, ranges: ranges}
	x.done = func() {
		ok := g.call(func() {
			done()
			if i := slices.Index(g.dying, x); i >= 0 {
				g.dying = slices.Delete(g.dying, i, i+1)
				x.finished()
			}
		})
		if !ok {
			done()
		}
	}
	g.dying = append(g.dying, x)
	g.deadLetters.take(x)
}

// finished calls what waits for the end of x. For the source's loop.
func (x *deaths) finished() {
	for _, f := range x.after {
		f()
	}
	x.after = nil
}

// afterDeaths runs f when what died in a queue before is dead-lettered: at once
// when nothing is on its way. So a queue that is deleted, perhaps because its
// connection ended, takes nothing along that was rejected before. Called on
// the loop's goroutine.
func (g *group) afterDeaths(q entry.QueueID, f func()) {
	for _, x := range slices.Backward(g.dying) {
		if x.queue.ID == q {
			x.after = append(x.after, f)
			return
		}
	}
	f()
}

// messages looks up the messages with ids in the ranges, without those that
// are gone.
func (g *group) messages(ctx context.Context, q entry.QueueID, ranges []entry.Range) ([]queue.Message, error) {
	answered := make(chan []queue.Message, 1)
	ok := g.call(func() {
		var found []queue.Message
		for _, r := range ranges {
			for id := r.First; id <= r.Last; id++ {
				if m, ok := g.state.Message(q, id); ok {
					found = append(found, m)
				}
			}
		}
		answered <- found
	})
	if !ok {
		return nil, g.takesNothing()
	}
	select {
	case found := <-answered:
		return found, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
