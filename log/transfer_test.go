package log

import (
	"fmt"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// transfer is a checkpoint with its live entries on its way to the player's
// log. While there is one, the group's own log may go on, in terms that the
// leader's has left behind, and commits nothing.
type transfer struct {
	at      entry.Position
	entries map[uint64]twinEntry // the leader's, after what was committed here
	live    []uint64
}

// transfer does a step of some group's.
func (p *player) transfer() {
	id := entry.GroupID(p.random.IntN(3))
	t := p.transfers[id]
	switch {
	case t == nil:
		p.settle()
		p.transfers[id] = &transfer{entries: map[uint64]twinEntry{}}
		p.extend(id)
	case p.random.IntN(12) == 0: // cut short; another comes
		p.extend(id)
	case p.random.IntN(16) == 0:
		p.overtake(id)
	case !p.refill(id):
		p.settle()
		p.install(id)
	}
}

// extend has the transfer be of a later checkpoint.
func (p *player) extend(id entry.GroupID) {
	g, t := p.current().group(id), p.transfers[id]
	next := max(t.at.Index, g.committed()) + 1
	term := t.at.Term + 1
	if t.at.Index == 0 {
		// Here the leader's log may go on as our own, up to some point.
		for n := p.random.Uint64N(6); n > 0 && next <= g.last; n-- {
			t.entries[next] = g.entries[next]
			t.at = entry.Position{Term: g.entries[next].term, Index: next}
			next++
		}
		term = (max(1, g.entries[g.last].term, g.floor.Term)/1000 + 1) * 1000
	}
	for n := p.random.Uint64N(30); n > 0 || t.at.Index == 0; n-- {
		t.entries[next] = twinEntry{term, 24 + p.random.IntN(300)}
		t.at = entry.Position{Term: term, Index: next}
		next++
		n = max(n, 1)
	}
	t.live = nil
	for i := uint64(1); i <= t.at.Index; i++ {
		if _, ours := g.entries[i]; ours && i <= g.committed() && g.released[i] {
			continue
		} else if _, theirs := t.entries[i]; (theirs || ours && i <= g.committed()) && p.random.IntN(3) == 0 {
			t.live = append(t.live, i)
		}
	}
}

// refill brings some of what is missing; false when nothing is.
func (p *player) refill(id entry.GroupID) bool {
	g, t := p.current().group(id), p.transfers[id]
	var list []Entry
	var writes []write
	for _, k := range p.random.Perm(len(t.live)) {
		i := t.live[k]
		e, theirs := t.entries[i]
		if !theirs {
			e = g.entries[i] // is skipped
		} else if _, there := g.refilled[i]; there && p.random.IntN(4) > 0 {
			continue
		}
		list = append(list, Entry{Term: e.term, Index: i, Payload: body(id, e.term, i, e.size)})
		writes = append(writes, write{group: id, index: i, entry: e, refill: true})
		if len(list) == 8 {
			break
		}
	}
	missing := slices.ContainsFunc(writes, func(w write) bool {
		_, theirs := t.entries[w.index]
		_, there := g.refilled[w.index]
		return theirs && !there
	})
	done, ready := p.expect(writes)
	p.log.Refill(id, list, done)
	if p.random.IntN(3) > 0 {
		<-ready
	}
	return missing
}

// install has the transfer end as it should.
func (p *player) install(id entry.GroupID) {
	g, t := p.done.group(id), p.transfers[id]
	state := fmt.Sprintf("sent to %d at %v", id, t.at)
	p.locked(func() {
		p.states[fmt.Sprint(id, t.at.Index)] = state
		p.pending = []write{{group: id, install: &t.at}}
	})
	mustCheckpoint(p.t, p.log, id, t.at.Term, t.at.Index, state)
	wantCheckpoint(p.t, p.log, id, t.at.Term, t.at.Index, state)
	p.locked(func() {
		p.done.apply(p.pending[0])
		p.pending = nil
	})
	if d := p.done.differs(p.log); d != "" {
		p.t.Fatal(d)
	}
	p.locked(func() {
		for i := range g.entries {
			if _, theirs := t.entries[i]; theirs && i <= t.at.Index && !slices.Contains(t.live, i) {
				g.released[i] = true
			}
		}
	})
	p.log.Retain(id, func(i uint64) bool { _, there := g.entries[i]; return there && !g.released[i] })
	p.transfers[id] = nil
	p.installed++
	p.exact()
}

// overtake has the leader send its log after all.
func (p *player) overtake(id entry.GroupID) {
	g, t := p.current().group(id), p.transfers[id]
	var list []Entry
	var writes []write
	for i := g.committed() + 1; i <= t.at.Index; i++ {
		e := t.entries[i]
		list = append(list, Entry{Term: e.term, Index: i, Payload: body(id, e.term, i, e.size)})
		writes = append(writes, write{group: id, index: i, entry: e})
	}
	h := HardState{Term: t.at.Term, Vote: 1, Commit: t.at.Index}
	writes = append(writes, write{group: id, hard: &h})
	done, ready := p.expect(writes)
	p.log.Append(Append{Group: id, Entries: list, HardState: &h, Done: done})
	<-ready
	p.transfers[id] = nil
}
