package broker

import (
	"context"
	"slices"
	"sync"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

func (s source) Queues() []admin.Queue {
	var records []*topology.Queue
	s.topology(func(state *topology.State) { records = state.AllQueues() })
	return s.describe(records)
}

func (s source) Queue(vhost, name string) (admin.Queue, []admin.Consumer, error) {
	var record *topology.Queue
	s.topology(func(state *topology.State) { record = state.Queue(vhost, name) })
	if record == nil {
		return admin.Queue{}, nil, admin.ErrNotFound
	}
	return s.describe([]*topology.Queue{record})[0], s.b.front.consumersOf(record.ID), nil
}

// describe adds the counts of each queue, asking all groups at once, each once.
func (s source) describe(records []*topology.Queue) []admin.Queue {
	if len(records) == 0 {
		return nil // The broker may be starting.
	}
	queues := make([]admin.Queue, len(records))
	byGroup := make(map[entry.GroupID][]int)
	for i, q := range records {
		byGroup[q.Group] = append(byGroup[q.Group], i)
		queues[i] = admin.Queue{
			Vhost: q.Vhost, Name: q.Name, Durable: q.Durable, Exclusive: q.Exclusive, AutoDelete: q.AutoDelete,
			Arguments: q.Arguments, Type: q.Type, AckQuorum: q.AckQuorum, Group: uint32(q.Group),
			Owner: s.b.front.ownerName(q.Owner),
		}
	}
	living := s.b.living()
	var asking sync.WaitGroup
	for id, places := range byGroup {
		leader, members := s.home(id)
		state := stateOf(leader, members, living)
		ids := make([]entry.QueueID, len(places))
		for i, place := range places {
			ids[i] = records[place].ID
			q := &queues[place]
			q.Node, q.State, q.Members = leader, state, slices.Clone(members)
		}
		asking.Go(func() {
			for i, c := range s.counts(id, ids, leader, slices.Contains(living, leader)) {
				q := &queues[places[i]]
				q.Ready, q.Unacked, q.Consumers = c.ready, c.unacked, c.consumers
				q.ReadyBytes, q.UnackedBytes = splitBytes(c)
				q.Counters = admin.Counters{
					Publish: c.published, Confirm: c.published, Deliver: c.delivered, DeliverNoAck: c.deliveredNoAck,
					Redeliver: c.redelivered, Get: c.got, Ack: c.acked,
				}
			}
		})
	}
	asking.Wait()
	return queues
}

// home is who leads a group, or did last, and who has a copy of it.
func (s source) home(id entry.GroupID) (leader string, members []string) {
	members = s.b.members.of(id)
	if id >= entry.Volatile && len(members) > 0 {
		return members[0], members
	}
	if w := s.b.gateways[id]; w != nil {
		leader = w.leader()
	}
	return leader, members
}

// stateOf is a queue's state in RabbitMQ's words.
func stateOf(leader string, members, living []string) string {
	if slices.Contains(living, leader) {
		return "running"
	}
	alive := 0
	for _, name := range members {
		if slices.Contains(living, name) {
			alive++
		}
	}
	if len(members) > 1 && alive <= len(members)/2 {
		return "minority"
	}
	return "down"
}

// counts asks a group's leader for the counts of queues. Where it does not
// answer, the own copy tells how many messages there are, but not who has them.
// It returns nil when nobody knows.
func (s source) counts(id entry.GroupID, ids []entry.QueueID, leader string, up bool) []queueCounts {
	if w := s.b.gateways[id]; w != nil && up && leader != s.b.config.Name {
		ctx, cancel := context.WithTimeout(s.b.context, answerTime)
		defer cancel()
		if counts, err := w.countNow(ctx, ids); err == nil {
			return counts
		}
	}
	g := s.b.groups[id]
	if g == nil {
		return nil
	}
	counts, _ := asked(g.loop, func() []queueCounts {
		counts := make([]queueCounts, len(ids))
		for i, q := range ids {
			counts[i] = g.count(q)
		}
		return counts
	})
	return counts
}

// splitBytes divides a queue's bytes between ready and unacked messages by
// their numbers: the sizes are not kept apart.
func splitBytes(c queueCounts) (ready, unacked uint64) {
	if c.ready+c.unacked == 0 {
		return 0, 0
	}
	ready = uint64(float64(c.bytes) * float64(c.ready) / float64(c.ready+c.unacked))
	return ready, c.bytes - ready
}
