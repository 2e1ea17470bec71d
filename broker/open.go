package broker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// ringBytes is how much of a group's recent entries stays in memory: enough
// that consumers who keep up never read the disk.
const ringBytes = 32 << 20

// restore reads a group's newest checkpoint with read. The position is zero
// when there is none.
func restore[T any](l *log.Log, g entry.GroupID, fresh func() T, read func(io.Reader) (T, error)) (T, entry.Position, error) {
	at, r, err := l.OpenCheckpoint(g)
	if errors.Is(err, log.ErrNoCheckpoint) {
		return fresh(), entry.Position{}, nil
	}
	var none T
	if err != nil {
		return none, at, err
	}
	defer r.Close()
	state, err := read(r)
	if err != nil {
		return none, at, fmt.Errorf("checkpoint of group %d at %v: %w", g, at, err)
	}
	return state, at, nil
}

// join makes a durable group's raft node, and the keeper of its checkpoints.
func (b *Broker) join(l *loop, g entry.GroupID, at entry.Position) (*replicate.Node, *keeper, error) {
	id := b.log.Identity()
	node, err := replicate.New(replicate.Config{
		Group: g, ID: id, Voters: []uint64{id}, Log: groupLog{b.log}, Notify: l.notify,
		Applied: at, RingBytes: ringBytes, Logger: b.logger,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("group %d: %w", g, err)
	}
	l.order = durable{node}
	return node, &keeper{log: b.log, group: g, node: node, logger: b.logger, at: at, applied: at}, nil
}

func (b *Broker) openTopology() error {
	state, at, err := restore(b.log, entry.Topology, topology.New, topology.Restore)
	if err != nil {
		return err
	}
	l := newLoop("topology", b.logger, b.session, b.fail)
	b.topology = newTopologyGroup(l, state)
	b.topology.deleted = b.unregistered
	b.topology.node, b.topology.keep, err = b.join(l, entry.Topology, at)
	if err != nil {
		return err
	}
	b.topology.keep.snapshot = b.topology.snapshot
	return nil
}

func (b *Broker) openGroup(id entry.GroupID) error {
	state, at, err := restore(b.log, id, queue.NewMachine, queue.Restore)
	if err != nil {
		return err
	}
	l := newLoop(fmt.Sprintf("queues-%d", id), b.logger, b.session, b.fail)
	g := newGroup(id, l, state, b.counts)
	g.orphaned, g.deadLetters = b.orphaned, b.deadLetters
	g.node, g.keep, err = b.join(l, id, at)
	if err != nil {
		return err
	}
	g.keep.snapshot = func() func(io.Writer) error { return g.state.Snapshot().Checkpoint }
	g.bodies = logBodies{log: b.log, id: id, ring: g.node.Ring()}
	b.groups[id] = g
	return nil
}

func (b *Broker) openVolatile() {
	order := newVolatile()
	l := newLoop("volatile", b.logger, b.session, b.fail)
	l.order = order
	g := newGroup(entry.Volatile, l, queue.NewMachine(), b.counts)
	g.orphaned, g.deadLetters = b.orphaned, b.deadLetters
	g.bodies = memoryBodies{order}
	b.groups[entry.Volatile] = g
}

// lead waits until every group is led here and has applied its log, and brings
// the registry and the groups in line.
func (b *Broker) lead(ctx context.Context) error {
	wait := func(l *loop) error {
		select {
		case <-l.leading:
			return nil
		case <-l.done:
			return l.takesNothing()
		case <-b.failedChannel:
			return b.failure
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(b.topology.loop); err != nil {
		return err
	}
	for _, g := range b.groups {
		if err := wait(g.loop); err != nil {
			return err
		}
	}
	// In-memory queues of this broker's earlier lives, and of connections
	// that ended with them.
	if _, err := b.changeTopology(ctx, topology.AppendDeleteVolatile(takeOps(), b.config.Name, b.boot)); err != nil {
		return err
	}
	for _, g := range b.groups {
		if g.id != entry.Volatile {
			if err := b.reconcile(ctx, g); err != nil {
				return fmt.Errorf("group %d: %w", g.id, err)
			}
		}
	}
	return nil
}
