package log

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/tidwall/wal"
)

const (
	// batchBytes bounds one group commit; an append that is larger goes alone.
	batchBytes = 4 << 20
	// behindBytes bounds it while compaction lags behind.
	behindBytes = 512 << 10
	// keepBytes is how large a buffer is kept for the next batch.
	keepBytes = 8 << 20
	// reopenSegments is after how many dropped segments tidwall/wal is opened
	// anew: it is never told of them, and remembers each.
	reopenSegments = 1024
)

// writer is the one goroutine that writes segments. Its fields are its own.
type writer struct {
	log   *Log
	wal   appender
	tail  *os.File // the newest segment; the descriptor that is synced
	tasks chan *task
	done  chan struct{}

	checkpointing sync.Mutex // held by Log.Checkpoint, not by the writer

	cursor  cursor
	side    sideIndex // of the newest segment
	batch   wal.Batch
	scratch []byte
	staged  []staged
	bytes   int      // in batch
	commits []*group // with commitDirty
	soft    []*group // whose commit alone has changed in this batch

	synced   bool // everything that is written has been synced
	markDue  bool // the tail holds synced records that no synced record vouches for
	mustSync bool // the batch holds what the policy does not let wait
	lastSync time.Time
	dropped  int // segments since the library was opened
}

// staged is a record of the batch and what it will mean once written.
type staged struct {
	record
	segment uint32
	old     place // of a moved record: where it was
}

// task is the maintainer's work for the writer.
type task struct {
	moved []movedRecord
	front *segment     // if set: drop the segments before it
	run   func() error // if set: called once everything that was appended before it is durable
	done  chan<- error // capacity 1
}

// movedRecord is a live entry to be copied to the end of the log.
type movedRecord struct {
	record
	from    place
	payload []byte
}

func (w *writer) join() { <-w.done }

// do has the writer do t and waits for it.
func (w *writer) do(t *task) error {
	done := make(chan error, 1)
	t.done = done
	select {
	case w.tasks <- t:
	case <-w.done:
		return ErrClosed
	}
	return <-done
}

func (w *writer) run() {
	defer close(w.done)
	var tick <-chan time.Time
	if w.log.options.Fsync == Interval {
		ticker := time.NewTicker(w.log.options.FsyncInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	var spare []item
	for {
		// The task first: it comes after every append that precedes it.
		var t *task
		select {
		case t = <-w.tasks:
		default:
		}
		items, closed := w.log.queue.take(spare[:0])
		if len(items) > 0 || t != nil {
			w.commitAll(items, t)
			clear(items)
			spare = items
			continue
		}
		spare = items
		if closed {
			w.finish()
			return
		}
		select {
		case <-w.log.queue.wake:
		case t = <-w.tasks:
			items, _ = w.log.queue.take(spare[:0])
			w.commitAll(items, t)
			clear(items)
			spare = items
		case <-tick:
			w.mustSync = !w.synced
			w.commit(nil, nil)
		}
	}
}

// commitAll commits in batches of bounded size.
func (w *writer) commitAll(items []item, t *task) {
	for len(items) > 0 {
		if t == nil {
			t = w.stall()
		}
		n, size, limit := 1, items[0].size, batchBytes
		if w.log.maintainer.behind.Load() {
			limit = behindBytes
		}
		for n < len(items) && size+items[n].size <= limit {
			size += items[n].size
			n++
		}
		if t != nil && t.run == nil {
			w.commit(items[:n], t) // moves ride with the first batch
			t = nil
		} else {
			w.commit(items[:n], nil)
		}
		items = items[n:]
	}
	if t != nil {
		w.commit(nil, t)
	}
}

// stall takes the next task, if there is one. While the disk is above its
// bound it waits for one, or for relief, but not for long: so compaction keeps
// up with any rate of appends, and appends are slowed and never stopped.
func (w *writer) stall() *task {
	m := w.log.maintainer
	if !m.over.Load() {
		select {
		case t := <-w.tasks:
			return t
		default:
			return nil
		}
	}
	select { // what was told before over became true
	case <-m.relief:
	default:
	}
	if !m.over.Load() {
		return nil
	}
	m.kick()
	timeout := time.NewTimer(maxStall)
	defer timeout.Stop()
	select {
	case t := <-w.tasks:
		return t
	case <-m.relief:
	case <-m.done:
	case <-timeout.C:
	}
	return nil
}

// commit is one group commit: one WriteBatch, at most one fsync, and then all
// is told done. An error is final.
func (w *writer) commit(items []item, t *task) {
	err := w.log.failure.get()
	if err == nil {
		err = w.stage(items, t)
	}
	var took time.Duration
	if err == nil {
		took, err = w.writeAndSync()
	}
	if err == nil && t != nil && t.run != nil {
		err = t.run()
	} else if err != nil {
		w.log.fail(err)
		err = w.log.failure.get()
	}
	if err == nil {
		w.log.counters.appends.Add(uint64(len(items)))
		if w.bytes > 0 {
			w.log.counters.commits.Add(1)
			w.log.counters.written.Add(uint64(w.bytes))
			w.log.options.Observe(took, w.bytes)
		}
	}
	w.reset()
	size := 0
	for k := range items {
		size += items[k].size
		if done := items[k].Done; done != nil {
			done(err)
		}
	}
	w.log.queue.finished(len(items), size)
	if t != nil {
		t.done <- err
	}
}

// stage encodes a batch. What compaction moves comes before the appends: among
// them may be a conflict that discards an entry which still lies where it was
// when the batch began, and a moved record after that would bring it back.
func (w *writer) stage(items []item, t *task) error {
	if t != nil {
		w.stageTask(t)
	}
	for k := range items {
		if items[k].refill {
			w.stageRefill(&items[k].Append)
		} else if err := w.stageAppend(&items[k].Append); err != nil {
			return err
		}
	}
	if len(w.staged) > 0 {
		for _, g := range w.commits {
			if g.commitDirty {
				w.stageHard(g)
			}
		}
		w.commits = w.commits[:0]
	}
	return nil
}

func (w *writer) stageAppend(a *Append) error {
	g, floor := w.group(a.Group)
	for k := range a.Entries {
		e := &a.Entries[k]
		lowest := floor + 1
		if k > 0 {
			lowest = g.writeLast + 1
		}
		if e.Index < lowest || e.Index > max(g.writeLast, floor)+1 {
			return fmt.Errorf("%w: group %d: index %d after entries %d…%d", ErrInvalidAppend, a.Group, e.Index, floor+1, g.writeLast)
		}
		if err := checkEntry(a.Group, e); err != nil {
			return err
		}
		w.stageEntry(kindEntry, a.Group, e)
		g.writeLast = e.Index
	}
	if len(a.Entries) > 0 && w.log.options.Fsync == Always {
		w.mustSync = true
	}
	if a.HardState == nil {
		return nil
	}
	was := g.writeHard
	g.writeHard = *a.HardState
	switch {
	case !g.writeHas || was.Term != g.writeHard.Term || was.Vote != g.writeHard.Vote:
		g.writeHas = true
		w.stageHard(g)
		w.mustSync = true
	case was.Commit != g.writeHard.Commit:
		// A commit alone is not worth a write, much less an fsync: it rides
		// with the next batch, and halves the fsyncs of a lone publisher.
		w.soft = append(w.soft, g)
		if !g.commitDirty {
			g.commitDirty = true
			w.commits = append(w.commits, g)
		}
	}
	return nil
}

// checkEntry tells whether a record can hold e.
func checkEntry(id entry.GroupID, e *Entry) error {
	if e.Index == 0 || int64(len(e.Payload)) > maxRecord-headerSize || e.Kind > maxEntryKind {
		return fmt.Errorf("%w: group %d: index %d: kind %d, payload of %d bytes", ErrInvalidAppend, id, e.Index, e.Kind, len(e.Payload))
	}
	return nil
}

func (w *writer) stageEntry(k kind, id entry.GroupID, e *Entry) {
	w.add(record{kind: k, entryKind: e.Kind, group: id, term: e.Term, index: e.Index}, e.Payload, place{})
}

// group returns a group and its floor's index.
func (w *writer) group(id entry.GroupID) (*group, uint64) {
	w.log.mu.RLock()
	g := w.log.mu.groups[id]
	if g != nil {
		floor := g.floor.Index
		w.log.mu.RUnlock()
		return g, floor
	}
	w.log.mu.RUnlock()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	g = w.log.mu.group(id)
	return g, g.floor.Index
}

func (w *writer) stageHard(g *group) {
	var vote [voteSize]byte
	binary.LittleEndian.PutUint64(vote[:], g.writeHard.Vote)
	h := g.writeHard
	w.add(record{kind: kindHardState, group: g.id, term: h.Term, index: h.Commit, vote: h.Vote}, vote[:], place{})
	g.commitDirty = false
}

func (w *writer) stageTask(t *task) {
	for k := range t.moved {
		m := &t.moved[k]
		if k := w.moveAs(m.group, m.index, m.from); k != 0 {
			w.add(record{kind: k, entryKind: m.entryKind, group: m.group, term: m.term, index: m.index}, m.payload, m.from)
		}
	}
	if t.front != nil {
		for _, g := range w.hardBefore(t.front.id) {
			w.stageHard(g)
		}
		w.add(record{kind: kindFront, index: t.front.first}, nil, place{})
		w.dropped += int(t.front.id - w.oldest())
	}
	// What is moved must be durable before its origin is unlinked, and what was
	// appended before a checkpoint is to take effect.
	w.mustSync = true
}

func (w *writer) oldest() uint32 {
	w.log.mu.RLock()
	defer w.log.mu.RUnlock()
	return w.log.mu.segments[0].id
}

func (w *writer) moveAs(id entry.GroupID, i uint64, from place) kind {
	w.log.mu.RLock()
	defer w.log.mu.RUnlock()
	return w.log.mu.moveAs(id, i, from)
}

// hardBefore lists the groups whose hard state lies in a segment before id.
func (w *writer) hardBefore(id uint32) []*group {
	w.log.mu.RLock()
	defer w.log.mu.RUnlock()
	var groups []*group
	for _, n := range w.log.mu.ids() {
		if g := w.log.mu.groups[n]; g.hasHard && g.hardSegment < id {
			groups = append(groups, g)
		}
	}
	return groups
}

// add appends a record to the batch, after a synced record if one is due.
func (w *writer) add(r record, payload []byte, old place) {
	if len(w.staged) == 0 && w.synced && w.markDue {
		w.markDue = false
		w.add(record{kind: kindSynced}, nil, place{})
	}
	r.size = headerSize + int64(len(payload))
	sequence := w.cursor.next
	segment, first, offset := w.cursor.place(r.size)
	r.offset = offset
	b := append(appendHeader(w.scratch[:0], r), payload...)
	seal(b, first, offset)
	w.batch.Write(sequence, b)
	w.scratch = b
	w.bytes += int(framed(r.size))
	w.staged = append(w.staged, staged{r, segment, old})
}
