package elect

import (
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// round is a time without a leader in which the mirrors compare positions.
type round struct {
	// number is the lowest term that the new leader can have, as far as is
	// known here. It only grows.
	number uint64
	opened time.Time
	reason Reason

	// sent is when the position was sent last, and message what was said.
	sent    time.Time
	message Message
	// ready is since when this broker knows whose turn it is, that of first;
	// zero before.
	ready time.Time
	first string
	// next is the earliest time of the next campaign, and campaigned that of
	// the last.
	next, campaigned time.Time
	// passed is since when raft's term is at the number or above, zero before.
	passed time.Time
}

// bid is a campaign: what was compared, in case it succeeds.
type bid struct {
	round     uint64
	clean     bool
	positions []Standing
}

const (
	// repeats is how soon a position is sent again after it changed.
	repeats = time.Millisecond
	// patient is the age from which on a round sends positions less often: no
	// majority is there, or it hears the leader.
	patient = 2 * time.Second
)

// open begins a round of number or above.
func (e *Elector) open(now time.Time, number uint64) {
	reason := Silent
	switch {
	case !e.leader.gone.IsZero():
		reason = Gone
	case e.leader.last() == "":
		reason = Started
	}
	e.round = &round{
		number: max(number, e.local.Term+1, e.leader.term+1, e.promise),
		opened: now,
		reason: reason,
	}
}

// hearMissing takes another's position. It is kept even when this broker hears
// the leader: it may miss it in a moment.
func (e *Elector) hearMissing(now time.Time, v *voter, m Message) {
	first := v.round != m.Round || v.told.IsZero() || now.Sub(v.told) > e.config.Timing.Fresh
	if !first && (v.fenced && !m.Fenced || m.Term < v.term) {
		return // It was overtaken: neither a promise nor a term is taken back.
	}
	if m.Fenced && (!v.fenced || v.round != m.Round) {
		v.fencedSince = now
	}
	v.told, v.round, v.term, v.last = now, m.Round, m.Term, m.Last
	v.fenced, v.waits, v.unfit, v.bids = m.Fenced, m.Waits, m.Unfit, m.Bids
	v.hearing = time.Time{}
	switch {
	case e.self < 0, e.local.Role == Leader && !e.Leads():
	case e.Leads():
		if !e.unfit(now) {
			e.deny(v.name, m.Round)
		}
	case e.round == nil && !e.missing(now, e.config.Timing.Agree):
		e.deny(v.name, m.Round)
	default:
		if e.round == nil {
			e.open(now, m.Round)
		}
		if m.Round > e.round.number {
			e.renumber(m.Round)
		}
		if first {
			e.send(v.name, e.missingMessage(now))
		}
	}
}

// deny tells that this broker hears the leader.
func (e *Elector) deny(to string, number uint64) {
	e.send(to, Message{Kind: Hearing, Term: e.leader.term, Round: number, Name: e.leader.name})
}

// renumber takes over a higher number: positions of the lower one don't count.
func (e *Elector) renumber(number uint64) {
	e.round.number, e.round.ready, e.round.passed = number, time.Time{}, time.Time{}
}

// waits says whether a quorum below a majority is in use, as far as this broker
// or one that is in its round knows.
func (e *Elector) waits() bool {
	if n := e.local.SmallestQuorum; 1 < n && n < e.majority() {
		return true
	}
	if e.round == nil {
		return false
	}
	return slices.ContainsFunc(e.voters, func(v voter) bool { return v.waits && v.round == e.round.number && !v.told.IsZero() })
}

// needed is how many promises a clean promotion takes: so many that any quorum
// has a member among them.
func (e *Elector) needed() int {
	n := e.local.SmallestQuorum
	if n <= 1 || n >= e.majority() {
		n = 2 // Another knows of a smaller quorum than this broker: take the smallest.
	}
	return len(e.voters) - n + 1
}

func (e *Elector) missingMessage(now time.Time) Message {
	return Message{
		Kind: Missing, Term: e.local.Term, Round: e.round.number, Last: e.local.Last,
		Fenced: e.local.Fence >= e.round.number, Waits: e.waits(), Unfit: e.unfit(now), Bids: e.local.Role == Candidate,
	}
}

// tell sends the position when it is time to, or when it changed.
func (e *Elector) tell(now time.Time) {
	m := e.missingMessage(now)
	age := now.Sub(e.round.sent)
	interval := e.config.Timing.Resend
	if now.Sub(e.round.opened) > patient {
		interval *= 4
	}
	if m != e.round.message && age >= repeats || age >= interval {
		e.round.sent, e.round.message = now, m
		e.broadcast(m)
	}
}

// agreeing says whether a voter takes part in this round.
func (e *Elector) agreeing(now time.Time, v *voter) bool {
	return !v.told.IsZero() && v.round == e.round.number && now.Sub(v.told) <= e.config.Timing.Fresh
}

// decide plays this broker's part in the open round.
//
// REQUIRES: round != nil.
func (e *Elector) decide(now time.Time) {
	if e.local.Role == Follower && e.local.Leader != "" {
		e.local.Leader = "" // until State tells otherwise
		e.act(Action{Kind: Forget})
	}
	e.outrun(now)
	standings := e.standings(now)
	majority := len(standings) >= e.majority()
	waits := e.waits()
	e.refuse(majority, waits)
	e.tell(now)
	if !majority || !e.gathered(now) {
		e.round.ready = time.Time{}
		return
	}
	clean := true
	if waits {
		fenced := promised(standings)
		if clean = len(fenced) >= e.needed(); clean {
			standings = fenced
		} else if now.Sub(e.round.opened) < e.config.Timing.Patience {
			return
		}
	}
	if first := standings[0].Broker; e.round.ready.IsZero() || first != e.round.first {
		e.round.ready, e.round.first = now, first
	}
	e.campaign(now, standings, waits, clean)
}

// refuse stops listening to the old leader when a majority agrees that it is
// lost. Where the round waits that is the promise which makes a position count.
// Elsewhere it is for the sake of the election alone: a leader whose disk hangs
// goes on with its heartbeats and appends. It is taken back when the majority is
// gone.
func (e *Elector) refuse(majority, waits bool) {
	e.refused = e.promise
	switch {
	case majority && waits && e.promise < e.round.number:
		e.promise = e.round.number
		e.refused = e.promise
		e.act(Action{Kind: Fence, Term: e.promise})
	case majority && !waits:
		e.refused = max(e.promise, e.leader.term+1, e.local.Last.Term+1)
	}
}

// close ends the round, if one is open.
func (e *Elector) close() {
	e.round, e.refused = nil, e.promise
}

// outrun takes a new number when raft's term has reached that of a waiting
// round without a leader: whoever campaigned for it failed, the next campaign
// is for a higher term, and promises must cover it.
func (e *Elector) outrun(now time.Time) {
	switch {
	case !e.waits() || e.local.Term < e.round.number:
	case e.round.passed.IsZero():
		e.round.passed = now
	case now.Sub(e.round.passed) >= e.config.Timing.StandBy:
		e.renumber(e.local.Term + 1)
	}
}

// gathered says whether every living peer has answered, or had the time to.
func (e *Elector) gathered(now time.Time) bool {
	switch age := now.Sub(e.round.opened); {
	case age < e.config.Timing.Settle:
		return false
	case age >= e.config.Timing.Gather:
		return true
	}
	for i := range e.voters {
		v := &e.voters[i]
		if i == e.self || !v.up || v.name == e.leader.name || e.agreeing(now, v) || now.Sub(v.hearing) <= e.config.Timing.Fresh {
			continue
		}
		return false
	}
	return true
}

// standings ranks those that take part, best first: the fit before the others,
// then by position, then by preference.
func (e *Elector) standings(now time.Time) []Standing {
	standings := make([]Standing, 0, len(e.voters))
	for i := range e.voters {
		v := &e.voters[i]
		switch {
		case i == e.self:
			standings = append(standings, Standing{v.name, e.local.Last, e.local.Fence >= e.round.number, e.unfit(now)})
		case e.agreeing(now, v):
			standings = append(standings, Standing{v.name, v.last, v.fenced, v.unfit})
		}
	}
	slices.SortStableFunc(standings, func(a, b Standing) int {
		if a.Unfit != b.Unfit {
			if b.Unfit {
				return -1
			}
			return 1
		}
		return b.Position.Compare(a.Position)
	})
	return standings
}

// promised is the standings that are promises, by position and preference alone:
// what a quorum below a majority confirmed is lost if a mirror that holds it is
// passed over because its log hangs.
func promised(standings []Standing) []Standing {
	fenced := slices.DeleteFunc(slices.Clone(standings), func(s Standing) bool { return !s.Fenced })
	slices.SortStableFunc(fenced, func(a, b Standing) int { return b.Position.Compare(a.Position) })
	return fenced
}

// campaign does so when it is this broker's turn.
func (e *Elector) campaign(now time.Time, standings []Standing, waits, clean bool) {
	place := slices.IndexFunc(standings, func(s Standing) bool { return s.Broker == e.config.Self })
	switch {
	case place < 0:
		return
	case waits && clean && standings[place].Position != standings[0].Position:
		// Only one that holds all can follow without loss, if it can at all.
		if clean = false; now.Sub(e.round.opened) < e.config.Timing.Patience {
			return
		}
	}
	switch {
	case e.leaving && !(waits && clean) && slices.ContainsFunc(standings, func(s Standing) bool { return !s.Unfit }):
		return // Else it leads, and hands over at once if it can: all that stop need a leader to the end.
	case now.Before(e.round.ready.Add(time.Duration(place) * e.config.Timing.StandBy)), now.Before(e.round.next):
		return
	case e.local.Role == Candidate && now.Sub(e.round.campaigned) < e.config.Timing.Candidacy && !e.splits(now):
		return // Its votes may wait for an fsync; starting over would lose them.
	}
	term := uint64(0)
	if waits {
		if term = e.round.number; e.local.Term >= term {
			return // outrun will follow.
		}
	}
	e.bid = bid{round: e.round.number, clean: clean, positions: standings}
	e.round.campaigned = now
	e.round.next = now.Add(e.config.Timing.Retry + time.Duration(e.config.Jitter()*float64(e.config.Timing.Retry)))
	e.act(Action{Kind: Campaign, Term: term})
}

// splits says whether another candidate asks for the same term's votes.
func (e *Elector) splits(now time.Time) bool {
	return slices.ContainsFunc(e.voters, func(v voter) bool {
		return v.bids && v.term == e.local.Term && e.agreeing(now, &v)
	})
}

// View is what status shows of a group's election.
type View struct {
	// Leader is the leader that is heard, "" when none is; Term is its term.
	Leader string
	Term   uint64
	// Position is the leader's, as of its last beat; zero where this is the leader.
	Position entry.Position
	// Heard is the leader's last sign of life, or since when none is known.
	Heard time.Time
	// Round is the number of the open round, 0 when there is none; Opened is
	// since when it is.
	Round  uint64
	Opened time.Time
	// Positions are those heard in the open round, best first.
	Positions []Standing
}

// View returns a copy.
func (e *Elector) View() View {
	v := View{Leader: e.leader.name, Term: e.leader.term, Position: e.leader.position, Heard: e.leader.heard}
	if e.round != nil {
		v.Leader = ""
		v.Round, v.Opened = e.round.number, e.round.opened
		v.Positions = e.standings(e.awake)
	}
	return v
}
