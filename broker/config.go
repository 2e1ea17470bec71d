package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/mirrormq/mirrormq/log"
)

// Limits of what can be configured.
const (
	// MaxMessageSizeLimit is the largest value of Config.MaxMessageSize.
	MaxMessageSizeLimit = 512 << 20
	minFrameMax         = 4096
	maxGroups           = 256
)

// Config says how a broker is to run. The zero value of a field means its
// default; Start validates the whole before it touches anything.
type Config struct {
	// Name is the broker's name in its cluster: letters, digits, '-', '_', '.'
	// and '@'. Default: the host's name.
	Name string
	// Data is the directory of the write-ahead log and all else that the
	// broker keeps. Made when absent. Required.
	Data string
	// AMQP is the address of the AMQP listener. Default 127.0.0.1:5672; "-" for none.
	AMQP string
	// AMQPS is the address of the AMQP listener with TLS. Default none.
	AMQPS string
	// TLSCert and TLSKey are PEM files, required with AMQPS.
	TLSCert, TLSKey string
	// TLSClientCA is a PEM file: when set, clients must show a certificate that
	// it signed.
	TLSClientCA string
	// HTTP is the address of metrics, health and the management API. Default
	// 127.0.0.1:15672; "-" for none.
	HTTP string
	// Fsync is always (default), interval or never: when a write counts as
	// durable. Interval loses up to FsyncInterval, never loses what the
	// operating system had not written, when the machine loses power.
	Fsync         string
	FsyncInterval time.Duration
	// AckQuorum is the ack quorum of queues that have none: leader, majority, all
	// or a number, at most of Copies. The same on all brokers.
	AckQuorum string
	// Groups is the number of queue groups. Default: that of the data directory; a
	// new one's is 3 in a cluster, 1 for a broker alone.
	Groups int
	// Copies is how many brokers of the cluster have a copy of each queue. Default:
	// that of the data directory, a new one's is 3, or all if they are fewer.
	Copies int
	// MaxMessageSize is the largest body that a publisher may send, in bytes.
	// Default 16 MiB, at most 512 MiB.
	MaxMessageSize int64
	// MemoryLimit is the memory in bytes from which publishers are blocked.
	// Default: 40 % of the machine's.
	MemoryLimit int64
	// DiskFreeLimit is the free space in bytes below which publishers are
	// blocked. Default 512 MiB.
	DiskFreeLimit int64
	// Heartbeat is what the broker proposes at tune. Default 60 s.
	Heartbeat time.Duration
	// FrameMax is the largest frame in bytes that is proposed at tune. Default
	// 131072, at least 4096.
	FrameMax int
	// ChannelMax is the largest number of channels of a connection. Default 2047.
	ChannelMax int
	// PublishTimeout is how long a publish waits for a leader and for its ack
	// quorum before it is nacked. Default 30 s.
	PublishTimeout time.Duration
	// Cluster has the names of all brokers of the cluster, this one's too, and
	// the addresses of their backbones. Empty for a broker alone.
	Cluster map[string]string
	// Backbone is the address to listen on for the other brokers. Default: the
	// own one in Cluster.
	Backbone string
	// ClusterSecret is shared by the brokers: who does not know it is kept out.
	ClusterSecret string
	// NATS is the URL of an external NATS cluster to be used as the backbone.
	NATS string
	// Logger takes the broker's events. Default: none.
	Logger *slog.Logger
}

// withDefaults returns c with its zero fields filled in.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	setDefault(&c.AMQP, "127.0.0.1:5672")
	setDefault(&c.HTTP, "127.0.0.1:15672")
	setDefault(&c.Fsync, "always")
	setDefault(&c.FsyncInterval, 100*time.Millisecond)
	setDefault(&c.AckQuorum, "majority")
	setDefault(&c.MaxMessageSize, 16<<20)
	setDefault(&c.MemoryLimit, machineMemory()*2/5)
	setDefault(&c.DiskFreeLimit, 512<<20)
	setDefault(&c.Heartbeat, time.Minute)
	setDefault(&c.PublishTimeout, 30*time.Second)
	setDefault(&c.FrameMax, 131072)
	setDefault(&c.ChannelMax, 2047)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports everything in c that makes no sense, joined into one error.
// Start does so too; it is for callers who want to tell a wrong configuration
// from one that does not work.
func (c Config) Validate() error { return c.withDefaults().validate() }

// validate is Validate for a configuration with its defaults filled in.
func (c Config) validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName(c.Name) {
		refuse("name %q: use letters, digits, '-', '_', '.' and '@', at most 64", c.Name)
	}
	if c.Data == "" {
		refuse("data directory: none given")
	}
	for _, address := range []struct{ flag, value string }{{"amqp", c.AMQP}, {"amqps", c.AMQPS}, {"http", c.HTTP}} {
		if address.value == "" || address.value == "-" {
			continue
		}
		if _, _, err := net.SplitHostPort(address.value); err != nil {
			refuse("%s address %q: %w", address.flag, address.value, err)
		}
	}
	if c.AMQPS != "" && (c.TLSCert == "" || c.TLSKey == "") {
		refuse("amqps needs a certificate and a key")
	}
	if c.AMQPS == "" && (c.TLSCert != "" || c.TLSKey != "" || c.TLSClientCA != "") {
		refuse("a certificate, key or client CA is given, but no amqps address")
	}
	if _, err := fsyncPolicy(c.Fsync); err != nil {
		errs = append(errs, err)
	}
	if c.FsyncInterval < time.Millisecond || c.FsyncInterval > time.Minute {
		refuse("fsync interval %v: from 1ms to 1m", c.FsyncInterval)
	}
	if err := validAckQuorum(c.AckQuorum); err != nil {
		errs = append(errs, err)
	} else if n, _ := strconv.Atoi(c.AckQuorum); n > max(len(c.Cluster), 1) {
		refuse("ack quorum %d: above the %d brokers that there are", n, max(len(c.Cluster), 1))
	}
	if _, in := c.Cluster[c.Name]; len(c.Cluster) > 0 && !in {
		refuse("cluster: this broker, %q, is not in it", c.Name)
	}
	if len(c.Cluster) == 0 && (c.Backbone != "" || c.NATS != "") {
		refuse("a backbone address or NATS URL is given, but no cluster")
	}
	if c.Groups < 0 || c.Groups > maxGroups {
		refuse("groups %d: from 1 to %d", c.Groups, maxGroups)
	}
	switch brokers := len(c.Cluster); {
	case brokers == 0 && c.Copies > 1:
		refuse("copies %d: a broker alone has one", c.Copies)
	case c.Copies < 0 || c.Copies > max(brokers, 1):
		refuse("copies %d: from 1 to the %d brokers that there are", c.Copies, brokers)
	}
	if c.MaxMessageSize < 1 || c.MaxMessageSize > MaxMessageSizeLimit {
		refuse("max message size %d: from 1 to %d", c.MaxMessageSize, MaxMessageSizeLimit)
	}
	if c.MemoryLimit < 0 || c.DiskFreeLimit < 0 {
		refuse("memory and disk limits: not below 0")
	}
	if c.Heartbeat < 0 || c.Heartbeat > 65535*time.Second {
		refuse("heartbeat %v: from 0 to 65535s", c.Heartbeat)
	}
	if c.FrameMax < minFrameMax || c.FrameMax > 1<<30 {
		refuse("frame max %d: from %d to %d", c.FrameMax, minFrameMax, 1<<30)
	}
	if c.ChannelMax < 1 || c.ChannelMax > 65535 {
		refuse("channel max %d: from 1 to 65535", c.ChannelMax)
	}
	return errors.Join(errs...)
}

func validName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case r == '-', r == '_', r == '.', r == '@':
		default:
			return false
		}
	}
	return true
}

// validAckQuorum checks an ack quorum's spelling, not whether a group is large
// enough for it.
func validAckQuorum(quorum string) error {
	switch quorum {
	case "leader", "majority", "all":
		return nil
	}
	if n, err := strconv.Atoi(quorum); err != nil || n < 1 {
		return fmt.Errorf("ack quorum %q: leader, majority, all, or a number from 1", quorum)
	}
	return nil
}

func fsyncPolicy(name string) (log.Policy, error) {
	switch name {
	case "always":
		return log.Always, nil
	case "interval":
		return log.Interval, nil
	case "never":
		return log.Never, nil
	}
	return 0, fmt.Errorf("fsync %q: always, interval or never", name)
}

// machineMemory is the machine's memory in bytes, or what the runtime has from
// the operating system times eight where the machine doesn't tell.
func machineMemory() int64 {
	if n, ok := readMemTotal(); ok {
		return n
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.Sys) * 8
}
