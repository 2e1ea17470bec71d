package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// ringBytes is how much of a group's recent entries stays in memory: enough
// that consumers who keep up never read the disk.
const ringBytes = 32 << 20

// buryAfter is how long a broker may be away before its in-memory queues are
// deleted.
const buryAfter = 2 * time.Second

// origin is what a checkpoint says beside the state: zero for none.
type origin struct {
	at entry.Position
	// members is empty when the checkpoint does not say.
	members replicate.Members
}

// restore reads a group's newest checkpoint with read.
func restore[T any](l *log.Log, g entry.GroupID, fresh func() T, read func(io.Reader) (T, error)) (T, origin, error) {
	at, r, err := l.OpenCheckpoint(g)
	if errors.Is(err, log.ErrNoCheckpoint) {
		return fresh(), origin{}, nil
	}
	var none T
	if err != nil {
		return none, origin{}, err
	}
	defer r.Close()
	members, in, err := readMembers(r)
	if err != nil {
		return none, origin{}, fmt.Errorf("checkpoint of group %d at %v: %w", g, at, err)
	}
	state, err := read(in)
	if err != nil {
		return none, origin{}, fmt.Errorf("checkpoint of group %d at %v: %w", g, at, err)
	}
	return state, origin{at, members}, nil
}

// join makes a durable group's raft node, and the keeper of its checkpoints.
func (b *Broker) join(l *loop, g entry.GroupID, entries replicate.Log, from origin) (*replicate.Node, *keeper, error) {
	l.doubts = b.cluster != nil
	config := replicate.Config{
		Group: g, ID: b.members.id, Voters: b.members.voters(g), Members: from.members, Log: entries, Notify: l.notify,
		Applied: from.at, RingBytes: ringBytes, Logger: b.logger,
		KeepLive: b.keeps.live, KeepAbsent: b.keeps.absent, KeepTail: b.keeps.tail,
	}
	if b.cluster != nil {
		config.Transport = &transport{cluster: b.cluster, group: g}
	}
	feed := b.newFeeder(l, g, entries)
	if feed != nil {
		config.Feeder = feed
	}
	node, err := replicate.New(config)
	if err != nil {
		return nil, nil, fmt.Errorf("group %d: %w", g, err)
	}
	l.order = durable{node}
	keep := &keeper{
		log: b.log, group: g, node: node, logger: b.logger, at: from.at, applied: from.at,
		installed: func() {},
	}
	if feed != nil {
		feed.node, keep.pace = node, feed.pace
	}
	if b.cluster != nil {
		e, err := b.cluster.newElection(g, l, node, b.gateways[g])
		if err != nil {
			return nil, nil, fmt.Errorf("group %d: %w", g, err)
		}
		e.keep = keep
		b.elections[g] = e
	}
	return node, keep, nil
}

// openGateways makes the ways to all groups, led here or elsewhere.
func (b *Broker) openGateways() {
	open := func(id entry.GroupID, voters int) {
		w := newGateway(id, b.session, voters, b.logger)
		w.timeout, w.doubt, w.judged = b.config.PublishTimeout, b.doubt, b.judged
		w.port = func(name string) func(*wireMessage) bool { return b.port(w, name) }
		w.room = func(name string, size int) bool {
			return name == b.config.Name || b.cluster == nil || b.cluster.room(name, size)
		}
		b.gateways[id] = w
	}
	open(entry.Topology, len(b.members.names))
	for id := range b.members.queueGroups() {
		open(id, b.members.copies)
	}
	for _, name := range b.members.names {
		open(b.members.volatileGroup(name), 1)
	}
}

// port is the way of a gateway to a broker's group.
func (b *Broker) port(w *gateway, name string) func(*wireMessage) bool {
	if name == b.config.Name {
		l, t := b.attendance(w.id)
		if t == nil {
			return nil
		}
		answer := func(m *wireMessage) bool {
			w.receive(name, m)
			return true
		}
		return func(m *wireMessage) bool { return l.call(func() { t.receive(name, answer, m) }) }
	}
	if b.cluster == nil {
		return nil
	}
	return func(m *wireMessage) bool { return b.cluster.sendTo(name, toLeader, m) }
}

// attendance is where a group on this broker serves gateways; nil for a group
// that it does not have.
func (b *Broker) attendance(id entry.GroupID) (*loop, *attendance) {
	if id == entry.Topology {
		return b.topology.loop, b.topology.attendance
	}
	if g := b.groups[id]; g != nil {
		return g.loop, g.attendance
	}
	return nil, nil
}

func (b *Broker) eachAttendance(f func(*loop, *attendance)) {
	f(b.topology.loop, b.topology.attendance)
	for _, g := range b.groups {
		f(g.loop, g.attendance)
	}
}

func (b *Broker) openTopology() error {
	state, from, err := restore(b.log, entry.Topology, topology.New, topology.Restore)
	if err != nil {
		return err
	}
	l := b.makeTopology(state)
	b.topology.node, b.topology.keep, err = b.join(l, entry.Topology, groupLog{b.log}, from)
	if err != nil {
		return err
	}
	b.topology.keep.snapshot, b.topology.keep.restore = b.topology.snapshot, b.topology.restore
	return nil
}

func (b *Broker) makeTopology(state *topology.State) *loop {
	l := newLoop("topology", b.logger, b.fail)
	b.topology = newTopologyGroup(l, state, b.living)
	b.topology.deleted, b.topology.self, b.topology.gateway = b.unregistered, b.config.Name, b.gateways[entry.Topology]
	b.topology.cluster = b.cluster
	return l
}

func (b *Broker) openGroup(id entry.GroupID) error {
	state, from, err := restore(b.log, id, queue.NewMachine, queue.Restore)
	if err != nil {
		return err
	}
	g := b.makeGroup(id, fmt.Sprintf("queues-%d", id), state)
	g.node, g.keep, err = b.join(g.loop, id, groupLog{b.log}, from)
	if err != nil {
		return err
	}
	g.bodies = logBodies{log: b.log, id: id, ring: g.node.Ring()}
	g.keepWith(b)
	return nil
}

// keepWith has the group's keeper write and take its checkpoints.
func (g *group) keepWith(b *Broker) {
	g.keep.snapshot = func() func(io.Writer) error { return g.state.Snapshot().Checkpoint }
	g.keep.restore = g.restore
	if b.cluster != nil && b.cluster.catchup != nil {
		g.arriving = func() bool { return b.cluster.catchup.arriving(g.id) }
	}
	g.keep.installed = g.installed
}

func (b *Broker) makeGroup(id entry.GroupID, name string, state *queue.Machine) *group {
	l := newLoop(name, b.logger, b.fail)
	g := newGroup(id, l, state, b.counts, b.living)
	g.orphaned, g.deadLetters = b.orphaned, b.deadLetters
	g.view, g.self, g.leads = b.view, b.config.Name, b.gateways[id].leads
	g.members = func(name string) bool { return b.members.has(name, id) }
	if b.cluster != nil {
		g.room = b.cluster.room
	}
	l.timeout = b.config.PublishTimeout
	b.groups[id] = g
	return g
}

func (b *Broker) openVolatile() {
	order := newVolatile()
	g := b.makeGroup(b.members.volatileGroup(b.config.Name), "volatile", queue.NewMachine())
	g.order = order
	g.bodies = memoryBodies{order}
}

// settle waits until every group is led, here or elsewhere, and brings the
// registry and the groups that are led here in line.
func (b *Broker) settle(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-b.failedChannel:
			cancel(b.failure)
		case <-ctx.Done():
		}
	}()
	for id, w := range inOrder(b.gateways) {
		if id >= entry.Volatile && id != b.members.volatileGroup(b.config.Name) {
			continue
		}
		if err := w.ready(ctx); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	// In-memory queues of this broker's earlier lives, and of connections
	// that ended with them.
	if _, err := b.changeTopology(ctx, topology.AppendDeleteVolatile(takeOps(), b.config.Name, b.boot)); err != nil {
		return err
	}
	if b.cluster != nil {
		// The sweeper brings them in line: others may be declaring queues.
		if err := b.awaitMirrors(ctx); err != nil {
			return err
		}
		return b.awaitVote(ctx)
	}
	for _, g := range inOrder(b.groups) {
		if g.node != nil {
			if _, err := b.reconcile(ctx, g, nil); err != nil {
				return fmt.Errorf("group %d: %w", g.id, err)
			}
		}
	}
	return nil
}

// awaitMirrors waits until the groups' copies here have all that their leaders
// have: clients would wait for bodies that are still on their way.
func (b *Broker) awaitMirrors(ctx context.Context) error {
	for _, g := range inOrder(b.groups) {
		if g.node == nil {
			continue
		}
		o, err := b.gateways[g.id].do(ctx, takeOps())
		if err != nil {
			return fmt.Errorf("group %d: %w", g.id, err)
		}
		for g.awaitApplied(o.index) != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("group %d: %w", g.id, context.Cause(ctx))
			}
		}
	}
	return nil
}

// bury deletes what was in the memory of a broker that stays away.
func (b *Broker) bury(name string) {
	timer := time.NewTimer(buryAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.context.Done():
		return
	}
	if b.cluster.trusted(name) {
		return
	}
	ctx, cancel := context.WithTimeout(b.context, operationTimeout)
	defer cancel()
	if _, err := b.changeTopology(ctx, topology.AppendDeleteVolatile(takeOps(), name, 0)); err != nil {
		b.logger.Warn("in-memory queues of a broker that is gone stay", "broker", name, "err", err)
	}
}

// tend lets gateways try again, and gives up what waited for too long.
func (b *Broker) tend() {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.doubt.stopped():
			b.logger.Warn("the broker stood still: its deliveries wait until their leaders have been asked")
		case <-b.context.Done():
			return
		}
		for _, w := range b.gateways {
			w.tick()
		}
	}
}

// judged has connections look again at deliveries that were doubtful.
func (b *Broker) judged() {
	if b.ready.Load() {
		b.front.connections.judged()
	}
}

// oldestWrite is since when the log's oldest write waits for its fsync; zero
// when none does.
func (b *Broker) oldestWrite() time.Time {
	oldest, _ := b.pending()
	return oldest
}
