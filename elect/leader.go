package elect

import (
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// leader is what is known of the group's leader.
type leader struct {
	// name is "" when none is known; before is then who was the last.
	name, before string
	// term is the highest that is known to have had a leader.
	term uint64
	// position is what its last beat said.
	position entry.Position
	// since is when it became known.
	since time.Time
	// heard is its last sign of life; of nobody's, since when none is known.
	heard time.Time
	// quiet is heard, or the end of a time in which this broker was held up
	// itself. Invariant: quiet >= heard.
	quiet time.Time
	// gone is when the backbone lost its route, zero while it has not or the
	// leader was heard again.
	gone time.Time
	// ordered says that an operator wanted it to lead.
	ordered bool
}

// Beat takes a beat that broker from sent.
func (e *Elector) Beat(now time.Time, from string, beat Beat) {
	e.wakes(now)
	if e.voter(from) != nil && from != e.config.Self && beat.Group == e.config.Group {
		e.hear(now, from, beat.Term)
		if e.leader.name == from && e.leader.term == beat.Term {
			e.leader.position = beat.Position
		}
	}
	e.step(now)
}

// hear takes a sign of life of name as the leader of term.
func (e *Elector) hear(now time.Time, name string, term uint64) {
	switch {
	case term < e.local.Term, term < e.promise, term < e.leader.term:
		return // raft would not listen to it either.
	case term > e.leader.term, e.leader.name == "":
		e.follow(now, name, term)
	case name != e.leader.name:
		return
	case !e.leader.gone.IsZero() && now.Sub(e.leader.gone) < e.config.Timing.Grace:
		return // It was on its way when the route broke.
	}
	e.leader.heard, e.leader.quiet, e.leader.gone = now, now, time.Time{}
	e.close()
}

// missing says whether the leader is gone, or silent for that long.
func (e *Elector) missing(now time.Time, silence time.Duration) bool {
	return !e.leader.gone.IsZero() || now.Sub(e.leader.quiet) >= silence
}

// follow takes name as the leader of term, for as long as a beat may take.
func (e *Elector) follow(now time.Time, name string, term uint64) {
	reason := e.promoted(now, name, term)
	e.leader = leader{name: name, term: term, since: now, heard: now, quiet: now, ordered: reason == Ordered}
	e.close()
}

// resign notes that this broker leads no more, though nobody else is known to.
func (e *Elector) resign(now time.Time) {
	e.leader = leader{before: e.config.Self, term: e.leader.term, since: now, heard: now, quiet: now}
}

// last is who led last, "" when nobody knows.
func (l leader) last() string {
	if l.name != "" {
		return l.name
	}
	return l.before
}
