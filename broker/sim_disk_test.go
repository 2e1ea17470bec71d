package broker

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// simDisk is a broker's log. What is handed over is seen at once and durable
// with the next sync; a crash loses what was not synced, or a tail of it.
type simDisk struct {
	s       *simulation
	broker  *simBroker
	durable map[entry.GroupID]*simLog
	seen    map[entry.GroupID]*simLog // by the process that runs; nil without

	waiting []simAppend // not synced, in order
	syncing int         // of them
	stalled time.Duration
	broken  bool
}

// simLog is one group's part.
type simLog struct {
	floor   entry.Position
	entries []replicate.Entry // entries[i] has index floor.Index+1+i
	state   *replicate.HardState
	// checkpoint is the state machine at the floor.
	checkpoint []byte
	// bodies are entries at or below the floor, refilled those that wait for their
	// checkpoint.
	bodies, refilled map[uint64]replicate.Entry
	// released are the entries that no message needs; forgotten by a restart.
	released map[uint64]bool
}

type simAppend struct {
	group   entry.GroupID
	entries []replicate.Entry
	state   *replicate.HardState
	// refill says that the entries are of a checkpoint to come; waits that a crash
	// is told, since somebody beside the loops waits for it.
	refill, waits bool
	done          func(error)
	since         time.Duration
}

var errSimDisk = errors.New("the disk broke")

func newSimDisk(s *simulation, b *simBroker) *simDisk {
	return &simDisk{s: s, broker: b, durable: make(map[entry.GroupID]*simLog)}
}

func simLogOf(m map[entry.GroupID]*simLog, g entry.GroupID) *simLog {
	l := m[g]
	if l == nil {
		l = &simLog{bodies: make(map[uint64]replicate.Entry), refilled: make(map[uint64]replicate.Entry), released: make(map[uint64]bool)}
		m[g] = l
	}
	return l
}

// open is a restart: what is durable is what there is.
func (d *simDisk) open() {
	d.waiting, d.syncing, d.broken, d.stalled = nil, 0, false, 0
	d.seen = make(map[entry.GroupID]*simLog)
	for g, l := range d.durable {
		opened := *l
		opened.entries, opened.released = slices.Clone(l.entries), make(map[uint64]bool)
		opened.bodies, opened.refilled = maps.Clone(l.bodies), maps.Clone(l.refilled)
		d.seen[g] = &opened
	}
}

// crash loses what is not synced, or keeps the first records of it.
func (d *simDisk) crash() {
	kept, all := 0, 0
	for _, a := range d.waiting {
		all += len(a.entries)
		if a.state != nil {
			all++
		}
	}
	if all > 0 && d.s.chance(2) {
		kept = d.s.random.IntN(all + 1)
	}
	if 0 < kept && kept < all {
		d.s.counts.torn++
	}
	for _, a := range d.waiting {
		if a.state != nil && kept > 0 {
			simLogOf(d.durable, a.group).state = a.state
			kept--
		}
		n := min(kept, len(a.entries))
		simLogOf(d.durable, a.group).take(a.entries[:n], a.refill)
		kept -= n
	}
	waiting := d.waiting
	d.waiting, d.syncing, d.seen = nil, 0, nil
	for _, a := range waiting {
		if a.waits {
			a.done(errSimDisk)
		}
	}
}

// take appends entries, or keeps them apart for a checkpoint to come.
func (l *simLog) take(entries []replicate.Entry, refill bool) {
	if !refill {
		l.put(entries)
		return
	}
	for _, e := range entries {
		l.refill(e)
	}
}

// put appends entries, which discard what they replace.
func (l *simLog) put(entries []replicate.Entry) {
	for _, e := range entries {
		if e.Index <= l.floor.Index || e.Index > l.floor.Index+uint64(len(l.entries))+1 {
			panic(fmt.Sprintf("append of entry %d/%d to a log of %v and %d entries", e.Term, e.Index, l.floor, len(l.entries)))
		}
		l.entries = append(l.entries[:e.Index-l.floor.Index-1], e)
	}
}

func (l *simLog) last() entry.Position {
	if len(l.entries) == 0 {
		return l.floor
	}
	e := l.entries[len(l.entries)-1]
	return entry.Position{Term: e.Term, Index: e.Index}
}

// pending is what log.Log.Pending tells.
func (d *simDisk) pending() (time.Time, bool) {
	if len(d.waiting) == 0 {
		return time.Time{}, false
	}
	return simStart.Add(d.waiting[0].since), true
}

// sync begins to make durable what waits, unless that is under way.
func (d *simDisk) sync() {
	if d.syncing > 0 || len(d.waiting) == 0 {
		return
	}
	d.syncing = len(d.waiting)
	took := d.s.between(100*time.Microsecond, 3*time.Millisecond)
	if !d.s.calm && d.s.chance(50) {
		took += d.s.between(0, 40*time.Millisecond)
	}
	if wait := d.stalled - d.s.now; !d.s.calm && wait > 0 {
		took += wait
	}
	d.broker.process.later(took, d.synced)
}

func (d *simDisk) synced() {
	done := slices.Clone(d.waiting[:d.syncing])
	var err error
	if d.broken {
		err, done = errSimDisk, slices.Clone(d.waiting) // It is final.
	}
	d.waiting, d.syncing = slices.Delete(d.waiting, 0, len(done)), 0
	for _, a := range done {
		if err == nil {
			l := simLogOf(d.durable, a.group)
			if a.state != nil {
				l.state = a.state
			}
			l.take(a.entries, a.refill)
		}
		a.done(err)
	}
	d.sync()
}

// simGroupLog gives it to replicate.
type simGroupLog struct{ disk *simDisk }

func (g simGroupLog) Append(group entry.GroupID, entries []replicate.Entry, state *replicate.HardState, done func(error)) {
	d := g.disk
	l := simLogOf(d.seen, group)
	l.put(entries)
	if state != nil {
		l.state = state
	}
	d.waiting = append(d.waiting, simAppend{group: group, entries: slices.Clone(entries), state: state, done: done, since: d.s.now})
	d.sync()
}

func (g simGroupLog) Bounds(group entry.GroupID) (floor, last entry.Position) {
	l := simLogOf(g.disk.seen, group)
	return l.floor, l.last()
}

func (g simGroupLog) Term(group entry.GroupID, index uint64) (uint64, error) {
	l := simLogOf(g.disk.seen, group)
	if index == l.floor.Index {
		return l.floor.Term, nil
	}
	if index < l.floor.Index || index > l.last().Index {
		return 0, errSimBounds
	}
	return l.entries[index-l.floor.Index-1].Term, nil
}

func (g simGroupLog) Read(group entry.GroupID, lo, hi, maxBytes uint64) ([]replicate.Entry, error) {
	// It may be called beside the loops, and by a process that has died.
	g.disk.s.beside()
	defer g.disk.s.besides()
	if g.disk.seen == nil {
		return nil, errSimDead
	}
	l := simLogOf(g.disk.seen, group)
	var read []replicate.Entry
	var size uint64
	for i := lo; i < hi; i++ {
		if i <= l.floor.Index || i > l.last().Index {
			return nil, errSimBounds
		}
		e := l.entries[i-l.floor.Index-1]
		if size += uint64(len(e.Payload)); size > maxBytes && len(read) > 0 {
			break
		}
		e.Payload = bytes.Clone(e.Payload)
		read = append(read, e)
	}
	return read, nil
}

func (g simGroupLog) HardState(group entry.GroupID) (replicate.HardState, bool) {
	if l := simLogOf(g.disk.seen, group); l.state != nil {
		return *l.state, true
	}
	return replicate.HardState{}, false
}
