package broker

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// answerTime is how long the HTTP side waits for a group's loop: it answers in
// microseconds unless the broker is in trouble, and then the page must show
// that rather than hang.
const answerTime = time.Second

// source is what the HTTP side sees of a broker.
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
