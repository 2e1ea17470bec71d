package elect

import (
	"slices"
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

// accountTakes is how long a mirror waits for a new leader's own account of its
// promotion before it records what it saw itself.
const accountTakes = 200 * time.Millisecond

// promoted makes the record of a change of leader, before it is taken over, and
// returns why it changed.
func (e *Elector) promoted(now time.Time, to string, term uint64) Reason {
	if e.account != nil {
		e.record(*e.account)
	}
	p := Promotion{
		Group: e.config.Group, When: now, From: e.leader.last(), To: to, Term: term,
		Reason: Raft, Clean: true, Leaderless: now.Sub(e.leader.heard),
	}
	if e.round != nil {
		p.Reason, p.Positions = e.round.reason, e.standings(now)
	}
	if h := e.handing; h.to == to && h.term < term && now.Sub(h.at) < handingCounts {
		p.Reason, p.Leaderless = h.reason, now.Sub(h.at)
	}
	if v := e.voter(p.From); v != nil && (p.Reason == Silent || p.Reason == Gone) {
		if now.Sub(v.lost) > lossesKept*e.config.Timing.Quiet {
			v.losses = 0
		}
		v.losses++
		v.lost = now
	}
	known := e.leader.term > 0 || e.round != nil
	switch {
	case to == e.config.Self:
		if e.round != nil && e.bid.round == e.round.number {
			p.Clean, p.Positions = e.bid.clean, e.bid.positions
		}
		e.record(p)
		account := Message{Kind: Leading, Term: term, Reason: p.Reason, Name: to, Promotion: &p}
		e.broadcast(account)
		for _, name := range e.config.Listeners {
			e.send(name, account)
		}
	case e.told != nil && e.told.Term == term:
		p = *e.told
		p.When = now
		e.record(p)
	case known:
		e.account, e.due = &p, now.Add(accountTakes)
	default: // It led before this broker came.
	}
	return p.Reason
}

// hearAccount takes a new leader's account of its promotion.
func (e *Elector) hearAccount(now time.Time, from string, m Message) {
	if m.Promotion == nil {
		return
	}
	p := *m.Promotion
	switch {
	case p.To != from:
	case e.account != nil && e.account.Term == p.Term && e.account.To == p.To:
		p.When = e.account.When
		e.record(p)
	case p.Term > e.leader.term:
		e.told = &p
		e.hear(now, from, p.Term)
	}
}

func (e *Elector) record(p Promotion) {
	e.account, e.told = nil, nil
	e.act(Action{Kind: Promoted, Promotion: &p})
}

// History keeps the newest promotions, up to a bound. It is not safe for
// concurrent use.
type History struct {
	kept  []Promotion // oldest first
	bound int
	// total and unclean count those that were forgotten too.
	total, unclean uint64
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
		h.kept = slices.Delete(h.kept, 0, 1)
	}
	h.kept = append(h.kept, p)
}

// Promotions returns a copy of what is kept, oldest first.
func (h *History) Promotions() []Promotion { return slices.Clone(h.kept) }

// Counts returns how many promotions were added ever, and how many of them
// were unclean.
func (h *History) Counts() (total, unclean uint64) { return h.total, h.unclean }
