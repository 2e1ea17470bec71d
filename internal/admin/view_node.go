package admin

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"time"
)

// compatibleVersion is the RabbitMQ whose API this one follows: tools choose
// what to call by it.
const compatibleVersion = "3.13.7"

type overviewView struct {
	ManagementVersion string         `json:"management_version"`
	RabbitMQVersion   string         `json:"rabbitmq_version"`
	ProductName       string         `json:"product_name"`
	ProductVersion    string         `json:"product_version"`
	ClusterName       string         `json:"cluster_name"`
	Node              string         `json:"node"`
	RatesMode         string         `json:"rates_mode"`
	ExchangeTypes     []nameView     `json:"exchange_types"`
	MessageStats      messageStats   `json:"message_stats"`
	ChurnRates        churnView      `json:"churn_rates"`
	QueueTotals       queueTotals    `json:"queue_totals"`
	ObjectTotals      objectTotals   `json:"object_totals"`
	Listeners         []listenerView `json:"listeners"`
	Contexts          []contextView  `json:"contexts"`
}

type nameView struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
}

type churnView struct {
	ConnectionsOpened uint64 `json:"connection_created"`
	ConnectionsClosed uint64 `json:"connection_closed"`
	ChannelsOpened    uint64 `json:"channel_created"`
	ChannelsClosed    uint64 `json:"channel_closed"`
	QueuesDeclared    uint64 `json:"queue_declared"`
	QueuesCreated     uint64 `json:"queue_created"`
	QueuesDeleted     uint64 `json:"queue_deleted"`
}

type queueTotals struct {
	Messages uint64 `json:"messages"`
	Ready    uint64 `json:"messages_ready"`
	Unacked  uint64 `json:"messages_unacknowledged"`
	Bytes    uint64 `json:"message_bytes"`
}

type objectTotals struct {
	Channels    int `json:"channels"`
	Connections int `json:"connections"`
	Consumers   int `json:"consumers"`
	Exchanges   int `json:"exchanges"`
	Queues      int `json:"queues"`
}

type listenerView struct {
	Node     string `json:"node"`
	Protocol string `json:"protocol"`
	Address  string `json:"ip_address"`
	Port     int    `json:"port"`
}

type contextView struct {
	Node        string `json:"node"`
	Description string `json:"description"`
	Path        string `json:"path"`
	Address     string `json:"ip"`
	Port        string `json:"port"`
}

func newListenerView(node string, l Listener) listenerView {
	v := listenerView{Node: node, Protocol: l.Protocol}
	if l.Address == nil {
		return v
	}
	host, port, err := net.SplitHostPort(l.Address.String())
	if err != nil {
		v.Address = l.Address.String()
		return v
	}
	v.Address = host
	v.Port, _ = strconv.Atoi(port) // A bound listener's port is a number.
	return v
}

type nodeView struct {
	Name          string      `json:"name"`
	Type          string      `json:"type"`
	Running       bool        `json:"running"`
	Processors    int         `json:"processors"`
	Uptime        int64       `json:"uptime"` // ms
	PID           string      `json:"os_pid"`
	MemoryUsed    int64       `json:"mem_used"`
	MemoryLimit   int64       `json:"mem_limit"`
	MemoryAlarm   bool        `json:"mem_alarm"`
	DiskFree      int64       `json:"disk_free"`
	DiskFreeLimit int64       `json:"disk_free_limit"`
	DiskAlarm     bool        `json:"disk_free_alarm"`
	FilesUsed     int         `json:"fd_used"`
	FilesTotal    int         `json:"fd_total"`
	SocketsUsed   int         `json:"sockets_used"`
	DataDirectory string      `json:"db_dir"`
	Partitions    []string    `json:"partitions"`
	Version       string      `json:"version"` // MirrorMQ's
	Goroutines    int         `json:"goroutines"`
	Log           logView     `json:"log"`    // MirrorMQ's
	Groups        []groupView `json:"groups"` // MirrorMQ's
}

// peerView is all that a broker knows of another one's inside.
type peerView struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Running bool   `json:"running"`
}

func newPeerView(b *Broker) peerView { return peerView{b.Name, "disc", b.Up} }

type logView struct {
	DiskBytes   int64  `json:"disk_bytes"`
	LiveBytes   int64  `json:"live_bytes"`
	Segments    int    `json:"segments"`
	Compactions uint64 `json:"compactions"`
	Fsyncs      uint64 `json:"fsyncs"`
}

type groupView struct {
	ID      uint32 `json:"id"`
	Role    string `json:"role"`
	Leader  string `json:"leader"`
	Term    uint64 `json:"term"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Last    uint64 `json:"last"`
}

func (s *Server) nodeView(n *Node) nodeView {
	totals, stats := s.config.Source.Totals(), s.config.Source.Log()
	v := nodeView{
		Name: n.Name, Type: "disc", Running: s.config.Source.Healthy() == nil, Processors: runtime.GOMAXPROCS(0),
		Uptime: time.Since(n.Started).Milliseconds(), PID: strconv.Itoa(os.Getpid()),
		MemoryUsed: n.MemoryUsed, MemoryLimit: n.MemoryLimit, MemoryAlarm: n.MemoryAlarm,
		DiskFree: n.DiskFree, DiskFreeLimit: n.DiskFreeLimit, DiskAlarm: n.DiskAlarm,
		FilesUsed: n.FilesOpen, FilesTotal: n.FilesMax, SocketsUsed: totals.Connections,
		DataDirectory: n.DataDirectory, Partitions: []string{}, Version: s.config.Version, Goroutines: runtime.NumGoroutine(),
		Log:    logView{stats.DiskBytes, stats.LiveBytes, stats.Segments, stats.Compactions, s.config.Metrics.fsyncs.Load()},
		Groups: views(s.groups(), newGroupView),
	}
	return v
}

func newGroupView(g *Group) groupView {
	return groupView{g.ID, g.Role, g.Leader, g.Term, g.Commit, g.Applied, g.Last}
}

type vhostView struct {
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	Tags         []string          `json:"tags"`
	Tracing      bool              `json:"tracing"`
	Messages     uint64            `json:"messages"`
	Ready        uint64            `json:"messages_ready"`
	Unacked      uint64            `json:"messages_unacknowledged"`
	ClusterState map[string]string `json:"cluster_state"`
}
