package log

import (
	"fmt"
	"os"
	"time"

	"github.com/tidwall/wal"
)

// writeAndSync is the second half of a group commit: write, publish to
// readers, sync. It returns the time that the fsync of the tail took.
func (w *writer) writeAndSync() (time.Duration, error) {
	rolled := len(w.cursor.rolls) > 0
	if len(w.staged) > 0 {
		if err := w.write(); err != nil {
			return 0, err
		}
	}
	w.publish()
	if rolled {
		// The library never syncs the directory: without this a power failure
		// can lose a new segment's name with all that is in it.
		if err := w.log.files.syncDir(w.log.mu.dir); err != nil {
			return 0, fmt.Errorf("log: sync %s: %w", w.log.mu.dir, err)
		}
	}
	took, err := w.syncIfDue()
	if err != nil {
		return 0, err
	}
	if rolled {
		w.log.maintainer.kick()
		if w.dropped >= reopenSegments && w.cursor.size == 0 {
			return took, w.reopen()
		}
	}
	return took, nil
}

func (w *writer) write() error {
	if err := w.wal.WriteBatch(&w.batch); err != nil {
		return fmt.Errorf("log: write: %w", err)
	}
	w.synced = false
	if len(w.cursor.rolls) > 0 {
		if err := w.wal.ClearCache(); err != nil {
			return fmt.Errorf("log: write: %w", err)
		}
		if err := w.openTail(); err != nil {
			return err
		}
		// The library syncs a segment before it begins the next.
		w.synced = w.cursor.size == 0
		w.markDue = false
	}
	info, err := w.tail.Stat()
	if err != nil {
		return fmt.Errorf("log: write: %w", err)
	}
	if info.Size() != w.cursor.size {
		return fmt.Errorf("log: write: %s is %d bytes long, not %d", w.tail.Name(), info.Size(), w.cursor.size)
	}
	return nil
}

// openTail opens our own descriptor of the newest segment.
func (w *writer) openTail() error {
	if w.tail != nil {
		_ = w.tail.Close() // its bytes are synced
	}
	s := newSegment(w.log.mu.dir, w.cursor.id, w.cursor.first)
	f, err := os.OpenFile(s.path, os.O_RDWR, filePerms)
	if err != nil {
		w.tail = nil
		return fmt.Errorf("log: write: %w", err)
	}
	w.tail = f
	return nil
}

// publish lets readers see what has been written.
func (w *writer) publish() {
	mu := &w.log.mu
	mu.Lock()
	defer mu.Unlock()
	rolls := w.cursor.rolls
	roll := func() {
		mu.unsaved = append(mu.unsaved, w.side)
		w.side = sideIndex{first: rolls[0]}
		mu.addSegment(rolls[0])
		rolls = rolls[1:]
	}
	for k := range w.staged {
		s := &w.staged[k]
		for mu.tail().id < s.segment {
			roll()
		}
		w.side.add(s.record)
		moved := s.old.segment != 0
		if moved && !mu.isAt(s.group, s.index, s.old) {
			mu.grow(s.record) // released meanwhile
			continue
		}
		mu.apply(s.record)
		if moved {
			w.log.counters.moved.Add(uint64(s.size))
		}
	}
	for len(rolls) > 0 {
		roll()
	}
	for _, g := range w.soft {
		g.hard.Commit = g.writeHard.Commit
	}
	// More side indexes than this wait only if the maintainer hangs on a slow
	// disk; one that is lost is built again at opening.
	if n := len(mu.unsaved) - maxUnsaved; n > 0 {
		mu.unsaved = append(mu.unsaved[:0], mu.unsaved[n:]...)
	}
	w.log.maintainer.assess()
}

func (w *writer) syncIfDue() (time.Duration, error) {
	if w.synced {
		return 0, nil
	}
	now := time.Now()
	if !w.mustSync && (w.log.options.Fsync != Interval || now.Sub(w.lastSync) < w.log.options.FsyncInterval) {
		return 0, nil
	}
	return w.sync(now)
}

func (w *writer) sync(began time.Time) (time.Duration, error) {
	if err := w.log.files.sync(w.tail); err != nil {
		return 0, fmt.Errorf("log: sync %s: %w", w.tail.Name(), err)
	}
	w.lastSync = time.Now()
	w.synced, w.markDue = true, true
	w.log.counters.fsyncs.Add(1)
	return w.lastSync.Sub(began), nil
}

// reset makes ready for the next batch, and lets go of buffers that one large
// body has grown.
func (w *writer) reset() {
	w.batch.Clear()
	if w.bytes > keepBytes {
		w.batch, w.scratch = wal.Batch{}, nil
	}
	w.bytes = 0
	w.staged = w.staged[:0]
	w.soft = w.soft[:0]
	w.cursor.rolls = w.cursor.rolls[:0]
	w.mustSync = false
}

// reopen makes the library forget the segments that were dropped. Only when
// the newest segment is empty, so that it has nothing to load.
func (w *writer) reopen() error {
	if err := w.wal.Close(); err != nil {
		return fmt.Errorf("log: reopen: %w", err)
	}
	again, err := w.log.files.openWAL(w.log.mu.dir, w.log.options.SegmentBytes)
	if err != nil {
		return fmt.Errorf("log: reopen: %w", err)
	}
	w.wal, w.dropped = again, 0
	return nil
}

// finish writes what may wait no longer: commits, and a synced record that
// vouches for the last batch, so that damage to it is told from a torn tail.
func (w *writer) finish() {
	if w.log.failure.get() == nil {
		w.mustSync = true
		err := w.finalBatch()
		if err != nil {
			w.log.fail(err)
		}
		w.reset()
	}
	if err := w.wal.Close(); err != nil {
		w.log.fail(fmt.Errorf("log: close: %w", err))
	}
	if w.tail != nil {
		_ = w.tail.Close() // its bytes are synced, or the log has failed
	}
}

func (w *writer) finalBatch() error {
	for _, g := range w.commits {
		if g.commitDirty {
			w.stageHard(g)
		}
	}
	if _, err := w.writeAndSync(); err != nil || !w.markDue {
		return err
	}
	w.reset()
	w.mustSync, w.markDue = true, false
	w.add(record{kind: kindSynced}, nil, place{})
	_, err := w.writeAndSync()
	return err
}
