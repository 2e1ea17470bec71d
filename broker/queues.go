package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// declareQueue registers a queue that does not exist yet.
//
// The queue is made in its group before it is registered, so that whoever can
// route to it finds it there: a publish that comes before would be dropped. A
// crash in between leaves a queue in the group that nobody knows, which
// reconcile removes at the next start.
func (b *Broker) declareQueue(ctx context.Context, wanted topology.Queue) (*topology.Queue, bool, error) {
	if q := b.findQueue(wanted.Vhost, wanted.Name); q != nil {
		return q, false, nil
	}
	wanted.ID = entry.QueueID(randomID())
	group, placed := b.place(&wanted)
	defer placed()
	wanted.Group = group
	if wanted.Group >= entry.Volatile {
		wanted.Broker, wanted.Boot = b.config.Name, b.boot
	}
	g := b.group(wanted.Group)
	ops := queue.AppendCreate(takeOps(), wanted.ID, settingsOf(&wanted))
	if _, err := g.do(ctx, ops); err != nil {
		return nil, false, err
	}
	result, err := b.register(ctx, &wanted)
	if err != nil {
		return nil, false, err
	}
	if result.Code == topology.OK {
		b.counts.queuesCreated.Add(1)
		return result.Queue, true, nil
	}
	// Somebody else was first, or its vhost is gone.
	g.submit(&submission{ops: queue.AppendDelete(takeOps(), wanted.ID, false)})
	if refusal := result.Refusal(wanted.Vhost); refusal != nil {
		return nil, false, refusal
	}
	return result.Queue, false, nil
}

// register enters a queue into the topology.
func (b *Broker) register(ctx context.Context, wanted *topology.Queue) (topology.OpResult, error) {
	ops, err := topology.AppendDeclareQueue(takeOps(), wanted)
	if err != nil {
		return topology.OpResult{}, err
	}
	results, err := b.changeTopology(ctx, ops)
	if err != nil {
		return topology.OpResult{}, err
	}
	if len(results) == 0 {
		// It was applied in an earlier entry, whose result went astray with the
		// leader: the state says.
		results = []topology.OpResult{{Code: topology.Exists}}
	}
	result := results[0]
	if result.Queue == nil {
		result.Queue = b.findQueue(wanted.Vhost, wanted.Name)
	}
	if result.Code == topology.Exists && result.Queue != nil && result.Queue.ID == wanted.ID {
		result.Code = topology.OK
	}
	if result.Queue == nil && result.Refusal(wanted.Vhost) == nil {
		return result, topology.NoSuchQueue(wanted.Vhost, wanted.Name) // It was deleted at once.
	}
	return result, nil
}

func (b *Broker) findQueue(vhost, name string) (q *topology.Queue) {
	b.view(func(s *topology.State) { q = s.Queue(vhost, name) })
	return q
}

// deleteQueue removes q from its group and then from the registry: a crash in
// between leaves an empty queue, whose deletion nobody was told of. What counts
// as empty, and as deleted, is ready messages, as in RabbitMQ.
func (b *Broker) deleteQueue(ctx context.Context, q *topology.Queue, ifUnused, ifEmpty bool) (uint64, error) {
	g := b.group(q.Group)
	if g == nil {
		return 0, nil
	}
	counts, err := b.counted(ctx, q)
	switch {
	case err != nil:
		return 0, err
	case ifUnused && counts.consumers > 0:
		return 0, topology.QueueInUse(q.Vhost, q.Name)
	case ifEmpty && counts.ready > 0:
		return 0, topology.QueueNotEmpty(q.Vhost, q.Name)
	}
	if err := g.awaitDeaths(ctx, q.ID); err != nil {
		return 0, err
	}
	if _, err := g.do(ctx, queue.AppendDelete(takeOps(), q.ID, false)); err != nil {
		return 0, err
	}
	_, err = b.changeTopology(ctx, topology.AppendDeleteQueue(takeOps(), q.Vhost, q.Name, q.ID))
	return counts.ready, err
}

// purgeQueue removes the ready messages of q and returns how many they were.
func (b *Broker) purgeQueue(ctx context.Context, q *topology.Queue) (uint64, error) {
	g := b.group(q.Group)
	if g == nil {
		return 0, nil
	}
	return g.purge(ctx, q.ID)
}

func (b *Broker) queueCounts(ctx context.Context, q *topology.Queue) (ready uint64, consumers int, err error) {
	counts, err := b.counted(ctx, q)
	return counts.ready, counts.consumers, err
}

func (b *Broker) counted(ctx context.Context, q *topology.Queue) (queueCounts, error) {
	g := b.group(q.Group)
	if g == nil {
		return queueCounts{}, nil
	}
	return g.count(ctx, q.ID)
}

// orphaned deletes an auto-delete queue whose last consumer went.
func (b *Broker) orphaned(id entry.QueueID, then func()) {
	spawned := b.spawn(func() {
		defer then()
		var q *topology.Queue
		b.view(func(s *topology.State) { q = s.QueueByID(id) })
		if q == nil || !q.AutoDelete {
			return
		}
		var precondition *amqp.Error
		if _, err := b.deleteQueue(b.context, q, true, false); err != nil && !errors.As(err, &precondition) {
			b.logger.Warn("auto-delete queue stays", "queue", q.Name, "vhost", q.Vhost, "err", err)
		}
	})
	if !spawned {
		then() // The broker stops, and the queue goes with it.
	}
}

// unregistered drops the contents of queues that left the registry, where this
// broker leads their group: deleted with their vhost, connection or broker, or
// (then there is nothing left to drop) by deleteQueue.
func (b *Broker) unregistered(queues []*topology.Queue) {
	for _, q := range queues {
		b.counts.queuesDeleted.Add(1)
		if g := b.groups[q.Group]; g != nil {
			g.discard(q.ID)
		}
	}
}

// discard deletes a queue from the group if it is there and led here.
func (g *group) discard(q entry.QueueID) {
	g.call(func() {
		g.afterDeaths(q, func() {
			if _, there := g.state.Queue(q); there && g.term != 0 {
				g.own = queue.AppendDelete(g.own, q, false)
			}
		})
	})
}

// reconcile makes a group's queues and the registry agree after a crash: what
// only the group has was never announced, what only the registry has was
// deleted but not yet reported as such, and is there again, empty. strangers
// are queues that are to be removed only if they are among them, nil for all:
// somebody may be declaring a queue right now. It returns those that it left.
func (b *Broker) reconcile(ctx context.Context, g *group, strangers map[entry.QueueID]bool) (left map[entry.QueueID]bool, err error) {
	there, ok := asked(g.loop, g.state.Queues)
	if !ok {
		return nil, errNotLeader
	}
	// The registry here may be behind, and would be for as long as its leader
	// can't be reached: what it does not have yet is not a stranger.
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	if _, err := b.changeTopology(ctx, takeOps()); err != nil {
		return strangers, fmt.Errorf("the registry is not known to be up to date: %w", err)
	}
	registered := make(map[entry.QueueID]*topology.Queue)
	b.view(func(s *topology.State) {
		for _, q := range s.AllQueues() {
			if q.Group == g.id {
				registered[q.ID] = q
			}
		}
	})
	ops := takeOps()
	left = make(map[entry.QueueID]bool)
	for _, id := range there {
		switch {
		case registered[id] != nil:
			delete(registered, id)
		case strangers == nil || strangers[id]:
			ops = queue.AppendDelete(ops, id, false)
			b.logger.Info("removing a queue that was never announced", "id", id, "group", g.id)
		default:
			left[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(registered)) {
		q := registered[id]
		ops = queue.AppendCreate(ops, q.ID, settingsOf(q))
		b.logger.Info("making a registered queue again", "queue", q.Name, "vhost", q.Vhost, "group", g.id)
	}
	if len(ops) == 0 {
		return left, nil
	}
	_, err = b.group(g.id).do(ctx, ops)
	return left, err
}

// sweepInterval is longer than a declare may take: a queue that two sweeps in a
// row find in its group and not in the registry is nobody's.
const sweepInterval = 2 * operationTimeout

// sweep reconciles the groups that are led here, again and again.
func (b *Broker) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	strangers := make(map[entry.GroupID]map[entry.QueueID]bool)
	for {
		select {
		case <-ticker.C:
		case <-b.context.Done():
			return
		}
		for id, g := range b.groups {
			if led, ok := asked(g.loop, func() bool { return g.term != 0 }); g.node == nil || !ok || !led {
				delete(strangers, id)
				continue
			}
			if strangers[id] == nil {
				strangers[id] = make(map[entry.QueueID]bool)
			}
			left, err := b.reconcile(b.context, g, strangers[id])
			if err != nil {
				b.logger.Debug("sweep", "group", id, "err", err)
			}
			strangers[id] = left
		}
	}
}
