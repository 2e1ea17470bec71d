package replicate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// fakeLog is a group's log in memory whose disk obeys the test: what was handed
// over is durable only once sync says so, and a crash loses the rest.
type fakeLog struct {
	floor   entry.Position
	entries []Entry // entries[i] has index floor.Index+1+i; durable
	state   *HardState

	// machine is the state machine's state at the floor, members the group's.
	machine []Entry
	members Members

	waiting []fakeAppend
	failure error

	appends int    // calls of Append
	reads   int    // entries read
	largest int    // bytes of one Read
	lost    int    // entries that a later append discarded
	reached uint64 // the highest index that ever was durable
}

type fakeAppend struct {
	entries []Entry
	state   *HardState
	replace *checkpoint
	done    func(error)
}

// checkpoint is a state at a position, as an owner keeps and sends it.
type checkpoint struct {
	at      entry.Position
	machine []Entry
	members Members
}

func (l *fakeLog) Append(_ entry.GroupID, entries []Entry, state *HardState, done func(error)) {
	if len(entries) == 0 && state == nil {
		panic("an append of nothing")
	}
	if n := len(l.waiting); n > 0 && l.waiting[n-1].replace != nil {
		panic("an append while a checkpoint replaces the log")
	}
	l.appends++
	l.waiting = append(l.waiting, fakeAppend{entries: entries, state: state, done: done})
}

// replace puts a checkpoint in the place of the log, after what waits.
func (l *fakeLog) replace(c checkpoint, done func(error)) {
	l.waiting = append(l.waiting, fakeAppend{replace: &c, done: done})
}

// persist makes the oldest waiting append durable without telling anybody.
func (l *fakeLog) persist() func(error) {
	a := l.waiting[0]
	l.waiting = l.waiting[1:]
	if c := a.replace; c != nil {
		l.floor, l.machine, l.members, l.entries = c.at, c.machine, c.members, nil
		l.reached = max(l.reached, c.at.Index)
		return a.done
	}
	l.floorCheck(a)
	for _, e := range a.entries {
		l.lost += max(0, len(l.entries)-int(e.Index-l.floor.Index-1))
		l.entries = append(l.entries[:e.Index-l.floor.Index-1], e)
	}
	if a.state != nil {
		l.state = a.state
	}
	l.reached = max(l.reached, l.last().Index)
	return a.done
}

func (l *fakeLog) floorCheck(a fakeAppend) {
	for i, e := range a.entries {
		if e.Index <= l.floor.Index || e.Index > l.floor.Index+uint64(len(l.entries)+1+i) {
			panic(fmt.Sprintf("append of entry %d/%d to a log of %v and %d entries", e.Term, e.Index, l.floor, len(l.entries)))
		}
	}
}

// sync makes the n oldest waiting appends durable and reports them; all if n < 0.
func (l *fakeLog) sync(n int) {
	for ; n != 0 && len(l.waiting) > 0; n-- {
		if l.failure != nil {
			a := l.waiting[0]
			l.waiting = l.waiting[1:]
			a.done(l.failure)
			continue
		}
		l.persist()(nil)
	}
}

// crash keeps the kept oldest waiting appends, unreported, and loses the rest.
func (l *fakeLog) crash(kept int) {
	for ; kept > 0 && len(l.waiting) > 0; kept-- {
		l.persist()
	}
	l.waiting = nil
}

// checkpoint raises the floor over applied entries.
func (l *fakeLog) checkpoint(at entry.Position, applied []Entry, members Members) {
	l.entries = slices.Clone(l.entries[at.Index-l.floor.Index:])
	l.floor, l.machine, l.members = at, slices.Clone(applied[:at.Index]), members
}

// newest is the checkpoint at the floor.
func (l *fakeLog) newest() checkpoint { return checkpoint{l.floor, l.machine, l.members} }

// last is the last durable entry.
func (l *fakeLog) last() entry.Position {
	if len(l.entries) == 0 {
		return l.floor
	}
	e := l.entries[len(l.entries)-1]
	return entry.Position{Term: e.Term, Index: e.Index}
}

func (l *fakeLog) Bounds(entry.GroupID) (floor, last entry.Position) { return l.floor, l.last() }

var errFakeBounds = errors.New("fake log: no such entry")

func (l *fakeLog) Term(_ entry.GroupID, index uint64) (uint64, error) {
	if index == l.floor.Index {
		return l.floor.Term, nil
	}
	if index < l.floor.Index || index > l.last().Index {
		return 0, errFakeBounds
	}
	return l.entries[index-l.floor.Index-1].Term, nil
}

func (l *fakeLog) Read(_ entry.GroupID, lo, hi, maxBytes uint64) ([]Entry, error) {
	if l.failure != nil {
		return nil, l.failure
	}
	var read []Entry
	var size uint64
	for i := lo; i < hi; i++ {
		if i <= l.floor.Index || i > l.last().Index {
			return nil, errFakeBounds
		}
		e := l.entries[i-l.floor.Index-1]
		size += uint64(len(e.Payload))
		if size > maxBytes && len(read) > 0 {
			break
		}
		e.Payload = slices.Clone(e.Payload)
		read = append(read, e)
		l.reads++
		if len(read) > 1 {
			l.largest = max(l.largest, int(size))
		}
	}
	return read, nil
}

func (l *fakeLog) HardState(entry.GroupID) (HardState, bool) {
	if l.state == nil {
		return HardState{}, false
	}
	return *l.state, true
}
