package admin

import (
	"context"
	"errors"
	"net"
	"time"
)

// ErrNotFound is what a Source returns for a thing that is not there.
var ErrNotFound = errors.New("admin: not found")

// ErrRefused is what a Source wraps for what can't be done as things are.
var ErrRefused = errors.New("admin: refused")

// Authenticator decides who may use the HTTP side.
type Authenticator interface {
	// Authenticate returns nil if the password is the user's and the user may
	// come from remote (guest may from loopback only). The error's text is for
	// the log, never for the client. It is called once a request, from many
	// goroutines.
	Authenticate(user, password string, remote net.Addr) error
}

// Source is what the HTTP side shows and can do. Methods are called from many
// goroutines at once and must not wait for the disk, nor for other brokers
// longer than a moment; the slices they return belong to the caller. Lists need
// no order: admin sorts them.
type Source interface {
	// Healthy is nil while the broker works; else it says what is broken for
	// good (a failed disk write), so that a supervisor restarts it.
	Healthy() error
	// Ready is nil while clients can be served; else it says what it waits for.
	Ready() error

	Node() Node
	Totals() Totals
	Log() LogStats
	Groups() []Group
	// Cluster is the brokers and the changes of leaders as this one sees them.
	Cluster() Cluster
	// Transfer has a broker lead a group, and returns when it does. ErrNotFound
	// if there is no such group, ErrRefused if it can't be; another error says
	// that it did not come to it in time.
	Transfer(ctx context.Context, group uint32, to string) error
	// Replace lets a broker that has lost its data take part again, as a new
	// member, and returns when it is one of all groups. ErrNotFound and ErrRefused
	// as for Transfer.
	Replace(ctx context.Context, broker string) error

	Vhosts() []Vhost
	Queues() []Queue
	// Queue returns one queue and its consumers.
	Queue(vhost, name string) (Queue, []Consumer, error)
	Exchanges() []Exchange
	Bindings() []Binding

	Connections() []Connection
	// CloseConnection closes the connection of that name with 320
	// CONNECTION_FORCED and the reason as its text. ErrNotFound if there is none.
	CloseConnection(name, reason string) error
	Channels() []Channel

	// UserTags returns a user's tags ("administrator", …), nil if it has none.
	UserTags(user string) []string
}

// Node is one broker.
type Node struct {
	Name      string
	Started   time.Time
	Listeners []Listener

	MemoryUsed    int64 // bytes
	MemoryLimit   int64 // bytes; 0 is no limit
	MemoryAlarm   bool
	DiskFree      int64 // bytes left where the data directory lies
	DiskFreeLimit int64 // bytes; 0 is no limit
	DiskAlarm     bool
	DataDirectory string

	FilesOpen int // file descriptors in use; 0 if unknown
	FilesMax  int // limit of file descriptors; 0 if unknown
}

// Listener is an address that the broker accepts connections on.
type Listener struct {
	Protocol string // "amqp", "amqp/ssl", "http"
	Address  net.Addr
}

// Counters count messages since the broker's start.
type Counters struct {
	Publish          uint64 // messages published
	Confirm          uint64 // messages confirmed to their publishers
	ReturnUnroutable uint64 // mandatory messages returned
	DropUnroutable   uint64 // other messages that had nowhere to go
	Deliver          uint64 // deliveries to consumers that acknowledge
	DeliverNoAck     uint64 // deliveries to consumers that do not
	Get              uint64 // basic.get with acknowledgement
	GetNoAck         uint64 // basic.get without
	GetEmpty         uint64 // basic.get that found nothing
	Redeliver        uint64 // of Deliver and Get, those that were repeated
	Ack              uint64 // messages acknowledged
}

// DeliverGet is the number of messages that left for a client in any way.
func (c Counters) DeliverGet() uint64 { return c.Deliver + c.DeliverNoAck + c.Get + c.GetNoAck }

// Totals are the counts of the whole broker.
type Totals struct {
	Counters

	Duplicates uint64 // publishes that their producer had published before
	TooOld     uint64 // publishes refused for being too far below their producer's highest

	ConnectionsOpened, ConnectionsClosed          uint64
	ChannelsOpened, ChannelsClosed                uint64
	QueuesDeclared, QueuesCreated, QueuesDeleted  uint64
	Connections, Channels, Consumers              int
	Vhosts, Exchanges, Queues, Bindings           int
	MessagesReady, MessagesUnacked, MessagesBytes uint64
}

// LogStats describe the write-ahead log.
type LogStats struct {
	DiskBytes   int64 // bytes of all segments on disk
	LiveBytes   int64 // of those, bytes of entries still needed
	Segments    int
	Compactions uint64
}

// Vhost is a virtual host.
type Vhost struct {
	Name        string
	Description string
	Tags        []string
}

// Queue is a queue with its counts.
type Queue struct {
	Vhost, Name                    string
	Durable, Exclusive, AutoDelete bool
	Arguments                      map[string]any
	Type                           string // "classic" or "quorum", as declared
	AckQuorum                      string
	Group                          uint32
	Node                           string   // the broker that leads it, or holds it in memory
	Members                        []string // brokers that hold a copy
	Owner                          string   // connection name of an exclusive queue, else ""
	State                          string   // "running", …
	IdleSince                      time.Time

	Ready, Unacked           uint64 // messages
	ReadyBytes, UnackedBytes uint64 // bytes of their bodies and properties
	Consumers                int
	Counters
}

// Consumer is one consumer of a queue.
type Consumer struct {
	Tag           string
	Channel       string // name of its channel
	ChannelNumber int
	Connection    string // name of its connection
	User          string
	PeerHost      string
	PeerPort      int
	NoAck         bool
	Exclusive     bool
	Prefetch      uint32
	Arguments     map[string]any
}

// Exchange is an exchange.
type Exchange struct {
	Vhost, Name, Kind             string
	Durable, AutoDelete, Internal bool
	Arguments                     map[string]any
	PublishIn, PublishOut         uint64 // messages in, and out to queues and exchanges
}

// Binding leads from an exchange to a queue or to another exchange.
type Binding struct {
	Vhost, Source, Destination string
	ToExchange                 bool
	RoutingKey                 string
	Arguments                  map[string]any
}

// Connection is a client's connection.
type Connection struct {
	Name             string // "127.0.0.1:54084 -> 127.0.0.1:5672"
	Vhost, User      string
	AuthMechanism    string // "PLAIN", …
	State            string // "running", "blocked", "blocking", "closing"
	Host             string // the broker's end
	Port             int
	PeerHost         string // the client's end
	PeerPort         int
	TLSVersion       string // "" without TLS
	TLSCipher        string
	PeerCertificate  string // subject of the client's certificate, "" if it sent none
	ConnectedAt      time.Time
	Heartbeat        time.Duration
	FrameMax         uint32
	ChannelMax       int
	Channels         int
	ClientProperties map[string]any
	BytesIn          uint64
	BytesOut         uint64
	FramesIn         uint64
	FramesOut        uint64
}

// Channel is a channel of a connection.
type Channel struct {
	Name           string // "127.0.0.1:54084 -> 127.0.0.1:5672 (1)"
	Number         int
	Connection     string // name of its connection
	PeerHost       string
	PeerPort       int
	Vhost, User    string
	State          string // "running", "flow", …
	Confirm        bool
	Transactional  bool
	Prefetch       uint32 // of consumers to come
	GlobalPrefetch uint32 // shared by all of the channel's consumers
	Consumers      int
	Unacked        uint64 // messages delivered and not yet acknowledged
	Unconfirmed    uint64 // messages published and not yet confirmed
	Uncommitted    uint64 // messages published in the open transaction
	AcksPending    uint64 // acknowledgements in the open transaction
	IdleSince      time.Time
	Counters
}
