package elect

import (
	"slices"
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
	// Fence is the term below which this member refuses leaders, durably, as the
	// action Fence asked for: nothing that they send comes after Last any more.
	Fence uint64
	// OldestWrite is since when the log's oldest write waits for its fsync;
	// zero when none does.
	OldestWrite time.Time
	// SmallestQuorum is the smallest ack quorum in use in the group. Rounds wait
	// for positions when 1 < SmallestQuorum < majority; 0 when it is not known.
	SmallestQuorum int
	// Mirrors is what a leader knows of the others; it may lack some. It may be
	// changed after State returns.
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

// voter is a member of the group as this broker sees it; this broker too.
type voter struct {
	name string
	// up is what the backbone said last; leaving says that it has begun to stop
	// since then: it hands on whatever it is given.
	up, leaving bool

	// What it said last in a round; told is when, zero when it counts no more.
	told                       time.Time
	round, term                uint64
	last                       entry.Position
	fenced, waits, unfit, bids bool
	fencedSince                time.Time
	// hearing is when it last said that it hears a leader.
	hearing time.Time

	// What a leader knows of it. active is when it last was; caughtUp is since
	// when it lives and lacks little, zero when it doesn't; handed is when
	// leadership was transferred to it.
	match                    uint64
	active, caughtUp, handed time.Time

	// losses is how often it was lost as the leader, and lost when last.
	losses int
	lost   time.Time
}

// stall is a time without any input after which this broker was itself held up,
// and can't blame the leader for a silence. Owners tick more often than that.
const stall = 150 * time.Millisecond

// drains is how long it takes after a stall to hand in what waited.
const drains = 20 * time.Millisecond

// Elector decides for one group on one broker. One goroutine owns it.
type Elector struct {
	config Config
	voters []voter
	// self is this broker's place among the voters, -1 when it is none.
	self  int
	local Local
	// awake is when the last input came; stale is until when, after a stall, what
	// comes may have waited for long.
	awake, stale time.Time

	leader leader
	// promise is what the action Fence asked for last; refused is the term below
	// which leaders are not listened to, which may be higher while a round lasts.
	// Invariant: promise <= refused.
	promise, refused uint64
	round            *round
	// bid is the last campaign.
	bid bid
	// handing is the last transfer that was announced, here or by a leader.
	handing handing
	// leaving says that this broker is being stopped; the others were told at left.
	leaving bool
	left    time.Time
	// account is a promotion seen here that waits for its leader's own account
	// until due; told is one that came before the leader was seen.
	account *Promotion
	due     time.Time
	told    *Promotion

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
	e := &Elector{config: config, awake: now, leader: leader{heard: now, quiet: now}}
	e.setVoters(config.Voters)
	return e, nil
}

func (e *Elector) setVoters(names []string) {
	before := e.voters
	e.voters = make([]voter, len(names))
	e.self = slices.Index(names, e.config.Self)
	for i, name := range names {
		e.voters[i].name = name
		if was := slices.IndexFunc(before, func(v voter) bool { return v.name == name }); was >= 0 {
			e.voters[i] = before[was]
		}
	}
}

// SetVoters changes the members, the preferred leader first. A new one is down
// until PeerUp.
//
// Errors: ErrConfig.
func (e *Elector) SetVoters(now time.Time, voters []string) error {
	if err := validVoters(voters); err != nil {
		return err
	}
	e.setVoters(voters)
	e.step(now)
	return nil
}

// State tells of this broker's state in the group. The owner calls it whenever
// raft may have changed it, before other inputs of the same moment, and at each
// tick.
func (e *Elector) State(now time.Time, local Local) {
	e.wakes(now)
	mirrors := local.Mirrors
	local.Mirrors = nil
	e.local = local
	switch {
	case local.Role == Leader && local.Term >= e.leader.term:
		if e.leader.name != e.config.Self || e.leader.term != local.Term {
			e.follow(now, e.config.Self, local.Term)
		}
		e.leader.heard, e.leader.quiet = now, now
		e.follows(now, mirrors)
	case e.leader.name == e.config.Self:
		e.resign(now)
	}
	if local.Role != Leader && local.Leader != "" && local.Leader != e.config.Self && local.Term >= e.promise &&
		(local.Term > e.leader.term || local.Term == e.leader.term && e.leader.name == "") {
		e.follow(now, local.Leader, local.Term)
	}
	e.step(now)
}

// Tick lets time pass. The owner calls it every 10 to 50 ms, or by Wake, and
// hands in first what came from other brokers.
func (e *Elector) Tick(now time.Time) {
	e.wakes(now)
	e.step(now)
}

// wakes notes an input. After a time without any, the silence of others proves
// nothing: what they sent may lie in a queue that this broker didn't read.
func (e *Elector) wakes(now time.Time) {
	if gap := now.Sub(e.awake); gap > stall {
		e.leader.quiet, e.stale = now, now.Add(drains)
		for i := range e.voters {
			e.voters[i].caughtUp = time.Time{}
		}
	}
	e.awake = now
}

// Wake is when Tick must be called at the latest for the timing to hold.
func (e *Elector) Wake() time.Time {
	wake := e.awake.Add(BeatInterval)
	if e.round != nil {
		wake = e.awake.Add(5 * time.Millisecond)
	} else if silence := e.leader.quiet.Add(e.config.Timing.Silence); !e.Leads() && silence.Before(wake) {
		wake = silence
	}
	return wake
}

// step does what is due.
func (e *Elector) step(now time.Time) {
	if e.account != nil && !now.Before(e.due) {
		e.record(*e.account)
	}
	if e.leaving && e.self >= 0 && now.Sub(e.left) >= BeatInterval {
		e.left = now
		e.broadcast(Message{Kind: Leaving, Term: e.local.Term})
	}
	switch {
	case e.self < 0:
		e.close() // A learner only listens.
	case e.Leads():
		e.lead(now)
	case e.local.Role == Leader:
		// Another leads a higher term: raft will learn of it.
	case e.round != nil:
		e.decide(now)
	case e.missing(now, e.config.Timing.Silence):
		e.open(now, 0)
		e.decide(now)
	}
}

// Receive takes a message that broker from sent.
func (e *Elector) Receive(now time.Time, from string, m Message) {
	e.wakes(now)
	v := e.voter(from)
	if v == nil || from == e.config.Self || m.Group != e.config.Group {
		return
	}
	switch m.Kind {
	case Missing:
		if !now.Before(e.stale) { // else it may be from another time; it will be repeated
			e.hearMissing(now, v, m)
		}
	case Hearing:
		if m.Name == from {
			e.hear(now, from, m.Term)
		}
		v.hearing, v.told = now, time.Time{}
	case Handing:
		e.handing = handing{to: m.Name, term: m.Term, reason: m.Reason, at: now}
		v.leaving = v.leaving || m.Reason == HandedOver
	case Leaving:
		v.leaving = true
	case Leading:
		e.hearAccount(now, from, m)
	}
	e.step(now)
}

// PeerUp tells that the backbone reaches a broker.
func (e *Elector) PeerUp(now time.Time, name string) {
	e.wakes(now)
	if v := e.voter(name); v != nil && !v.up {
		v.up, v.leaving = true, false
		if e.round != nil && name != e.config.Self {
			e.send(name, e.missingMessage(now))
		}
	}
	e.step(now)
}

// PeerDown tells that the backbone lost a broker's route, or that it announced
// its stop.
func (e *Elector) PeerDown(now time.Time, name string) {
	e.wakes(now)
	if v := e.voter(name); v != nil {
		v.up, v.leaving, v.told, v.fenced, v.hearing = false, false, time.Time{}, false, time.Time{}
	}
	if name == e.leader.name && name != e.config.Self {
		e.leader.gone = now
	}
	e.step(now)
}

// Actions appends to dst what is to be done since the last call, and forgets it.
func (e *Elector) Actions(dst []Action) []Action {
	dst = append(dst, e.actions...)
	clear(e.actions)
	e.actions = e.actions[:0]
	return dst
}

// Leads says that this broker leads the group, and has not heard of a leader of
// a higher term: one that was paused may hear of its successor here first. Only
// then it may beat, confirm and deliver.
func (e *Elector) Leads() bool { return e.local.Role == Leader && e.leader.name == e.config.Self }

// Refuses is the term below which appends, heartbeats and snapshots are to be
// kept from raft, 0 when none are. While a majority agrees that a leader is lost
// its messages only disturb the election: each ends a candidacy here and moves
// the position. Unlike a Fence it is taken back when the leader is heard again.
func (e *Elector) Refuses() uint64 { return e.refused }

// HoldTicks says that the owner must not Tick raft: its own timeout would elect
// a mirror that has not heard enough positions.
func (e *Elector) HoldTicks() bool { return e.local.Role != Leader && e.waits() }

func (e *Elector) voter(name string) *voter {
	for i := range e.voters {
		if e.voters[i].name == name {
			return &e.voters[i]
		}
	}
	return nil
}

// majority is how many votes elect.
func (e *Elector) majority() int { return len(e.voters)/2 + 1 }

// unfit says that this broker should not lead: its log hangs, or it is leaving.
func (e *Elector) unfit(now time.Time) bool {
	return e.leaving || hangs(now, e.local.OldestWrite, e.config.Timing.Hang)
}
