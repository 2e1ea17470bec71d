package broker

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/replicate"
)

// topologyGroup is the group of vhosts, users, exchanges, bindings and the
// queue registry: a loop whose state every connection reads.
type topologyGroup struct {
	*loop
	node    *replicate.Node
	keep    *keeper
	effects topology.Effects
	version atomic.Uint64
	// deleted is told, on the loop's goroutine, of queues that left the
	// registry.
	deleted func([]*topology.Queue)

	mu struct {
		sync.RWMutex
		state *topology.State
	}
}

func newTopologyGroup(l *loop, state *topology.State) *topologyGroup {
	g := &topologyGroup{loop: l}
	g.mu.state = state
	l.machine, l.special = g, func(*request) {}
	return g
}

func (g *topologyGroup) appendBatch(dst []byte, now int64) []byte {
	return topology.AppendBatch(dst, now)
}

func (g *topologyGroup) appendSubmission(dst []byte, s entry.SessionID, seq uint64, ops []byte) []byte {
	return topology.AppendSubmission(dst, s, seq, ops)
}

func (g *topologyGroup) apply(term, index uint64, payload []byte) error {
	g.keep.note(term, index, len(payload))
	fx := &g.effects
	g.mu.Lock()
	err := g.mu.state.Apply(index, payload, fx)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if fx.Changed {
		g.version.Add(1)
	}
	if len(fx.QueuesDeleted) > 0 {
		g.deleted(fx.QueuesDeleted)
	}
	for i := range fx.Results {
		r := &fx.Results[i]
		if s := g.settle(r.Session, r.Sequence); s != nil {
			s.finish(outcome{topology: r.Ops})
		}
	}
	return nil
}

func (g *topologyGroup) turn()         { g.keep.turn(g.loop) }
func (g *topologyGroup) lead()         {}
func (g *topologyGroup) refused(error) {}

// snapshot writes the state at once: unlike a queue group's it is small.
func (g *topologyGroup) snapshot() func(io.Writer) error {
	return func(w io.Writer) error {
		g.mu.RLock()
		defer g.mu.RUnlock()
		return g.mu.state.Checkpoint(w)
	}
}

func (g *topologyGroup) view(f func(*topology.State)) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	f(g.mu.state)
}

// change proposes ops and waits until they are applied here. When ctx ends
// first they may be applied all the same.
func (g *topologyGroup) change(ctx context.Context, ops []byte) ([]topology.OpResult, error) {
	type answer struct {
		results []topology.OpResult
		err     error
	}
	answered := make(chan answer, 1)
	g.submit(&submission{ops: ops, done: func(o outcome) {
		answered <- answer{append([]topology.OpResult(nil), o.topology...), o.err}
	}})
	select {
	case a := <-answered:
		return a.results, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
