package log

import (
	"fmt"
	"log/slog"
	"time"
)

// Policy says when the log calls fsync.
type Policy uint8

const (
	// Always syncs every group commit before its appends are told done: what
	// was acknowledged survives a power failure. The default.
	Always Policy = iota
	// Interval syncs every FsyncInterval: a power failure loses what was
	// acknowledged within the last interval. A crash of the process alone
	// loses nothing. Terms and votes are synced as with Always.
	Interval
	// Never leaves syncing to the operating system and to the sealing of
	// segments: a power failure loses up to the whole newest segment of what
	// was acknowledged. Terms and votes are synced as with Always.
	Never
)

// String is the policy's name on the command line.
func (p Policy) String() string {
	switch p {
	case Always:
		return "always"
	case Interval:
		return "interval"
	case Never:
		return "never"
	}
	return fmt.Sprintf("Policy(%d)", uint8(p))
}

// ParsePolicy reads a policy's name: always, interval or never.
func ParsePolicy(name string) (Policy, error) {
	for _, p := range []Policy{Always, Interval, Never} {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("log: no fsync policy %q: want always, interval or never", name)
}

const (
	defaultSegmentBytes  = 8 << 20
	defaultFsyncInterval = 100 * time.Millisecond
	defaultSlackBytes    = 64 << 20
	defaultQueueBytes    = 64 << 20
	defaultQueueAppends  = 4096

	minSegmentBytes = 4 << 10
	maxSegmentBytes = 64 << 20
)

// Options are a log's settings. The zero value asks for the defaults.
type Options struct {
	// SegmentBytes is where a segment file is closed and the next one begun;
	// a record that is larger goes over it. tidwall/wal holds the newest
	// segment in memory, so this costs memory. Default 8 MiB.
	SegmentBytes int
	// Fsync is when appends are made durable. Default Always.
	Fsync Policy
	// FsyncInterval is the interval of Interval. Default 100 ms.
	FsyncInterval time.Duration
	// SlackBytes is the constant of "disk <= 2 × live + constant". Default 64 MiB.
	SlackBytes int64
	// QueueBytes and QueueAppends bound what waits for the writer: Append
	// blocks above either of them. Defaults 64 MiB and 4096.
	QueueBytes   int
	QueueAppends int
	// Logger is told what was repaired and why the log failed. Default: none.
	Logger *slog.Logger
	// Observe, if set, is called on the writer goroutine after each group
	// commit with the time that its fsync took (0 for none) and the bytes
	// that were written. It must not block.
	Observe func(fsync time.Duration, bytes int)
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.FsyncInterval <= 0 {
		o.FsyncInterval = defaultFsyncInterval
	}
	if o.SlackBytes == 0 {
		o.SlackBytes = defaultSlackBytes
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = defaultQueueBytes
	}
	if o.QueueAppends <= 0 {
		o.QueueAppends = defaultQueueAppends
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(time.Duration, int) {}
	}
	return o
}

func (o Options) validate() error {
	if o.SegmentBytes < minSegmentBytes || o.SegmentBytes > maxSegmentBytes {
		return fmt.Errorf("log: segment size %d is outside %d…%d", o.SegmentBytes, minSegmentBytes, maxSegmentBytes)
	}
	if o.Fsync > Never {
		return fmt.Errorf("log: no such fsync policy: %d", o.Fsync)
	}
	if o.SlackBytes < 0 {
		return fmt.Errorf("log: negative slack: %d", o.SlackBytes)
	}
	return nil
}
