package broker

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/replicate"
)

// answerTime is how long the HTTP side waits for a group's loop: it answers in
// microseconds unless the broker is in trouble, and then the page must show
// that rather than hang.
const answerTime = time.Second

// source is what the HTTP side sees of a broker.
// statusOf is a raft node.
type statusOf interface{ Status() replicate.Status }

type source struct{ b *Broker }

var errStarting = errors.New("the log is being applied")

func (s source) Authenticate(user, password string, remote net.Addr) error {
	if !s.b.ready.Load() {
		return errStarting
	}
	return s.b.authenticate(user, password, remote)
}

func (s source) Healthy() error {
	if isClosed(s.b.failedChannel) {
		return s.b.failure
	}
	return nil
}

func (s source) Ready() error {
	if err := s.Healthy(); err != nil {
		return err
	}
	if !s.b.ready.Load() {
		return errStarting
	}
	return nil
}

func (s source) Node() admin.Node {
	b := s.b
	node := admin.Node{
		Name: b.config.Name, Started: b.started, DataDirectory: b.config.Data,
		MemoryUsed: b.alarms.usedMemory.Load(), MemoryLimit: b.config.MemoryLimit, MemoryAlarm: b.alarms.memory.Load(),
		DiskFree: b.alarms.freeDisk.Load(), DiskFreeLimit: b.config.DiskFreeLimit, DiskAlarm: b.alarms.disk.Load(),
	}
	for _, l := range []struct {
		protocol string
		listener net.Listener
	}{{"amqp", b.amqpListener}, {"amqp/ssl", b.amqpsListener}, {"http", b.httpListener}} {
		if l.listener != nil {
			node.Listeners = append(node.Listeners, admin.Listener{Protocol: l.protocol, Address: l.listener.Addr()})
		}
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		node.FilesOpen = len(open)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		node.FilesMax = int(limit.Cur)
	}
	return node
}

func (s source) Log() admin.LogStats {
	stats := s.b.log.Stats()
	return admin.LogStats{DiskBytes: stats.DiskBytes, LiveBytes: stats.LiveBytes, Segments: stats.Segments}
}

func (s source) Groups() []admin.Group {
	if !s.b.ready.Load() {
		return nil
	}
	loops := []*loop{s.b.topology.loop}
	nodes := []statusOf{s.b.topology.node}
	ids := []entry.GroupID{entry.Topology}
	for id, g := range s.b.groups {
		if g.node != nil {
			loops, nodes, ids = append(loops, g.loop), append(nodes, g.node), append(ids, id)
		}
	}
	groups := make([]admin.Group, 0, len(loops))
	for i, l := range loops {
		status, ok := asked(l, nodes[i].Status)
		if !ok {
			continue
		}
		g := admin.Group{
			ID: uint32(ids[i]), Role: status.Role.String(), Term: status.Term,
			Commit: status.Commit, Applied: status.Applied.Index, Last: status.Last.Index,
		}
		if status.Leader == s.b.log.Identity() {
			g.Leader = s.b.config.Name
		}
		groups = append(groups, g)
	}
	return groups
}

// asked runs f on the loop's goroutine and returns what it said, false when it
// did not in time.
func asked[T any](l *loop, f func() T) (T, bool) {
	answered := make(chan T, 1)
	var none T
	if !l.call(func() { answered <- f() }) {
		return none, false
	}
	select {
	case answer := <-answered:
		return answer, true
	case <-time.After(answerTime):
		return none, false
	}
}

func (s source) Vhosts() (vhosts []admin.Vhost) {
	s.topology(func(state *topology.State) {
		for _, v := range state.Vhosts() {
			vhosts = append(vhosts, admin.Vhost{Name: v.Name})
		}
	})
	return vhosts
}

func (s source) topology(f func(*topology.State)) {
	if s.b.ready.Load() {
		s.b.view(f)
	}
}

func (s source) Queues() []admin.Queue {
	var records []*topology.Queue
	s.topology(func(state *topology.State) { records = state.AllQueues() })
	return s.describe(records)
}

// describe adds the counts of each queue, asking each group once.
func (s source) describe(records []*topology.Queue) []admin.Queue {
	ctx, cancel := context.WithTimeout(s.b.context, answerTime)
	defer cancel()
	queues := make([]admin.Queue, len(records))
	byGroup := make(map[entry.GroupID][]int)
	for i, q := range records {
		byGroup[q.Group] = append(byGroup[q.Group], i)
		queues[i] = admin.Queue{
			Vhost: q.Vhost, Name: q.Name, Durable: q.Durable, Exclusive: q.Exclusive, AutoDelete: q.AutoDelete,
			Arguments: q.Arguments, Type: q.Type, AckQuorum: q.AckQuorum, Group: uint32(q.Group),
			Node: s.b.config.Name, Members: []string{s.b.config.Name}, Owner: s.b.front.ownerName(q.Owner), State: "running",
		}
	}
	for id, places := range byGroup {
		g := s.b.groups[id]
		if g == nil {
			continue
		}
		ids := make([]entry.QueueID, len(places))
		for i, place := range places {
			ids[i] = records[place].ID
		}
		answered := make(chan []queueCounts, 1)
		g.counted(ids, func(c []queueCounts) { answered <- c })
		select {
		case counts := <-answered:
			for i, c := range counts {
				q := &queues[places[i]]
				q.Ready, q.Unacked, q.Consumers = c.ready, c.unacked, c.consumers
				q.ReadyBytes, q.UnackedBytes = splitBytes(c)
			}
		case <-ctx.Done():
		}
	}
	return queues
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

func (s source) Queue(vhost, name string) (admin.Queue, []admin.Consumer, error) {
	var record *topology.Queue
	s.topology(func(state *topology.State) { record = state.Queue(vhost, name) })
	if record == nil {
		return admin.Queue{}, nil, admin.ErrNotFound
	}
	return s.describe([]*topology.Queue{record})[0], s.b.front.consumersOf(record.ID), nil
}

func (s source) Exchanges() (exchanges []admin.Exchange) {
	s.topology(func(state *topology.State) {
		for _, v := range state.Vhosts() {
			for _, x := range state.Exchanges(v.Name) {
				exchanges = append(exchanges, admin.Exchange{
					Vhost: x.Vhost, Name: x.Name, Kind: x.Kind, Durable: x.Durable,
					AutoDelete: x.AutoDelete, Internal: x.Internal, Arguments: x.Arguments,
				})
			}
		}
	})
	return exchanges
}

func (s source) UserTags(user string) (tags []string) {
	s.topology(func(state *topology.State) {
		if u := state.User(user); u != nil {
			tags = slices.Clone(u.Tags)
		}
	})
	return tags
}
