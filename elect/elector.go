package elect

import (
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Role is what this broker is in the group's raft. The values are those of
// replicate's Role.
type Role uint8

// The roles.
const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
)

// Local is this broker's own state in the group.
type Local struct {
	Role Role
	// Term is raft's.
	Term uint64
	// Leader is the name of the leader that raft knows, "" when it knows none.
	Leader string
	// Last is the position of the last entry that raft holds here, durable or
	// not: what votes compare.
	Last entry.Position
	// Fence is the term below which the owner refuses what leaders send, as the
	// action Fence asked for. Last was read after that.
	Fence uint64
	// OldestWrite is since when the log's oldest write waits for its fsync;
	// zero when none does.
	OldestWrite time.Time
	// SmallestQuorum is the smallest ack quorum of the group's queues; 0 when
	// none is below a majority.
	SmallestQuorum int
	// Mirrors is what a leader knows of the others; it may lack some. The
	// Elector keeps no reference to it after State returns.
	Mirrors []Mirror
}

// Mirror is what a leader knows of another voter.
type Mirror struct {
	Name string
	// Match is the highest index that it is known to hold.
	Match uint64
	// Active says that it answered within an election timeout.
	Active bool
}

// Elector decides for one group on one broker. One goroutine owns it.
type Elector struct {
	config  Config
	local   Local
	actions []Action
}

// New makes the elector of a group that starts now, with no leader known and
// every peer down.
//
// Errors: ErrConfig.
func New(config Config, now time.Time) (*Elector, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Elector{config: config}, nil
}

// State tells of this broker's state in the group. The owner calls it whenever
// raft may have changed it, and at each tick.
func (e *Elector) State(now time.Time, local Local) { e.local = local }

// Tick lets time pass. The owner calls it every 10 to 25 ms, or by Wake, and
// hands in first what came from other brokers.
func (e *Elector) Tick(now time.Time) {}

// Wake is when Tick must be called at the latest for the timing to hold.
func (e *Elector) Wake() time.Time { return time.Time{} }

// Beat takes a beat that broker from sent.
func (e *Elector) Beat(now time.Time, from string, beat Beat) {}

// Receive takes a message that broker from sent.
func (e *Elector) Receive(now time.Time, from string, m Message) {}

// PeerUp tells that the backbone reaches a broker.
func (e *Elector) PeerUp(now time.Time, name string) {}

// PeerDown tells that the backbone lost a broker's route, or that it announced
// its stop.
func (e *Elector) PeerDown(now time.Time, name string) {}

// SetVoters changes the members, the preferred leader first.
//
// Errors: ErrConfig.
func (e *Elector) SetVoters(now time.Time, voters []string) error { return nil }

// Actions appends to dst what is to be done since the last call, and forgets it.
func (e *Elector) Actions(dst []Action) []Action {
	dst = append(dst, e.actions...)
	clear(e.actions)
	e.actions = e.actions[:0]
	return dst
}

// Fence is the term below which appends, heartbeats and snapshots are to be
// refused, 0 when none are.
func (e *Elector) Fence() uint64 { return 0 }

// HoldTicks says that the owner must not Tick raft: its own timeout would elect
// a mirror that has not heard enough positions.
func (e *Elector) HoldTicks() bool { return false }

// View is what status shows of a group's election.
type View struct {
	// Leader is the leader that is heard, "" when none is; Term is its term.
	Leader string
	Term   uint64
	// Heard is the leader's last sign of life.
	Heard time.Time
	// Round is the number of the open round, 0 when there is none; Opened is
	// since when.
	Round  uint64
	Opened time.Time
	// Positions are those heard in the open round, best first.
	Positions []Standing
}

// View returns a copy.
func (e *Elector) View() View { return View{} }
