package replicate

import (
	"errors"
	"fmt"
	"log/slog"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	heartbeatTick = 1
	electionTick  = 20 // A fallback: elect sees a dead leader sooner.

	defaultRingBytes      = 16 << 20
	defaultMaxUncommitted = 64 << 20
	defaultMaxMessage     = 1 << 20
	defaultMaxApply       = 1 << 20
	defaultMaxInflight    = 16 << 20
	defaultInflightCount  = 256
	defaultKeepLive       = 1 << 30
	defaultKeepAbsent     = 64 << 20
	defaultKeepTail       = 4 << 20
)

// Config says what a Node is and works with. Group, ID, Voters, Log and Notify
// are required, Transport too when there is more than one voter; a zero value
// of a bound takes its default.
type Config struct {
	// Group names the log and the state machine.
	Group entry.GroupID
	// ID is this member's raft id: the incarnation of the broker's data
	// directory. An id whose log was lost must never be used again.
	ID uint64
	// Voters are the raft ids that the group was formed with.
	Voters []uint64
	// Members is the group's configuration as of Applied, kept with the
	// checkpoint; empty for Voters as they were formed.
	Members Members
	// Log keeps the group's entries and hard state.
	Log Log
	// Transport takes the messages to other members.
	Transport Transport
	// Notify gets the completion of each write, in order, on the log's
	// goroutine. It must not block for long and must not call the Node: it
	// posts to the owner's loop, which calls Node.Completed. Since completions
	// come in order a later one stands for the earlier: an owner may keep only
	// the newest.
	Notify func(Completion)
	// Applied is the position up to which the state machine's checkpoint
	// covers the log; entries after it are applied again.
	Applied entry.Position

	// Feeder serves mirrors that are far behind; nil has them served as they ask,
	// from the Log at once.
	Feeder Feeder

	// RingBytes bounds the recent entries held in memory. 16 MiB by default.
	RingBytes int64
	// MaxUncommitted bounds the payload bytes proposed and not yet applied;
	// Propose returns ErrBusy beyond. One proposal of any size is taken when
	// there is nothing else. 64 MiB by default.
	MaxUncommitted uint64
	// MaxApply bounds the payload bytes read and applied in one piece, and by
	// one Advance (a single larger entry is its own piece). 1 MiB by default.
	MaxApply uint64
	// MaxMessage bounds the payload bytes of one append message to a mirror (a
	// single larger entry is its own message). 1 MiB by default.
	MaxMessage uint64
	// MaxInflight bounds the payload bytes that are on their way to one mirror.
	// 16 MiB by default.
	MaxInflight uint64
	// KeepLive, KeepAbsent and KeepTail bound how many bytes of the log KeepFrom
	// keeps: for a mirror that is heard, so that it catches up under load (1 GiB
	// by default); for one that is not (64 MiB); on a mirror itself (4 MiB).
	KeepLive, KeepAbsent, KeepTail uint64

	// Logger defaults to slog.Default.
	Logger *slog.Logger
}

// Log is the part of the broker's log that a group needs. Calls come from the
// owner's loop only. The log is one for all groups, so each names its own.
type Log interface {
	// Append hands entries and, when it is not nil, a hard state to the log's
	// writer, which makes them durable together. An entry at index i discards
	// every older entry of the group from i on. Neither entries nor their
	// payloads may change afterwards. done is called once they are durable, in
	// the order of Append, from another goroutine; never from within Append.
	// Append may block while too much waits to be written. Where the log writes
	// the two one after the other, the hard state goes first.
	Append(group entry.GroupID, entries []Entry, state *HardState, done func(error))
	// Bounds is the position that a checkpoint covers (floor) and the last
	// entry's; equal when no entry follows the checkpoint, zero when there
	// never was an entry.
	Bounds(group entry.GroupID) (floor, last entry.Position)
	// Term is the term of the entry at index, which lies in floor…last.
	Term(group entry.GroupID, index uint64) (uint64, error)
	// Read returns the entries from index lo on, up to but not including hi:
	// as many as fit into maxBytes of payload, at least one. Payloads belong to
	// the caller. Entries are readable once their Append's done was called.
	Read(group entry.GroupID, lo, hi, maxBytes uint64) ([]Entry, error)
	// HardState is the last one appended; false when there is none.
	HardState(group entry.GroupID) (HardState, bool)
}

// Entry is one raft entry as the log keeps it.
type Entry struct {
	Term, Index uint64
	// Kind is 0 for a normal entry; other values are raft's entry types, which
	// the log stores and gives back as they are.
	Kind uint8
	// Payload is what was proposed; empty for a new leader's first entry.
	Payload []byte
}

// HardState is what a member must not forget. Commit is advisory: it may lag.
type HardState struct{ Term, Vote, Commit uint64 }

// Transport carries messages to the other members of the group.
type Transport interface {
	// Send takes messages for delivery, each to the member it names in To. It
	// must not block, must not keep the slice, and must not change a message.
	// It may lose, double and reorder them.
	Send(messages []*raftpb.Message)
}

// Completion tells that a write is durable, or that the log has failed.
type Completion struct {
	Group entry.GroupID
	// Err is the log's error: final.
	Err error

	sequence uint64
}

// ErrConfig is returned by New for a Config that cannot work.
var ErrConfig = errors.New("replicate: bad configuration")

func (c *Config) validate() error {
	switch {
	case c.ID == raft.None || raft.IsLocalMsgTarget(c.ID):
		return fmt.Errorf("%w: raft id %d is reserved", ErrConfig, c.ID)
	case c.Log == nil:
		return fmt.Errorf("%w: no log", ErrConfig)
	case c.Notify == nil:
		return fmt.Errorf("%w: no notify", ErrConfig)
	}
	if c.Members.Empty() {
		c.Members = Members{Voters: c.Voters}
	}
	switch {
	case c.Transport == nil && !c.Members.sole(c.ID):
		return fmt.Errorf("%w: no transport to members %+v", ErrConfig, c.Members)
	case c.Members.Has(raft.None):
		return fmt.Errorf("%w: members %+v", ErrConfig, c.Members)
	}
	setDefault(&c.RingBytes, defaultRingBytes)
	setDefault(&c.MaxUncommitted, defaultMaxUncommitted)
	setDefault(&c.MaxApply, defaultMaxApply)
	setDefault(&c.MaxMessage, defaultMaxMessage)
	setDefault(&c.MaxInflight, defaultMaxInflight)
	setDefault(&c.KeepLive, defaultKeepLive)
	setDefault(&c.KeepAbsent, defaultKeepAbsent)
	setDefault(&c.KeepTail, defaultKeepTail)
	c.MaxInflight = max(c.MaxInflight, c.MaxMessage)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func setDefault[T int64 | uint64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

func (c *Config) raft(storage raft.Storage, logger raft.Logger) *raft.Config {
	return &raft.Config{
		ID:                        c.ID,
		ElectionTick:              electionTick,
		HeartbeatTick:             heartbeatTick,
		Storage:                   storage,
		Applied:                   c.Applied.Index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             c.MaxMessage,
		MaxCommittedSizePerReady:  c.MaxApply,
		MaxUncommittedEntriesSize: c.MaxUncommitted,
		MaxInflightMsgs:           defaultInflightCount,
		MaxInflightBytes:          c.MaxInflight,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    logger,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	}
}
