package elect

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrTransfer is returned by TransferTo when it cannot be.
var ErrTransfer = errors.New("elect: leadership cannot be transferred")

// Gate lets one group at a time move from this broker to its preferred one. It
// is shared by the broker's electors and safe for concurrent use.
type Gate struct {
	mu struct {
		sync.Mutex
		until time.Time
	}
}

// gateHold is how long one group keeps the gate: more than a transfer takes.
const gateHold = time.Second

// take says whether the caller may move its group now.
func (g *Gate) take(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.mu.until) {
		return false
	}
	g.mu.until = now.Add(gateHold)
	return true
}

// handing is a transfer that a leader announced.
type handing struct {
	to     string
	term   uint64 // the leader's
	reason Reason
	at     time.Time
}

// handingCounts is how long an announced transfer explains a change of leader.
const handingCounts = 2 * time.Second

// HandOver begins a planned stop of this broker: where it leads the group,
// leadership is transferred to the most caught-up living mirror, and to the
// next when that fails; and this broker never campaigns again. The others are
// told, so that none hands leadership here. The owner goes on ticking until
// Handed is true, or its own patience ends.
func (e *Elector) HandOver(now time.Time) {
	e.leaving = true
	e.step(now)
}

// Handed says that this broker doesn't lead the group.
func (e *Elector) Handed() bool { return !e.Leads() }

// HasHeirs says whether there is a broker that could take over: one that can be
// reached and is not being stopped as well. Without one a stop needs no patience.
func (e *Elector) HasHeirs() bool {
	return slices.ContainsFunc(e.voters, func(v voter) bool {
		return v.name != e.config.Self && v.up && !v.leaving
	})
}

// TransferTo hands leadership to broker name because an operator wants it. It
// stays there until the leader changes again for another reason, wherever the
// group is preferred to be led.
//
// Errors: ErrTransfer when this broker doesn't lead, or name cannot take over.
func (e *Elector) TransferTo(now time.Time, name string) error {
	v := e.voter(name)
	switch {
	case !e.Leads():
		return fmt.Errorf("%w: %s leads group %d, not %s", ErrTransfer, orNobody(e.leader.name), e.config.Group, e.config.Self)
	case v == nil:
		return fmt.Errorf("%w: %q is no voter of group %d", ErrTransfer, name, e.config.Group)
	case name == e.config.Self:
		return nil
	case v.leaving:
		return fmt.Errorf("%w: %s is being stopped", ErrTransfer, name)
	case !v.living(now):
		return fmt.Errorf("%w: %s is not alive", ErrTransfer, name)
	}
	e.transfer(now, name, Ordered)
	return nil
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// transfer asks raft for it and tells everybody why.
func (e *Elector) transfer(now time.Time, to string, reason Reason) {
	e.handing = handing{to: to, term: e.local.Term, reason: reason, at: now}
	if v := e.voter(to); v != nil {
		v.handed = now
	}
	e.broadcast(Message{Kind: Handing, Term: e.local.Term, Reason: reason, Name: to})
	e.act(Action{Kind: Transfer, To: to})
}

// lead is what a leader does with its time.
func (e *Elector) lead(now time.Time) {
	if !e.handing.at.IsZero() && e.handing.term == e.local.Term && now.Sub(e.handing.at) < e.config.Timing.Handing {
		return
	}
	switch {
	case e.leaving:
		if to := e.heir(now); to != nil {
			e.transfer(now, to.name, HandedOver)
		}
	case e.stuck(now):
		if to := e.heir(now); to != nil {
			e.transfer(now, to.name, Unstuck)
		}
	default:
		e.balance(now)
	}
}

// heir is the mirror to hand leadership to: living, not tried lately, the most
// caught-up, ties by preference. nil when there is none.
func (e *Elector) heir(now time.Time) *voter {
	var best *voter
	bestTried := false
	for i := range e.voters {
		v := &e.voters[i]
		if i == e.self || !v.living(now) {
			continue
		}
		tried := now.Sub(v.handed) < handingCounts
		if best == nil || bestTried && !tried || tried == bestTried && v.match > best.match {
			best, bestTried = v, tried
		}
	}
	return best
}

// activeCounts is how long a mirror counts as active after it was told to be:
// raft forgets who is at each election timeout, and learns anew.
const activeCounts = 500 * time.Millisecond

// living says whether a mirror can take over, as far as a leader knows. One
// that is being stopped itself would only hand it back.
func (v *voter) living(now time.Time) bool {
	return v.up && !v.leaving && now.Sub(v.active) < activeCounts
}

// stuck says whether a mirror has been fenced against this leader for so long
// that it must have been left behind: the others still hear the leader, so no
// round will free it, and the fence cannot be taken back. A change of leader
// raises the term past it.
func (e *Elector) stuck(now time.Time) bool {
	for i := range e.voters {
		v := &e.voters[i]
		if i == e.self || !v.fenced || v.round <= e.local.Term || v.told.IsZero() || now.Sub(v.told) > stuckFresh {
			continue
		}
		if now.Sub(v.fencedSince) >= e.config.Timing.Stuck {
			return true
		}
	}
	return false
}

// stuckFresh is how old a fenced position may be and still count: more than the
// slowest repetition of positions.
const stuckFresh = time.Second

// balance hands leadership to the most preferred broker that is caught up.
func (e *Elector) balance(now time.Time) {
	if e.config.Gate == nil || e.leader.ordered {
		return
	}
	for i := range e.voters {
		v := &e.voters[i]
		if i == e.self {
			return // Nobody before it could take over.
		}
		if v.caughtUp.IsZero() || now.Sub(v.caughtUp) < e.config.Timing.Settled {
			continue
		}
		quiet := e.quiet(now, v)
		if now.Sub(e.leader.since) < quiet || now.Sub(v.handed) < quiet {
			continue
		}
		if e.config.Gate.take(now) {
			e.transfer(now, v.name, Balanced)
		}
		return
	}
}

// quiet is how long the group stays where it is before it goes to v.
func (e *Elector) quiet(now time.Time, v *voter) time.Duration {
	quiet := e.config.Timing.Quiet
	if v.losses == 0 || now.Sub(v.lost) > lossesKept*quiet {
		return quiet
	}
	return quiet << min(v.losses-1, maxDoublings)
}

const (
	lossesKept   = 32 // Quiets after which the losses of a leader are forgotten
	maxDoublings = 4
)

// follows takes what a leader knows of its mirrors. A mirror that is not told of
// keeps its match, but is not active.
func (e *Elector) follows(now time.Time, mirrors []Mirror) {
	for _, m := range mirrors {
		if v := e.voter(m.Name); v != nil {
			v.match = m.Match
			if m.Active {
				v.active = now
			}
		}
	}
	for i := range e.voters {
		v := &e.voters[i]
		switch {
		case !v.living(now) || v.match+caughtUp < e.local.Last.Index:
			v.caughtUp = time.Time{}
		case v.caughtUp.IsZero():
			v.caughtUp = now
		}
	}
}
