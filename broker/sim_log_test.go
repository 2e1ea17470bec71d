package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/replicate"
)

// simCheckpoints is what checkpoints need of a process's log: what the
// documentation of package log promises. Its methods are called beside the loops.
type simCheckpoints struct{ p *simProcess }

var errSimDead = errors.New("the process is dead")

// enter begins a call; log is nil for a process that has died.
func (c simCheckpoints) enter(g entry.GroupID) *simLog {
	c.p.s.beside()
	if c.p.dead {
		return nil
	}
	return simLogOf(c.p.of.disk.seen, g)
}

func (c simCheckpoints) leave() { c.p.s.besides() }

func (c simCheckpoints) Bounds(g entry.GroupID) (first, last entry.Position, ok bool) {
	defer c.leave()
	if l := c.enter(g); l != nil {
		return entry.Position{}, l.last(), true
	}
	return entry.Position{}, entry.Position{}, false
}

func (c simCheckpoints) Floor(g entry.GroupID) (floor entry.Position) {
	defer c.leave()
	if l := c.enter(g); l != nil {
		floor = l.floor
	}
	return floor
}

func (c simCheckpoints) HardState(g entry.GroupID) (state log.HardState, ok bool) {
	defer c.leave()
	if l := c.enter(g); l != nil && l.state != nil {
		return log.HardState{Term: l.state.Term, Vote: l.state.Vote, Commit: l.state.Commit}, true
	}
	return log.HardState{}, false
}

func (c simCheckpoints) ReadEntry(g entry.GroupID, index uint64, _ []byte) (log.Entry, error) {
	defer c.leave()
	if l := c.enter(g); l != nil {
		if e, ok := l.readable(index); ok {
			return log.Entry{Term: e.Term, Index: e.Index, Kind: e.Kind, Payload: bytes.Clone(e.Payload)}, nil
		}
	}
	return log.Entry{}, log.ErrNotFound
}

func (c simCheckpoints) LiveEntries(g entry.GroupID, after, upto uint64, fn func(uint64) bool) {
	for _, i := range c.live(g, after, upto) {
		if !fn(i) {
			return
		}
	}
}

func (c simCheckpoints) live(g entry.GroupID, after, upto uint64) (live []uint64) {
	defer c.leave()
	l := c.enter(g)
	if l == nil {
		return nil
	}
	live = slices.AppendSeq(live, maps.Keys(l.bodies))
	for _, e := range l.entries {
		live = append(live, e.Index)
	}
	live = slices.DeleteFunc(live, func(i uint64) bool { return i <= after || i > upto || l.released[i] })
	slices.Sort(live)
	return live
}

func (c simCheckpoints) Refill(g entry.GroupID, entries []log.Entry, done func(error)) {
	defer c.leave()
	l := c.enter(g)
	if l == nil {
		done(errSimDead)
		return
	}
	var lacking []replicate.Entry
	for _, e := range entries {
		if l.lacks(e.Index) {
			lacking = append(lacking, replicate.Entry{Term: e.Term, Index: e.Index, Kind: e.Kind, Payload: bytes.Clone(e.Payload)})
		}
	}
	l.take(lacking, true)
	c.post(simAppend{group: g, entries: lacking, refill: true, waits: true, done: done})
}

// post hands something to the disk before the next event.
func (c simCheckpoints) post(a simAppend) {
	c.p.s.posted.post(fmt.Sprint(c.p.of.name, a.group, a.refill), func() {
		if c.p.dead {
			a.done(errSimDead)
			return
		}
		d := c.p.of.disk
		a.since = d.s.now
		d.waiting = append(d.waiting, a)
		d.sync()
	})
}

// Checkpoint waits for what was written before and then a while, as a file that
// is written does, and takes effect at once.
func (c simCheckpoints) Checkpoint(g entry.GroupID, at entry.Position, write func(io.Writer) error) error {
	var state bytes.Buffer
	if err := write(&state); err != nil {
		return err
	}
	done := make(chan error, 1)
	c.begin(g, at, state.Bytes(), done)
	return <-done
}

func (c simCheckpoints) begin(g entry.GroupID, at entry.Position, state []byte, done chan error) {
	defer c.leave()
	if c.enter(g) == nil {
		done <- errSimDead
		return
	}
	p := c.p
	c.post(simAppend{group: g, waits: true, done: func(err error) {
		if err != nil {
			done <- err
			return
		}
		p.files[done] = struct{}{}
		p.later(p.s.between(100*time.Microsecond, 20*time.Millisecond), func() { p.written(done, c.install(g, at, state)) })
	}})
}

// written ends a checkpoint.
func (p *simProcess) written(done chan error, err error) {
	delete(p.files, done)
	done <- err
}

// install is the rename.
func (c simCheckpoints) install(g entry.GroupID, at entry.Position, state []byte) error {
	d := c.p.of.disk
	if d.broken {
		return errSimDisk
	}
	seen := simLogOf(d.seen, g)
	if at.Index < seen.floor.Index || at.Index == seen.floor.Index && at != seen.floor {
		return fmt.Errorf("checkpoint at %v lies behind the floor %v", at, seen.floor)
	}
	continues := seen.has(at)
	c.p.s.tell("%s: checkpoint of group %d at %v, continues %v", c.p.of.name, g, at, continues)
	if continues {
		c.p.s.counts.checkpoints++
	} else {
		c.p.s.counts.installed++
	}
	for _, l := range []*simLog{simLogOf(d.durable, g), seen} {
		if continues {
			l.raise(at, state)
		} else {
			l.replace(at, state)
		}
	}
	return nil
}

// has reports whether an entry is there, with its term.
func (l *simLog) has(at entry.Position) bool {
	if at == l.floor {
		return true
	}
	return at.Index > l.floor.Index && at.Index <= l.last().Index && l.entries[at.Index-l.floor.Index-1].Term == at.Term
}

// held is an entry with its body, wherever it lies.
func (l *simLog) held(index uint64) (replicate.Entry, bool) {
	if index > l.floor.Index && index <= l.last().Index {
		return l.entries[index-l.floor.Index-1], true
	}
	e, ok := l.bodies[index]
	return e, ok
}

// readable is an entry that can be read: what was refilled can, too.
func (l *simLog) readable(index uint64) (replicate.Entry, bool) {
	e, ok := l.held(index)
	if !ok {
		e, ok = l.refilled[index]
	}
	return e, ok
}

// lacks reports whether an entry would be missing after a checkpoint beyond it.
func (l *simLog) lacks(index uint64) bool {
	if _, there := l.refilled[index]; there {
		return false
	}
	_, held := l.held(index)
	return !held || l.released[index] || index > l.committed()
}

func (l *simLog) committed() uint64 {
	if l.state == nil {
		return l.floor.Index
	}
	return max(l.state.Commit, l.floor.Index)
}

func (l *simLog) refill(e replicate.Entry) {
	if e.Index > l.floor.Index {
		l.refilled[e.Index] = e
	} else if _, held := l.held(e.Index); !held {
		l.bodies[e.Index] = e
	}
}

// raise raises the floor over entries that the group has.
func (l *simLog) raise(at entry.Position, state []byte) {
	l.bury(at.Index)
	l.floor, l.checkpoint = at, state
	maps.DeleteFunc(l.refilled, func(i uint64, _ replicate.Entry) bool { return i <= at.Index })
}

// bury moves entries below a floor to be; what was released is compacted away.
func (l *simLog) bury(upto uint64) {
	n := min(upto, l.last().Index) - l.floor.Index
	for _, e := range l.entries[:n] {
		l.bodies[e.Index] = e
	}
	l.entries = slices.Clone(l.entries[n:])
	maps.DeleteFunc(l.bodies, func(i uint64, _ replicate.Entry) bool { return l.released[i] })
}

// replace puts a checkpoint in the place of the log: what the group holds past
// its commit is discarded, what was refilled takes its place.
func (l *simLog) replace(at entry.Position, state []byte) {
	from := min(l.committed(), at.Index) + 1
	if from <= l.last().Index {
		l.entries = l.entries[:from-l.floor.Index-1]
	}
	l.bury(at.Index)
	l.entries = nil
	l.floor, l.checkpoint = at, state
	for i, e := range l.refilled {
		if i <= at.Index {
			if _, held := l.bodies[i]; !held {
				l.bodies[i] = e
			}
			delete(l.refilled, i)
		}
	}
}

// simBodies are the bodies of a group on one broker.
type simBodies struct {
	process *simProcess
	group   entry.GroupID
	ring    *replicate.Ring
}

func (b *simBodies) log() *simLog { return simLogOf(b.process.of.disk.seen, b.group) }

var (
	errSimReleased = errors.New("the entry was released")
	errSimBounds   = errors.New("no such entry")
)

func (b *simBodies) recent(index uint64) ([]byte, bool) {
	if b.process.dead || b.log().released[index] {
		return nil, false // The ring may have it; who needs it is wrong all the same.
	}
	return b.ring.Get(index)
}

func (b *simBodies) read(index uint64, _ []byte) ([]byte, error) {
	if b.process.dead {
		return nil, errSimDead
	}
	l := b.log()
	if l.released[index] {
		return nil, errSimReleased
	}
	if e, ok := l.readable(index); ok {
		return e.Payload, nil
	}
	return nil, errSimBounds
}

func (b *simBodies) release(indexes []uint64) {
	for _, i := range indexes {
		b.log().released[i] = true
	}
}

func (b *simBodies) retain(live func(uint64) bool) {
	l, upto := b.log(), b.process.broker.groups[b.group].state.Applied()
	for i := range l.bodies {
		if i <= upto && !live(i) {
			l.released[i] = true
		}
	}
	for _, e := range l.entries {
		if e.Index <= upto && !live(e.Index) {
			l.released[e.Index] = true
		}
	}
}
