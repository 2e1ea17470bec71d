package log

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Entry is one raft entry. Kind and Payload are opaque to the log; Kind is
// raft's type of the entry, 0 (a normal one) to 15.
type Entry struct {
	Term, Index uint64
	Kind        uint8
	Payload     []byte
}

// HardState is a group's durable raft state. Term and Vote are durable when an
// append that carries them is done; Commit is advisory: it is written along
// with the next append that has to be synced, or at Close, and after a crash
// an older one may be found.
type HardState struct {
	Term, Vote uint64
	Commit     uint64
}

// Append is a request to the writer: entries of one group, its hard state, or
// both. Entries are consecutive; the first may lie at or below the group's
// last one, which discards every older entry from there on (raft's conflict).
type Append struct {
	Group     entry.GroupID
	Entries   []Entry
	HardState *HardState
	// Done is called on the writer's goroutine, in the order of Append calls,
	// once the append is as durable as the policy promises, or with the error
	// that has stopped the log. It must not block nor call Append. May be nil.
	Done func(error)
}

// Log is the broker's one write-ahead log. All methods are safe for use by
// many goroutines at once.
type Log struct {
	dir      string
	options  Options
	files    files
	lock     *os.File
	identity uint64

	queue      *queue
	writer     *writer
	maintainer *maintainer
	open       *fileCache
	buffers    sync.Pool // *[]byte for reading ahead

	// mu guards what readers see. No I/O under it.
	mu struct {
		sync.RWMutex
		*catalog
		unsaved  []sideIndex // of sealed segments, to be written by the maintainer
		repaired int64
	}

	failure  failure
	counters counters

	closing sync.Once
	closed  error // of Close; valid after closing is done
}

// Stats are a log's figures at one moment.
type Stats struct {
	DiskBytes     int64  // segment files
	LiveBytes     int64  // records that compaction would keep
	Segments      int    // segment files
	Entries       int64  // entries that can be read
	Appends       uint64 // appends done since Open
	Commits       uint64 // group commits since Open
	Fsyncs        uint64 // fsyncs of segments since Open
	WrittenBytes  uint64 // since Open, moved records included
	MovedBytes    uint64 // copied by compaction since Open
	RepairedBytes int64  // torn tail that Open cut off
}

// counters are the figures of Stats that only ever rise.
type counters struct {
	appends, commits, fsyncs, written, moved atomic.Uint64
}

// failure is the sticky error. The first one stays.
type failure struct {
	once sync.Once
	ch   chan struct{}
	err  error // valid once ch is closed
}

func (f *failure) set(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.ch)
	})
}

func (f *failure) get() error {
	select {
	case <-f.ch:
		return f.err
	default:
		return nil
	}
}

// Open opens the log in dir, which is made if it does not exist, and takes the
// directory's lock. See the package comment for what it repairs and what it
// refuses with a *DamagedError.
func Open(dir string, o Options) (*Log, error) { return open(dir, o, osFiles{}) }

// Append hands a to the writer. The entries and their payloads must not change
// until Done is called. It blocks while more waits than Options.QueueBytes or
// QueueAppends. After Close, Done is called with ErrClosed before it returns.
func (l *Log) Append(a Append) {
	if !l.queue.push(a, false) && a.Done != nil {
		a.Done(ErrClosed)
	}
}

// Pending returns when the oldest append (or Refill) that has not been told
// done was handed over, and whether there is one: how long a disk that hangs
// has been hanging. An append that Append itself still holds back does not
// count; what it waits for does. Never waits for I/O.
func (l *Log) Pending() (oldest time.Time, ok bool) { return l.queue.oldest() }

// Bounds returns the positions of the group's first and last entry above its
// floor, the range that is replayed after a restart. When it is empty, last is
// the floor and first.Index is last.Index+1. ok is false for a group that the
// log knows nothing of. Entries count as soon as they are written.
func (l *Log) Bounds(id entry.GroupID) (first, last entry.Position, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.known(id)
	if g == nil {
		return entry.Position{}, entry.Position{}, false
	}
	first = entry.Position{Term: g.floor.Term, Index: g.floor.Index + 1}
	if term, ok := g.term(first.Index); ok {
		first.Term = term
	}
	return first, g.lastPosition(), true
}

// Floor is the position up to which a checkpoint covers replay; zero for none.
func (l *Log) Floor(id entry.GroupID) entry.Position {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.mu.known(id); g != nil {
		return g.floor
	}
	return entry.Position{}
}

// Term returns the term of the entry at index, from the floor to the last one;
// else ErrNotFound. Without a checkpoint, the term of index 0 is 0.
func (l *Log) Term(id entry.GroupID, index uint64) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.mu.known(id); g != nil {
		if term, ok := g.term(index); ok {
			return term, nil
		}
	}
	return 0, notFound(id, index)
}

func notFound(id entry.GroupID, index uint64) error {
	return fmt.Errorf("%w: group %d, index %d", ErrNotFound, id, index)
}

// HardState returns the newest hard state of a group.
func (l *Log) HardState(id entry.GroupID) (HardState, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.mu.known(id); g != nil {
		return g.hard, g.hasHard
	}
	return HardState{}, false
}

// Release says that the state machine needs the bodies of these entries no
// more. They can still be read while they lie above the floor.
func (l *Log) Release(id entry.GroupID, indexes ...uint64) {
	l.mu.Lock()
	if g := l.mu.known(id); g != nil {
		for _, i := range indexes {
			l.mu.release(g, i)
		}
	}
	due := l.mu.due(l.options.SlackBytes)
	l.mu.Unlock()
	if due {
		l.maintainer.kick()
	}
}

// Retain is called once after a restart and replay, and after a Checkpoint that
// replaced the log: it releases every entry at or below the floor for which
// live is false. (Entries above it are released by Release, which must also be
// told what replay releases.) live is called without a lock held, in no order.
// O(entries below the floor).
func (l *Log) Retain(id entry.GroupID, live func(index uint64) bool) {
	l.mu.RLock()
	var chunks []uint64
	if g := l.mu.known(id); g != nil {
		for n := range g.places.chunks {
			chunks = append(chunks, n)
		}
	}
	l.mu.RUnlock()
	var indexes []uint64
	for _, n := range chunks {
		indexes = l.belowFloor(indexes[:0], id, n)
		dead := indexes[:0]
		for _, i := range indexes {
			if !live(i) {
				dead = append(dead, i)
			}
		}
		l.Release(id, dead...)
	}
}

// belowFloor appends the indexes of a chunk that lie at or below the floor.
func (l *Log) belowFloor(dst []uint64, id entry.GroupID, chunk uint64) []uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.known(id)
	return g.places.within(dst, chunk, 0, g.floor.Index)
}

// Identity is the broker's incarnation: a random number, never 0, made with
// the data directory. It is also the broker's raft id.
func (l *Log) Identity() uint64 { return l.identity }

// Groups lists the groups that the log knows of, in ascending order.
func (l *Log) Groups() []entry.GroupID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.ids()
}

// Stats returns the log's figures. O(1).
func (l *Log) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return Stats{
		DiskBytes:     l.mu.disk,
		LiveBytes:     l.mu.live,
		Segments:      len(l.mu.segments),
		Entries:       l.mu.entries,
		Appends:       l.counters.appends.Load(),
		Commits:       l.counters.commits.Load(),
		Fsyncs:        l.counters.fsyncs.Load(),
		WrittenBytes:  l.counters.written.Load(),
		MovedBytes:    l.counters.moved.Load(),
		RepairedBytes: l.mu.repaired,
	}
}

// Err is the error that has stopped the log, or nil.
func (l *Log) Err() error { return l.failure.get() }

// Failed is closed when the log has stopped because of an error.
func (l *Log) Failed() <-chan struct{} { return l.failure.ch }

// fail stops the log for good. What has been written can still be read.
func (l *Log) fail(err error) {
	if l.failure.get() == nil {
		l.options.Logger.Error("the log has stopped", "dir", l.dir, "error", err)
	}
	l.failure.set(err)
}

// Close writes and syncs what waits, stops the log's goroutines and gives up
// the lock. It returns the sticky error, if any. Idempotent.
func (l *Log) Close() error {
	l.closing.Do(func() {
		l.maintainer.stop() // first: it hands work to the writer
		l.queue.close()
		l.writer.join()
		l.open.close()
		l.closed = errors.Join(l.failure.get(), l.lock.Close())
	})
	return l.closed
}
