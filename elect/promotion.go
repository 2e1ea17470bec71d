package elect

import (
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Reason is why a leader was promoted.
type Reason uint8

// The reasons.
const (
	// Started: the group had no leader that anybody knew of.
	Started Reason = iota + 1
	// Silent: the leader's beats stopped.
	Silent
	// Gone: the backbone lost the leader's route, or it announced its stop.
	Gone
	// HandedOver: the leader's broker is being stopped.
	HandedOver
	// Balanced: leadership went to the preferred broker.
	Balanced
	// Ordered: an operator asked for it.
	Ordered
	// Unstuck: a mirror was fenced against a living leader, so the term had to
	// change.
	Unstuck
	// Raft: raft's own timeout acted, or nobody said why.
	Raft
)

var reasonNames = [...]string{
	"unknown", "started", "silent", "gone", "handed over", "balanced", "ordered", "unstuck", "raft",
}

// String is the reason as status prints it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return reasonNames[0]
}

// Standing is one mirror's place in the ranking of a round.
type Standing struct {
	Broker   string
	Position entry.Position
	// Fenced says that the position was a promise.
	Fenced bool
	// Unfit says that the mirror's log hung or that it was being stopped.
	Unfit bool
}

// Promotion is one change of a group's leader, as its new leader tells it, or
// as a mirror saw it when the leader's word was lost.
type Promotion struct {
	Group entry.GroupID
	// When this broker knew the new leader.
	When time.Time
	// From is the leader before, "" when none was known; To is the new one.
	From, To string
	// Term is the new leader's.
	Term   uint64
	Reason Reason
	// Clean is false when a quorum below a majority was in use and too few
	// positions could be heard: a confirmed message may be lost.
	Clean bool
	// Leaderless is how long the group had no leader: since the last sign of
	// life of the one before.
	Leaderless time.Duration
	// Positions are those that were compared, best first.
	Positions []Standing
}

// History keeps the newest promotions, up to a bound. It is not safe for
// concurrent use.
type History struct {
	bound int
	kept  []Promotion
	// Unclean counts unclean promotions, of those forgotten too.
	unclean, total uint64
}

// NewHistory keeps up to bound promotions, at least one.
func NewHistory(bound int) *History { return &History{bound: max(bound, 1)} }

// Add keeps p, and forgets the oldest when there are too many.
func (h *History) Add(p Promotion) {
	h.total++
	if !p.Clean {
		h.unclean++
	}
	if len(h.kept) == h.bound {
		copy(h.kept, h.kept[1:])
		h.kept = h.kept[:h.bound-1]
	}
	h.kept = append(h.kept, p)
}

// Promotions returns a copy of what is kept, oldest first.
func (h *History) Promotions() []Promotion { return append([]Promotion(nil), h.kept...) }

// Counts returns how many promotions were added ever, and how many of them
// were unclean.
func (h *History) Counts() (total, unclean uint64) { return h.total, h.unclean }
