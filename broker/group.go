package broker

import (
	"log/slog"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
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
	id     entry.GroupID
	bodies bodies
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

	state      *queue.Machine
	dispatcher *queue.Dispatcher
	effects    queue.Effects
	consumers  map[queue.ConsumerID]*attached
	holders    map[queue.HolderID][]*attached
	fresh      []*receiver // with pending deliveries
	own        []byte      // ops of the group itself, for the next batch
	released   []uint64
	counts     *counters
}

// attached is a consumer with the connection that it belongs to.
type attached struct {
	queue.Consumer
	to *receiver
	// gone is set when the consumer is cancelled but some of its deliveries
	// are still to be written.
	gone bool
	// unwritten are the messages of a consumer without acks that were given to
	// its connection and not yet written to its socket: they are settled when
	// they are, and returned if they never are.
	unwritten []entry.MessageID
}

func newGroup(id entry.GroupID, l *loop, state *queue.Machine, counts *counters) *group {
	g := &group{
		loop: l, id: id, state: state, counts: counts,
		consumers: make(map[queue.ConsumerID]*attached), holders: make(map[queue.HolderID][]*attached),
	}
	l.machine, l.special = g, g.handleSpecial
	return g
}

func (g *group) appendBatch(dst []byte, now int64) []byte {
	dst = queue.AppendBatch(dst, now)
	// Marks ride along with what has to be written anyway.
	if g.own = g.dispatcher.AppendMarks(g.own); len(g.own) > 0 {
		dst = queue.AppendSubmission(dst, 0, 0, g.own)
		g.own = g.own[:0]
	}
	return dst
}

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
	for i := range fx.Results {
		r := &fx.Results[i]
		if s := g.settle(r.Session, r.Seq); s != nil {
			s.finish(outcome{ops: r.Ops})
		}
	}
	g.released = append(g.released, fx.Released...)
	return nil
}

// lead begins to hand out messages. What earlier leaders gave out is gone with
// them: the state machine's marks say what may have been delivered.
func (g *group) lead() {
	g.dispatcher = queue.NewDispatcher(g.state)
	g.bodies.release(g.released)
	g.released = g.released[:0]
	g.bodies.retain(g.state.Live)
}

func (g *group) turn() {
	g.dispatcher.Clock(time.Now().UnixNano())
	g.dispatcher.DispatchPending(g.deliver)
	g.expire()
	for _, to := range g.fresh {
		to.deliver(to.pending)
		clear(to.pending)
		to.pending = to.pending[:0]
	}
	clear(g.fresh)
	g.fresh = g.fresh[:0]
	if len(g.released) > 0 {
		g.bodies.release(g.released)
		g.released = g.released[:0]
	}
	if len(g.own) > 0 {
		g.proposeOwn()
	}
	if g.keep != nil {
		g.keep.turn(g.loop)
	}
}

// proposeOwn puts the group's own ops before what else is pending.
func (g *group) proposeOwn() {
	ops := append(takeOps(), g.own...)
	g.own = g.own[:0]
	g.pending = append(g.pending, &submission{ops: ops})
	g.rouse()
}

func (g *group) deliver(d queue.Delivery) {
	a := g.consumers[d.Consumer]
	if d.NoAck {
		a.unwritten = append(a.unwritten, d.Message)
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
