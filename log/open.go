package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// The data directory's parts.
const (
	segmentsName    = "wal"
	indexesName     = "index"
	checkpointsName = "checkpoints"
)

func open(dir string, o Options, files files) (_ *Log, err error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	for _, name := range []string{"", segmentsName, indexesName, checkpointsName} {
		if err := os.MkdirAll(filepath.Join(dir, name), dirPerms); err != nil {
			return nil, fmt.Errorf("log: open: %w", err)
		}
	}
	lock, err := lockDirectory(dir, false)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close() // the error that is returned tells more
		}
	}()
	l := &Log{dir: dir, options: o, files: files, lock: lock, open: &fileCache{}}
	l.failure.ch = make(chan struct{})
	if err := l.identify(); err != nil {
		return nil, fmt.Errorf("log: open: %w", err)
	}
	r := &recovery{dir: dir, files: files, logger: o.Logger, limit: int64(o.SegmentBytes)}
	if err := r.run(); err != nil {
		return nil, fmt.Errorf("log: open: %w", err)
	}
	if err := l.start(r); err != nil {
		return nil, fmt.Errorf("log: open: %w", err)
	}
	return l, nil
}

// identify reads or makes the incarnation. One that is missing beside a log is
// damage: a broker must not vote with an old log under a new name.
func (l *Log) identify() (err error) {
	if l.identity, err = loadIdentity(l.dir); err != nil || l.identity != 0 {
		return err
	}
	for _, name := range []string{segmentsName, checkpointsName} {
		names, err := os.ReadDir(filepath.Join(l.dir, name))
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return &DamagedError{File: filepath.Join(l.dir, identityName), Reason: "missing beside a log"}
		}
	}
	l.identity, err = makeIdentity(l.files, l.dir)
	return err
}

// start opens the library on what recovery has left, and starts the goroutines.
func (l *Log) start(r *recovery) error {
	library, err := l.files.openWAL(r.catalog.dir, l.options.SegmentBytes)
	if err != nil {
		return err
	}
	if err := l.files.syncDir(r.catalog.dir); err != nil {
		return errors.Join(err, library.Close())
	}
	l.mu.catalog, l.mu.repaired = r.catalog, r.repaired
	tail := r.catalog.tail()
	w := &writer{log: l, wal: library, tasks: make(chan *task), done: make(chan struct{}), side: r.side}
	w.cursor = cursor{limit: int64(l.options.SegmentBytes), first: tail.first, id: tail.id, size: tail.size, next: tail.first + tail.count}
	w.synced, w.markDue = true, r.markDue
	if err := w.openTail(); err != nil {
		return errors.Join(err, library.Close())
	}
	// What was read here may never have been synced: the process that wrote it
	// may have been killed. From here on it counts as durable.
	if err := l.files.sync(w.tail); err != nil {
		return errors.Join(err, w.tail.Close(), library.Close())
	}
	for _, g := range r.catalog.groups {
		g.writeLast, g.writeHard, g.writeHas = g.last, g.hard, g.hasHard
	}
	l.queue = newQueue(l.options.QueueBytes, l.options.QueueAppends)
	l.writer = w
	l.maintainer = newMaintainer(l)
	go w.run()
	go l.maintainer.run()
	return nil
}

// listSegments returns the sequences that name the files of a directory, in
// ascending order. Other names are not ours and are left alone.
func listSegments(dir string) ([]uint64, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, n := range names {
		first, err := strconv.ParseUint(n.Name(), 10, 64)
		if err == nil && first > 0 && n.Name() == segmentName(first) {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// checkWhole verifies that no group's log has a hole and that none ends before
// its commit.
func checkWhole(c *catalog) error {
	for _, id := range c.ids() {
		g := c.groups[id]
		for i := g.floor.Index + 1; i <= g.last; i++ {
			if g.places.find(i) == nil {
				return &DamagedError{File: c.dir, Reason: fmt.Sprintf("group %d: entry %d is missing between %d and %d", id, i, g.floor.Index, g.last)}
			}
		}
		if g.hasHard && g.hard.Commit > g.last {
			return &DamagedError{File: c.dir, Reason: fmt.Sprintf("group %d: ends at %d, before its commit %d", id, g.last, g.hard.Commit)}
		}
	}
	return nil
}
