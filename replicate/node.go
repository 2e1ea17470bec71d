package replicate

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mirrormq/mirrormq/internal/entry"
)

var (
	// ErrNotLeader is returned for a proposal to a member that is not the
	// group's leader, or is handing leadership over.
	ErrNotLeader = errors.New("replicate: not the leader of the group")
	// ErrBusy is returned for a proposal beyond Config.MaxUncommitted: try again
	// after the next Advance that applies something.
	ErrBusy = errors.New("replicate: too much is proposed and not applied")
	// ErrInstalling is returned by Install while an earlier checkpoint is being
	// installed, or when an Advance is due.
	ErrInstalling = errors.New("replicate: another checkpoint is being installed")
	// ErrFailed is returned by a Node that has failed; it wraps the reason. It
	// is final.
	ErrFailed = errors.New("replicate: the group has failed on this broker")
	// ErrState is returned by New when log, hard state and checkpoint contradict
	// one another: this member has lost something that it must not lose.
	ErrState = errors.New("replicate: log and checkpoint do not fit together")
)

// Node is one member of one group. Its methods are for the owner's loop alone;
// only what Ring returns may be used elsewhere.
type Node struct {
	config  Config
	raft    *raft.RawNode
	storage *storage
	ring    *Ring

	// started turns true in the first Advance, where a sole voter campaigns.
	started bool
	// dirty says that raft may have something Ready.
	dirty bool
	// err is why the Node failed: wraps ErrFailed. Sticky.
	err error

	// handed is the newest hard state that the log was given; Commit lags.
	handed HardState
	// role and leader, term and commit are raft's as of its last Ready.
	role   Role
	leader uint64
	now    HardState

	applied entry.Position
	// uncommitted is the payload bytes proposed in this leadership and not
	// applied, proposed how many entries were and are not handed to the log.
	uncommitted uint64
	proposed    uint64

	// spent is what this Advance has applied, in bytes.
	spent uint64

	writes writeQueue
	outbox []*raftpb.Message
	sizes  sizes

	// installing is the write that puts a checkpoint in the place of the log, 0
	// for none; waiting are the writes after it, in order, which the log was not
	// given yet. readies were taken from raft and not handled yet.
	installing uint64
	waiting    []handover
	readies    []raft.Ready

	// ticks counts; contacts are when other members answered.
	ticks    uint64
	contacts map[uint64]contact
	// sending are the checkpoints on their way to mirrors: index by member.
	sending map[uint64]uint64
	// fence is the term below which leaders are not listened to; fenceWrite the
	// write that makes it durable, and fenceKept what was seen to be.
	fence, fenceWrite, fenceKept uint64
	// held says that ticks start no election.
	held bool
	// transferred says that this leadership was asked to end.
	transferred bool
	// matches and collect are Match's, so that it allocates nothing.
	matches []uint64
	collect func(uint64, raft.ProgressType, tracker.Progress)
}

// New makes the member from what its log holds. The first Advance applies what
// is known to be committed after Config.Applied, and makes a sole voter
// campaign at once: nobody else could lead.
//
// Errors: ErrConfig, ErrState, or one of the log.
func New(config Config) (node *Node, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	floor, last := config.Log.Bounds(config.Group)
	known, err := readTerms(floor, last, func(index uint64) (uint64, error) {
		return config.Log.Term(config.Group, index)
	})
	if err != nil {
		return nil, fmt.Errorf("replicate: terms of group %d: %w", config.Group, err)
	}
	handed, _ := config.Log.HardState(config.Group)
	state, err := initialState(handed, config.Applied, &known)
	if err != nil {
		return nil, fmt.Errorf("group %d: %w", config.Group, err)
	}
	ring := newRing(config.RingBytes)
	n := &Node{
		config: config,
		ring:   ring,
		storage: &storage{
			group: config.Group, log: config.Log, ring: ring,
			terms: known, state: state, members: config.Members.clone(), feeder: config.Feeder,
		},
		handed:  handed,
		now:     state,
		applied: config.Applied,
		dirty:   true,

		contacts: make(map[uint64]contact),
		sending:  make(map[uint64]uint64),
	}
	n.collect, n.storage.far = n.collectMatch, n.far
	n.fence = handed.Term // the term that it starts in, or a fence of before
	defer n.rescue(&err)
	n.raft, err = raft.NewRawNode(config.raft(n.storage, raftLogger{config.Logger.With("group", config.Group)}))
	return n, err
}

// initialState is the hard state to start raft with. The stored commit index
// may lag behind the checkpoint, or be ahead of a log that lost its tail before
// it was synced. The term may lag behind the last entry's where a crash cut
// between them: nothing of that term was answered yet, nor voted for.
func initialState(stored HardState, applied entry.Position, known *terms) (HardState, error) {
	floor, last := known.floor(), known.end()
	if applied.Index < floor.Index || applied.Index > last.Index || applied.Term != known.at(applied.Index) {
		return HardState{}, fmt.Errorf("%w: the checkpoint ends at %v, the log holds %v to %v", ErrState, applied, floor, last)
	}
	if stored.Term < last.Term {
		stored.Term, stored.Vote = last.Term, raft.None
	}
	stored.Commit = max(min(stored.Commit, last.Index), applied.Index)
	return stored, nil
}

// Propose appends payload to the group's log as one entry, and returns its
// index. The payload is copied, once: the caller may use the memory again. What
// becomes of the entry is seen by apply; Confirmed tells when it is safe. If
// this member stops to lead, another entry may come to be at that index.
//
// Errors: ErrNotLeader, ErrBusy, ErrFailed.
func (n *Node) Propose(payload []byte) (index uint64, err error) {
	if n.err != nil {
		return 0, n.err
	}
	if n.role != Leader {
		return 0, ErrNotLeader
	}
	if n.uncommitted > 0 && n.uncommitted+uint64(len(payload)) > n.config.MaxUncommitted {
		return 0, ErrBusy
	}
	defer n.rescue(&err)
	if err := n.raft.Propose(payload); err != nil {
		return 0, n.refusal(err)
	}
	n.uncommitted += uint64(len(payload))
	n.proposed++
	n.dirty = true
	return n.storage.terms.last + n.proposed, nil
}

func (n *Node) refusal(err error) error {
	if !errors.Is(err, raft.ErrProposalDropped) {
		return err
	}
	if status := n.raft.BasicStatus(); status.RaftState == raft.StateLeader && status.LeadTransferee == raft.None {
		return ErrBusy
	}
	return ErrNotLeader
}

// Step takes a message from another member, and with it the memory of its
// entries' payloads.
//
// Errors: ErrMessage for one that no member sends, ErrFailed. A message that is
// merely late or lost its meaning is no error.
func (n *Node) Step(message *raftpb.Message) (err error) {
	if n.err != nil {
		return n.err
	}
	if err := n.check(message); err != nil {
		return err
	}
	if n.fenced(message) {
		return nil
	}
	n.heard(message)
	defer n.rescue(&err)
	n.dirty = true
	err = n.raft.Step(message)
	if errors.Is(err, raft.ErrStepPeerNotFound) || errors.Is(err, raft.ErrProposalDropped) {
		return nil
	}
	return err
}

// Checkpointed tells that the log's floor was raised to at, so that entries
// below are no longer offered to mirrors.
//
// REQUIRES: at was applied.
func (n *Node) Checkpointed(at entry.Position) {
	if at.Index > n.storage.terms.floor().Index {
		n.storage.terms.raise(at)
		n.sizes.raise(at.Index)
	}
}

// Ring is the group's recent entries.
func (n *Node) Ring() *Ring { return n.ring }

// InFlight is how many entries were handed to the log and are not durable yet.
func (n *Node) InFlight() int { return n.writes.entries }

// Err is nil, or why the Node failed.
func (n *Node) Err() error { return n.err }

// Role is what a member is in its group.
type Role uint8

// The roles, as raft names them.
const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
)

var roleNames = [...]string{"follower", "pre-candidate", "candidate", "leader"}

// String is the role's name.
func (r Role) String() string { return roleNames[r] }

func roleOf(state raft.StateType) Role {
	switch state {
	case raft.StateLeader:
		return Leader
	case raft.StateCandidate:
		return Candidate
	case raft.StatePreCandidate:
		return PreCandidate
	default:
		return Follower
	}
}

// Status is a member's view of its group as of the last Advance.
type Status struct {
	Role Role
	// Leader is the raft id of the leader, 0 when none is known.
	Leader uint64
	Term   uint64
	// Commit is the index up to which entries are committed.
	Commit uint64
	// Applied is the last entry that was applied, Last the last handed to the log.
	Applied, Last entry.Position
	// InFlightWrites, InFlightEntries and InFlightBytes are handed to the log
	// and not durable yet.
	InFlightWrites, InFlightEntries int
	InFlightBytes                   uint64
	// Uncommitted is the payload bytes proposed here and not applied yet.
	Uncommitted uint64
	// Err is why the Node failed, nil while it lives. A failed one is a
	// Follower without a leader to its owner, whatever it was.
	Err error
}

// Status allocates nothing.
func (n *Node) Status() Status {
	s := Status{
		Role: n.role, Leader: n.leader, Term: n.now.Term, Commit: n.now.Commit,
		Applied: n.applied, Last: n.storage.terms.end(),
		InFlightWrites: n.writes.len(), InFlightEntries: n.writes.entries, InFlightBytes: n.writes.bytes,
		Uncommitted: n.uncommitted, Err: n.err,
	}
	if n.err != nil {
		s.Role, s.Leader = Follower, raft.None
	}
	return s
}

// fail ends the Node. The first reason stays.
func (n *Node) fail(reason error) error {
	if n.err == nil {
		n.err = fmt.Errorf("%w: group %d: %w", ErrFailed, n.config.Group, reason)
		n.outbox = nil
	}
	return n.err
}

// rescue turns raft's way to give up, a panic with an error of the log or with
// a contradiction that it found, into a failure of this Node. raft's state is
// undefined after it, so the Node never calls it again. Other panics go on.
func (n *Node) rescue(err *error) {
	switch reason := recover().(type) {
	case nil:
	case unreadable:
		*err = n.fail(reason.error)
	case contradiction:
		*err = n.fail(reason)
	default:
		panic(reason)
	}
}
