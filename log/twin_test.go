package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// twin is a dumb model of the log: a list of everything that was written, and
// what it amounts to.
type twin struct {
	groups map[entry.GroupID]*twinGroup
}

type twinGroup struct {
	floor    entry.Position
	entries  map[uint64]twinEntry // above the floor, and below it while not released
	last     uint64
	hard     HardState
	released map[uint64]bool
	refilled map[uint64]twinEntry // above the floor, for a checkpoint to come
}

// committed is up to where the group's own entries are final.
func (g *twinGroup) committed() uint64 { return max(g.hard.Commit, g.floor.Index) }

// live are the entries whose bodies are needed.
func (g *twinGroup) live() (list []uint64) {
	for i := range g.entries {
		if !g.released[i] {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	return list
}

type twinEntry struct {
	term uint64
	size int
}

// write is one record's worth of change, so that a crash falls between two.
type write struct {
	group entry.GroupID
	index uint64
	entry twinEntry
	hard  *HardState

	refill  bool            // of the entry
	install *entry.Position // of a checkpoint that a leader has sent
}

func newTwin() *twin { return &twin{groups: map[entry.GroupID]*twinGroup{}} }

func (w *twin) group(id entry.GroupID) *twinGroup {
	g := w.groups[id]
	if g == nil {
		g = &twinGroup{entries: map[uint64]twinEntry{}, released: map[uint64]bool{}, refilled: map[uint64]twinEntry{}}
		w.groups[id] = g
	}
	return g
}

func (w *twin) apply(x write) {
	g := w.group(x.group)
	if x.hard != nil {
		g.hard = *x.hard
		return
	}
	if x.install != nil {
		g.install(*x.install)
		return
	}
	if x.refill {
		g.refill(x.index, x.entry)
		return
	}
	for i := x.index; i <= g.last; i++ {
		delete(g.entries, i)
		delete(g.released, i)
	}
	g.entries[x.index] = x.entry
	g.last = x.index
}

func (g *twinGroup) refill(i uint64, e twinEntry) {
	_, again := g.refilled[i]
	_, own := g.entries[i]
	switch {
	case again || own && i <= g.committed() && !g.released[i]:
	case i <= g.floor.Index:
		g.entries[i] = e
		delete(g.released, i)
	default:
		g.refilled[i] = e
	}
}

// raise moves the floor; what was refilled below it is not needed.
func (g *twinGroup) raise(at entry.Position) {
	g.floor = at
	maps.DeleteFunc(g.refilled, func(i uint64, _ twinEntry) bool { return i <= at.Index })
}

func (g *twinGroup) install(at entry.Position) {
	if at.Index <= g.last && g.entries[at.Index].term == at.Term {
		g.raise(at)
		return
	}
	for i := g.committed() + 1; i <= g.last; i++ {
		delete(g.entries, i)
		delete(g.released, i)
	}
	for i, e := range g.refilled {
		if _, own := g.entries[i]; i <= at.Index && (!own || g.released[i]) {
			g.entries[i] = e
			delete(g.released, i)
		}
	}
	g.last = at.Index
	g.raise(at)
}

func (w *twin) clone() *twin {
	c := newTwin()
	for id, g := range w.groups {
		d := *g
		d.entries, d.released = maps.Clone(g.entries), maps.Clone(g.released)
		d.refilled = maps.Clone(g.refilled)
		c.groups[id] = &d
	}
	return c
}

// differs says where a log is not what the twin is, "" if it is. Commits are
// advisory: only term and vote count.
func (w *twin) differs(l *Log) string {
	for id, g := range w.groups {
		_, last, ok := l.Bounds(id)
		if !ok {
			if len(g.entries) == 0 && g.hard == (HardState{}) && g.floor.Index == 0 {
				continue
			}
			return fmt.Sprintf("group %d is unknown", id)
		}
		floor := l.Floor(id)
		if floor.Index < g.floor.Index {
			return fmt.Sprintf("group %d: floor %v, want %v", id, floor, g.floor)
		}
		if last.Index != max(g.last, floor.Index) {
			return fmt.Sprintf("group %d: last %v, want %d", id, last, g.last)
		}
		if h, _ := l.HardState(id); h.Term != g.hard.Term || h.Vote != g.hard.Vote {
			return fmt.Sprintf("group %d: hard state %v, want %v", id, h, g.hard)
		}
		for i, e := range g.entries {
			b, err := l.Read(id, i, nil)
			if errors.Is(err, ErrNotFound) && g.released[i] && i <= floor.Index {
				continue
			}
			if err != nil || !bytes.Equal(b, body(id, e.term, i, e.size)) {
				return fmt.Sprintf("group %d: entry %d: %v: %x, want term %d, %d bytes, want %d, floor %v, last %d, released %v", id, i, err, b[:min(16, len(b))], e.term, len(b), e.size, floor, last.Index, g.released[i])
			}
			if term, err := l.Term(id, i); i >= floor.Index && (err != nil || term != e.term) {
				return fmt.Sprintf("group %d: term of %d is %d, want %d: %v", id, i, term, e.term, err)
			}
		}
		for i, e := range g.refilled {
			if _, own := g.entries[i]; own {
				continue
			}
			if b, err := l.Read(id, i, nil); err != nil || !bytes.Equal(b, body(id, e.term, i, e.size)) {
				return fmt.Sprintf("group %d: refilled entry %d: %v", id, i, err)
			}
		}
		i := floor.Index
		err := l.ReadRange(id, i+1, last.Index, func(e Entry) error {
			if i++; e.Index != i || e.Term != g.entries[i].term || !bytes.Equal(e.Payload, body(id, e.Term, i, len(e.Payload))) {
				return fmt.Errorf("entry %d is %d/%d", i, e.Term, e.Index)
			}
			return nil
		})
		if err != nil || i != last.Index {
			return fmt.Sprintf("group %d: ReadRange to %d of %d: %v", id, i, last.Index, err)
		}
	}
	return ""
}

// player plays random operations on a log and its twin, and power failures on
// copies of its directory.
type player struct {
	t      *testing.T
	random *rand.Rand
	dir    string
	log    *Log
	files  *faultFiles
	o      Options

	// Guarded by files.mu, since crashes look at it: the twin as of the last
	// append that is done, and the writes that are under way after it.
	done    *twin
	pending []write
	states  map[string]string // checkpoint state that may be found, by group/index

	transfers map[entry.GroupID]*transfer
	installed int

	crashes int
	moved   uint64
}

func (p *player) locked(fn func()) {
	p.files.mu.Lock()
	defer p.files.mu.Unlock()
	fn()
}

// current is the twin with everything that was appended.
func (p *player) current() *twin {
	var c *twin
	p.locked(func() {
		c = p.done.clone()
		for _, w := range p.pending {
			c.apply(w)
		}
	})
	return c
}

func (p *player) append() {
	id := entry.GroupID(p.random.IntN(3))
	g := p.current().group(id)
	var list []Entry
	first := g.last + 1
	term := max(1, g.entries[g.last].term, g.floor.Term)
	if p.random.IntN(6) == 0 {
		term++
	}
	if p.random.IntN(8) == 0 && g.last > g.committed() { // a conflict, of a new term
		first = g.committed() + 1 + p.random.Uint64N(g.last-g.committed())
		term++
	}
	var writes []write
	for k := range uint64(p.random.IntN(4)) {
		size := 24 + p.random.IntN(300)
		if p.random.IntN(40) == 0 {
			size = 2*small + p.random.IntN(small)
		}
		list = append(list, Entry{Term: term, Index: first + k, Payload: body(id, term, first+k, size)})
		writes = append(writes, write{group: id, index: first + k, entry: twinEntry{term, size}})
	}
	a := Append{Group: id, Entries: list}
	if len(list) == 0 || p.random.IntN(4) == 0 {
		h := HardState{Term: term, Vote: p.random.Uint64N(3), Commit: g.committed()}
		if p.transfers[id] == nil {
			h.Commit += p.random.Uint64N(first - h.Commit)
		}
		a.HardState = &h
		writes = append(writes, write{group: id, hard: &h})
	}
	var ready <-chan struct{}
	a.Done, ready = p.expect(writes)
	p.log.Append(a)
	if p.random.IntN(3) > 0 {
		<-ready
	}
}

// expect notes writes that are under way from here on, until done is called.
func (p *player) expect(writes []write) (done func(error), ready <-chan struct{}) {
	p.locked(func() { p.pending = append(p.pending, writes...) })
	told := make(chan struct{})
	return func(err error) {
		if err != nil {
			p.t.Error(err)
		}
		p.locked(func() {
			for _, w := range writes {
				p.done.apply(w)
			}
			p.pending = p.pending[len(writes):]
		})
		close(told)
	}, told
}

// settle waits for every append.
func (p *player) settle() {
	if err := await(p.log, Append{Group: 9}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) release() {
	id := entry.GroupID(p.random.IntN(3))
	g := p.done.group(id)
	var list []uint64
	for _, i := range slices.Sorted(maps.Keys(g.entries)) {
		if p.transfers[id] != nil && i > g.committed() {
			break // not applied
		}
		if i <= g.last-min(g.last, 3) && p.random.IntN(8) > 0 {
			list = append(list, i)
		}
	}
	p.locked(func() {
		for _, i := range list {
			g.released[i] = true
		}
	})
	p.log.Release(id, list...)
}

func (p *player) checkpoint() {
	id := entry.GroupID(p.random.IntN(3))
	g := p.done.group(id)
	if g.last <= g.floor.Index || p.transfers[id] != nil {
		return
	}
	i := g.last - p.random.Uint64N(min(4, g.last-g.floor.Index))
	at := entry.Position{Term: g.entries[i].term, Index: i}
	state := fmt.Sprintf("state of %d at %v", id, at)
	p.locked(func() { p.states[fmt.Sprint(id, i)] = state })
	mustCheckpoint(p.t, p.log, id, at.Term, at.Index, state)
	wantCheckpoint(p.t, p.log, id, at.Term, at.Index, state)
	p.locked(func() { g.raise(at) })
}

func (p *player) reopen() {
	mustClose(p.t, p.log)
	p.moved += p.log.Stats().MovedBytes
	if d := p.differsAfterOpen(p.dir, p.done, nil); d != "" {
		p.t.Fatalf("after closing: %s", d)
	}
	var err error
	if p.log, err = open(p.dir, p.o, p.files); err != nil {
		p.t.Fatal(err)
	}
	for id, g := range p.done.groups {
		p.log.Retain(id, func(i uint64) bool { _, there := g.entries[i]; return there && !g.released[i] })
		for i := range g.released {
			p.log.Release(id, i)
		}
	}
	p.exact()
}

// exact checks that the log holds live what the twin does and no more.
func (p *player) exact() {
	p.t.Helper()
	for id, g := range p.done.groups {
		var got []uint64
		p.log.LiveEntries(id, 0, g.last, func(i uint64) bool { got = append(got, i); return true })
		if want := g.live(); !slices.Equal(got, want) {
			p.t.Fatalf("group %d: live are %v, want %v", id, got, want)
		}
	}
}

// failPower checks, before a random step, that what a power failure leaves is
// what was done, and a prefix of what was under way. It holds files.mu.
func (p *player) failPower(random *rand.Rand) func(step, path string) error {
	return func(step, path string) error {
		if random.IntN(12) > 0 || p.t.Failed() {
			return nil
		}
		p.crashes++
		done := p.done.clone()
		dir := filepath.Join(p.t.TempDir(), "crash")
		p.files.crash(p.t, dir)
		if random.IntN(3) > 0 {
			p.files.powerFailure(p.t, dir, random)
		}
		if d := p.differsAfterOpen(dir, done, slices.Clone(p.pending)); d != "" {
			p.t.Errorf("crash before %s %s: %s", step, path, d)
		}
		return os.RemoveAll(dir)
	}
}

// differsAfterOpen opens a directory and looks for the prefix that it is.
func (p *player) differsAfterOpen(dir string, done *twin, pending []write) string {
	l, err := open(dir, p.o, fastFiles{})
	if err != nil {
		return err.Error()
	}
	defer func() { _ = l.Close() }()
	differs := done.differs(l)
	for k := 0; differs != ""; k++ {
		if k == len(pending) {
			return differs
		}
		done.apply(pending[k])
		if d := done.differs(l); d != "" {
			differs += "; " + d
		} else {
			break
		}
	}
	for _, id := range l.Groups() {
		at, r, err := l.OpenCheckpoint(id)
		if errors.Is(err, ErrNoCheckpoint) {
			continue
		} else if err != nil {
			return err.Error()
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err.Error()
		}
		if want := p.states[fmt.Sprint(id, at.Index)]; string(b) != want {
			return fmt.Sprintf("checkpoint %q, want %q", b, want)
		}
	}
	return ""
}

func TestTheLogAgreesWithItsTwinThroughPowerFailures(t *testing.T) {
	seeds, steps := uint64(6), 300
	crashes, installed, moved := 0, 0, uint64(0)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			p := &player{t: t, random: newRandom(t, seed), dir: filepath.Join(t.TempDir(), "log"), done: newTwin(), states: map[string]string{}, transfers: map[entry.GroupID]*transfer{}}
			defer func() { installed += p.installed }()
			p.o = Options{SegmentBytes: small, SlackBytes: 2 * small}
			p.log, p.files = openFaulty(t, p.dir, p.o)
			p.files.hook(p.failPower(rand.New(rand.NewPCG(seed, 2))))
			for range steps {
				switch n := p.random.IntN(26); {
				case n < 14:
					p.append()
				case n < 17:
					p.settle()
					p.release()
				case n < 19:
					p.settle()
					p.checkpoint()
				case n < 25:
					p.transfer()
				case p.random.IntN(5) == 0:
					p.settle()
					p.files.hook(nil)
					p.reopen()
					p.files.hook(p.failPower(rand.New(rand.NewPCG(seed, 3))))
				}
				if t.Failed() {
					break
				}
			}
			p.settle()
			if d := p.done.differs(p.log); d != "" {
				t.Fatal(d)
			}
			p.exact()
			mustClose(t, p.log)
			p.files.hook(nil)
			if report, err := Verify(p.dir); err != nil || len(report.Damaged) > 0 || report.TornBytes > 0 {
				t.Fatalf("%+v, %v", report, err)
			}
			crashes += p.crashes
			moved += p.moved + p.log.Stats().MovedBytes
		})
	}
	t.Logf("%d crashes, %d checkpoints installed, %d bytes moved", crashes, installed, moved)
	if (moved == 0 || installed == 0) && !t.Failed() {
		t.Error("nothing was compacted, or nothing installed")
	}
}
