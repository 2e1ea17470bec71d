package broker

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
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
	*attendance
	// gateway is this broker's way to whoever leads.
	gateway *gateway
	self    string
	// cluster is nil for a broker alone; announced is what it was told last.
	cluster   *cluster
	announced uint64
	node      *replicate.Node
	keep      *keeper
	effects   topology.Effects
	use       *quorumUse
	version   atomic.Uint64
	// deleted is told, on the loop's goroutine, of queues that left the
	// registry.
	deleted func([]*topology.Queue)

	mu struct {
		sync.RWMutex
		state *topology.State
	}
	// applied is signalled with every entry; its lock is mu's for writing.
	applied sync.Cond
}

func newTopologyGroup(l *loop, state *topology.State, living func() []string) *topologyGroup {
	g := &topologyGroup{loop: l, attendance: newAttendance(l, entry.Topology, living), use: newQuorumUse(state)}
	g.mu.state = state
	g.applied.L = &g.mu
	l.machine = g
	return g
}

func (g *topologyGroup) appendBatch(dst []byte, now int64) []byte {
	return topology.AppendBatch(dst, now)
}

func (g *topologyGroup) proposed() {}

func (g *topologyGroup) appendSubmission(dst []byte, s entry.SessionID, seq uint64, ops []byte) []byte {
	return topology.AppendSubmission(dst, s, seq, ops)
}

func (g *topologyGroup) apply(term, index uint64, payload []byte) error {
	g.keep.note(term, index, len(payload))
	fx := &g.effects
	fx.Reset()
	g.mu.Lock()
	err := g.mu.state.Apply(index, payload, fx)
	g.applied.Broadcast()
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if fx.Changed {
		g.use.change(fx.QueuesAdded, fx.QueuesDeleted)
		g.version.Add(1)
	}
	if len(fx.QueuesDeleted) > 0 {
		g.deleted(fx.QueuesDeleted)
	}
	for i := range fx.Results {
		r := &fx.Results[i]
		g.settle(r.Session, r.Sequence, index, outcome{topology: r.Ops, index: index})
	}
	return nil
}

func (g *topologyGroup) turn() {
	if applied := g.mu.state.Applied(); applied != g.announced {
		g.announce()
	}
	if g.node != nil && !g.use.known.Load() {
		// Who has applied an entry of the leader's term has what was there before.
		s := g.node.Status()
		g.use.known.Store(s.Leader != 0 && s.Applied.Term == s.Term)
	}
	g.attendance.turn()
	g.keep.turn(g.loop)
}

// announce tells the other brokers how far the topology is here.
func (g *topologyGroup) announce() {
	g.announced = g.mu.state.Applied()
	if g.cluster != nil {
		g.cluster.appliedTopology(g.announced)
	}
}

func (g *topologyGroup) lead(term uint64) {
	g.attendance.lead()
	g.gateway.leads(g.self, term)
}

func (g *topologyGroup) follow() { g.attendance.follow() }

func (g *topologyGroup) refused(error) { g.applied.Broadcast() }

// snapshot encodes the state at once: unlike a queue group's it is small, and
// by the time it is written the state has gone on.
func (g *topologyGroup) snapshot() func(io.Writer) error {
	var b bytes.Buffer
	err := g.mu.state.Checkpoint(&b) // Only this goroutine changes it.
	return func(w io.Writer) error {
		if err != nil {
			return err
		}
		_, err := w.Write(b.Bytes())
		return err
	}
}

// restore reads a state that another broker has sent.
func (g *topologyGroup) restore(at entry.Position, r io.Reader) (adopt func(), err error) {
	state, err := topology.Restore(r)
	if err != nil {
		return nil, fmt.Errorf("checkpoint of the topology at %v: %w", at, err)
	}
	if state.Applied() != at.Index {
		return nil, fmt.Errorf("checkpoint of the topology at %v: applied up to %d", at, state.Applied())
	}
	return func() { g.adopt(state) }, nil
}

// adopt goes on with another state, and tells what became of queues on the way.
func (g *topologyGroup) adopt(state *topology.State) {
	g.mu.Lock()
	old := g.mu.state
	g.mu.state = state
	g.applied.Broadcast()
	g.mu.Unlock()
	added, deleted := missing(state, old), missing(old, state)
	g.use.change(added, deleted)
	g.version.Add(1)
	if len(deleted) > 0 {
		g.deleted(deleted)
	}
}

// missing are the queues of one state that another one does not have.
func missing(from, in *topology.State) (queues []*topology.Queue) {
	for _, q := range from.AllQueues() {
		if in.QueueByID(q.ID) == nil {
			queues = append(queues, q)
		}
	}
	return queues
}

func (g *topologyGroup) view(f func(*topology.State)) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	f(g.mu.state)
}

// change proposes ops to whoever leads and waits until they are applied here.
// When ctx ends first they may be applied all the same.
func (g *topologyGroup) change(ctx context.Context, ops []byte) ([]topology.OpResult, error) {
	o, err := g.gateway.do(ctx, ops)
	if err != nil {
		return nil, err
	}
	if err := g.await(ctx, o.index); err != nil {
		return nil, err
	}
	if g.cluster != nil {
		g.cluster.applied.await(ctx, o.index, g.cluster.broker.living)
	}
	return o.topology, nil
}

// await waits until the entry at index is applied here.
func (g *topologyGroup) await(ctx context.Context, index uint64) error {
	defer context.AfterFunc(ctx, func() {
		g.mu.Lock()
		g.applied.Broadcast()
		g.mu.Unlock()
	})()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.mu.state.Applied() < index {
		if err := cmp.Or(ctx.Err(), g.takesNothing()); err != nil {
			return err
		}
		g.applied.Wait()
	}
	return nil
}

// appendTopologyResults encodes what became of ops.
func appendTopologyResults(dst []byte, results []topology.OpResult) []byte {
	for _, r := range results {
		dst = appendWireBytes(append(dst, byte(r.Code)), []byte(r.Name))
	}
	return dst
}

// parseTopologyResults decodes them; the queue or exchange is to be looked up.
func parseTopologyResults(b []byte) (results []topology.OpResult, err error) {
	r := wireReader{b: b}
	for len(r.b) > 0 {
		o := topology.OpResult{Code: topology.Code(r.b[0])}
		r.b = r.b[1:]
		o.Name = string(r.bytes())
		results = append(results, o)
	}
	if r.bad {
		return nil, fmt.Errorf("%w: topology results", errWire)
	}
	return results, nil
}
