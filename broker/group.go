package broker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// bodies is where a group's entries are read from and given up.
type bodies interface {
	// recent returns an applied entry's payload if it is in memory. Any goroutine.
	recent(index uint64) ([]byte, bool)
	// read returns an entry's payload, appended to dst[:0]. It may read the
	// disk. Any goroutine.
	read(index uint64, dst []byte) ([]byte, error)
	// release says that no message of these entries is left.
	release(indexes []uint64)
	// retain releases every entry that is not live: for entries that were
	// released before the last checkpoint.
	retain(live func(index uint64) bool)
}

// group is one queue group on this broker: a loop with the queues' state
// machine and, since it leads, the dispatcher beside it.
type group struct {
	*loop
	*attendance
	id     entry.GroupID
	bodies bodies
	// view reads the topology; self is this broker's name.
	view func(func(*topology.State))
	self string
	// members reports whether a broker has a copy of the group, nil for all; room whether the
	// link to one takes that many bytes more, nil for always.
	members func(name string) bool
	room    func(name string, size int) bool
	// node is the group's raft member; nil for the volatile group.
	node *replicate.Node
	// orphaned is told, on the loop's goroutine, of a queue whose last
	// consumer went. It calls then once the queue is deleted, if it is to be.
	orphaned func(q entry.QueueID, then func())
	// deadLetters is the broker's worker, and dying what it has of this group,
	// in order.
	deadLetters *deadLetters
	dying       []*deaths
	// keep writes checkpoints; nil for the volatile group.
	keep *keeper
	// arriving reports whether a checkpoint is on its way from the leader; nil
	// where none can be.
	arriving func() bool

	state      *queue.Machine
	dispatcher *queue.Dispatcher
	effects    queue.Effects
	consumers  map[queue.ConsumerID]*attached
	holders    map[queue.HolderID][]*attached
	fresh      []*receiver // with pending deliveries
	own        []byte      // ops of the group itself, for the next batch
	released   []uint64
	traffic    map[entry.QueueID]*queueTraffic
	retained   bool
	// applied is the last entry's index; waiters counts who waits for one.
	applied atomic.Uint64
	waiters atomic.Int64
	waiting sync.Cond
	// leads tells this broker's gateways who leads.
	leads  func(leader string, term uint64)
	counts *counters
}

// attached is a consumer with the connection that it belongs to.
type attached struct {
	queue.Consumer
	to *receiver
	// gone is set when the consumer is cancelled but some of its deliveries
	// are still to be written.
	gone bool
	// unwritten are the messages of a consumer without acks that were given to
	// its connection and not yet written to its socket: its gateway settles them
	// when they are, and they are returned if they never are.
	unwritten heldSet
	// traffic is its queue's.
	traffic *queueTraffic
}

func newGroup(id entry.GroupID, l *loop, state *queue.Machine, counts *counters, living func() []string) *group {
	g := &group{
		loop: l, id: id, state: state, counts: counts,
		consumers: make(map[queue.ConsumerID]*attached), holders: make(map[queue.HolderID][]*attached),
		traffic: make(map[entry.QueueID]*queueTraffic),
	}
	l.machine = g
	g.waiting.L = new(sync.Mutex)
	g.applied.Store(state.Applied())
	g.attendance = newAttendance(l, id, living)
	g.attendance.host = g
	return g
}

func (g *group) appendBatch(dst []byte, now int64) []byte {
	dst = queue.AppendBatch(dst, now)
	// Marks ride along with what has to be written anyway.
	if g.own = g.dispatcher.AppendMarks(g.own); len(g.own) > 0 {
		dst = queue.AppendSubmission(dst, 0, 0, g.own)
	}
	return dst
}

// proposed forgets the group's own ops, which are in a proposed batch.
func (g *group) proposed() { g.own = g.own[:0] }

func (g *group) appendSubmission(dst []byte, s entry.SessionID, seq uint64, ops []byte) []byte {
	return queue.AppendSubmission(dst, s, seq, ops)
}

func (g *group) apply(term, index uint64, payload []byte) error {
	if g.keep != nil {
		g.keep.note(term, index, len(payload))
	}
	fx := &g.effects
	fx.Reset()
	if err := g.state.Apply(index, payload, fx); err != nil {
		return err
	}
	if g.dispatcher != nil {
		for _, c := range g.dispatcher.Applied(fx) {
			g.cancelled(c)
		}
	}
	g.countSettled(fx)
	g.countRepeated(fx)
	for i := range fx.Results {
		r := &fx.Results[i]
		g.settle(r.Session, r.Seq, index, outcome{ops: r.Ops, index: index})
	}
	g.released = append(g.released, fx.Released...)
	g.applied.Store(index)
	if g.waiters.Load() > 0 {
		g.wakeWaiters()
	}
	return nil
}

// lead begins to hand out messages, once the gateways of living brokers have
// told what their consumers hold. What others held is given out again: the
// state machine's marks say what may have been delivered.
func (g *group) lead(term uint64) {
	g.dispatcher = queue.NewDispatcher(g.state)
	g.give()
	g.attendance.lead()
	g.leads(g.self, term)
}

// follow forgets what only a leader knows.
func (g *group) follow() {
	g.attendance.follow()
	g.dispatcher = nil
	clear(g.consumers)
	clear(g.holders)
	clear(g.fresh)
	g.fresh, g.own = g.fresh[:0], g.own[:0]
}

// give gives up the bodies that no message needs any more.
func (g *group) give() {
	if len(g.released) > 0 {
		g.bodies.release(g.released)
		g.released = g.released[:0]
	}
}

func (g *group) turn() {
	if g.dispatcher != nil {
		g.dispatcher.Clock(g.now().UnixNano())
		if !g.gathering() {
			g.dispatcher.DispatchPending(g.deliver)
			g.expire()
		}
		for _, to := range g.fresh {
			to.deliver(to.pending, 0)
			clear(to.pending)
			to.pending = to.pending[:0]
		}
		clear(g.fresh)
		g.fresh = g.fresh[:0]
		if len(g.own) > 0 {
			g.proposeOwn()
		}
		g.attendance.turn()
	}
	if !g.retained {
		g.retained = true
		g.bodies.retain(g.state.Live)
	}
	g.give()
	if g.keep != nil {
		g.keep.turn(g.loop)
	}
}

// restore reads a state that another broker has sent.
func (g *group) restore(at entry.Position, r io.Reader) (adopt func(), err error) {
	state, err := queue.Restore(r)
	if err == nil && state.Applied() != at.Index {
		err = fmt.Errorf("%w: applied up to %d", queue.ErrMalformed, state.Applied())
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint of group %d at %v: %w", g.id, at, err)
	}
	return func() { g.state = state }, nil
}

// installed is called when the log has taken the checkpoint of the state that was
// adopted. Who waits for an entry is not told before: where this mirror holds
// another one at the index, which no leader committed, that would be read.
func (g *group) installed() {
	g.bodies.retain(g.state.Live)
	g.applied.Store(g.state.Applied())
	g.wakeWaiters()
}

// proposeOwn puts the group's own ops before what else is pending.
func (g *group) proposeOwn() {
	ops := append(takeOps(), g.own...)
	g.own = g.own[:0]
	g.submitOwn(&submission{ops: ops})
}

// followTime is how long a mirror has to catch up with what its leader gave
// out. It takes a round trip; a mirror that needs longer is in trouble.
const followTime = 5 * time.Second

var errLagging = errors.New("broker: the mirror has not caught up")

// awaitApplied waits until the entry at index is applied here. Any goroutine.
func (g *group) awaitApplied(index uint64) error {
	if g.applied.Load() >= index {
		return nil
	}
	g.waiters.Add(1)
	defer g.waiters.Add(-1)
	late := false
	timer := time.AfterFunc(followTime, func() {
		g.waiting.L.Lock()
		late = true
		g.waiting.Broadcast()
		g.waiting.L.Unlock()
	})
	defer timer.Stop()
	g.waiting.L.Lock()
	defer g.waiting.L.Unlock()
	for g.applied.Load() < index {
		if late && g.arriving != nil && g.arriving() {
			late = false // A checkpoint is on its way: that may take long.
			timer.Reset(followTime)
		}
		if late {
			return fmt.Errorf("%w: entry %d of group %d", errLagging, index, g.id)
		}
		g.waiting.Wait()
	}
	return nil
}

func (g *group) wakeWaiters() {
	g.waiting.L.Lock()
	g.waiting.Broadcast()
	g.waiting.L.Unlock()
}

// countSettled counts what left the queues: acked, rejected, or delivered to
// consumers without acks.
func (g *group) countSettled(fx *queue.Effects) {
	if g.dispatcher != nil {
		for _, change := range fx.Settled {
			var n uint64
			for _, r := range change.Ranges {
				n += r.Len()
			}
			g.counts.acked.Add(n)
			g.trafficOf(change.Queue).acked += n
		}
	}
	for _, q := range fx.Deleted {
		delete(g.traffic, q)
	}
}

// countRepeated counts the publishes of producers that were not enqueued.
func (g *group) countRepeated(fx *queue.Effects) {
	if g.dispatcher == nil || fx.Dropped == 0 && len(fx.TooOld) == 0 {
		return
	}
	g.counts.duplicates.Add(uint64(fx.Dropped))
	g.counts.tooOld.Add(uint64(len(fx.TooOld)))
	for i := range fx.TooOld {
		p := &fx.TooOld[i]
		g.logger.Debug("a publish is too old to tell whether it is there", "group", g.name, "vhost", p.Vhost,
			"producer", p.Producer, "sequence", p.Sequence, "highest", p.Highest)
	}
}

func (g *group) deliver(d queue.Delivery) {
	a := g.consumers[d.Consumer]
	if d.NoAck {
		a.unwritten.add(d.Message)
		a.traffic.deliveredNoAck++
	} else {
		a.traffic.delivered++
	}
	if d.Redelivered {
		a.traffic.redelivered++
	}
	if len(a.to.pending) == 0 {
		g.fresh = append(g.fresh, a.to)
	}
	a.to.pending = append(a.to.pending, d)
}

// cancelled forgets a consumer whose queue was deleted, and tells its connection.
func (g *group) cancelled(c queue.Consumer) {
	if a := g.consumers[c.ID]; a != nil {
		g.forget(a)
		a.to.cancelled(c.ID)
	}
}

func (g *group) forget(a *attached) {
	delete(g.consumers, a.ID)
	list := g.holders[a.Holder]
	for i, other := range list {
		if other == a {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(g.holders, a.Holder)
	} else {
		g.holders[a.Holder] = list
	}
}

// refused is called when the loop ends. Consumers hear of it by their
// connections' end.
func (g *group) refused(err error) {
	for _, x := range g.dying {
		x.finished()
	}
	g.dying = nil
	g.logger.Debug("group ended", slog.Uint64("group", uint64(g.id)), slog.Any("err", err))
}
