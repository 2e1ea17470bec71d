package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxUnsaved bounds the side indexes that wait to be written.
	maxUnsaved = 64
	// pieceBytes is how much compaction copies with one group commit, so that
	// appends that come with it wait little longer.
	pieceBytes = 256 << 10
	// behindPieceBytes is that while the disk is above its bound; batches of
	// appends are then held to behindBytes, so that copying outruns them.
	behindPieceBytes = 2 << 20
	// maxDrop bounds the segments that are unlinked at once.
	maxDrop = 64
	// maxStall bounds how long a group commit waits for compaction while the
	// disk is above its bound.
	maxStall = 50 * time.Millisecond
)

// maintainer is the goroutine that writes side indexes and compacts: it reads
// the oldest segment's live records, hands them to the writer in pieces, and
// then unlinks the segment. Oldest first only: the library survives that, a
// record never outlives one that discards it, and a missing segment is found.
type maintainer struct {
	log    *Log
	wake   chan struct{} // cap 1
	quit   chan struct{}
	done   chan struct{}
	behind atomic.Bool   // disk is close to its bound: batches are to be small
	over   atomic.Bool   // disk is above its bound: batches are to wait a little
	relief chan struct{} // cap 1: over has become false

	// compacting is held while a segment is compacted, and while a checkpoint
	// takes the place of a group's log.
	compacting sync.Mutex
}

func newMaintainer(l *Log) *maintainer {
	return &maintainer{log: l, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), relief: make(chan struct{}, 1)}
}

func (m *maintainer) kick() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *maintainer) stop() {
	close(m.quit)
	<-m.done
}

func (m *maintainer) stopping() bool {
	select {
	case <-m.quit:
		return true
	case <-m.log.failure.ch:
		return true
	default:
		return false
	}
}

func (m *maintainer) run() {
	defer close(m.done)
	defer m.saveIndexes()
	m.kick()
	for {
		select {
		case <-m.wake:
		case <-m.quit:
			return
		case <-m.log.failure.ch:
			return
		}
		m.saveIndexes()
		for !m.stopping() && m.due() {
			if err := m.compactOldest(); err != nil {
				if !m.stopping() {
					m.log.fail(fmt.Errorf("log: compaction: %w", err))
				}
				break
			}
			m.saveIndexes()
		}
	}
}

// saveIndexes writes the side indexes of the segments that were sealed. One
// that cannot be written is no loss: opening builds it again.
func (m *maintainer) saveIndexes() {
	mu := &m.log.mu
	mu.Lock()
	unsaved, oldest := mu.unsaved, mu.segments[0].first
	mu.unsaved = nil
	mu.Unlock()
	for k := range unsaved {
		if unsaved[k].first < oldest {
			continue
		}
		if err := unsaved[k].save(m.log.files, m.indexDir()); err != nil {
			m.log.options.Logger.Warn("side index not written", "segment", segmentName(unsaved[k].first), "error", err)
		}
	}
}

func (m *maintainer) indexDir() string { return filepath.Join(m.log.dir, indexesName) }

// due tells whether the oldest segment is to go, and notes whether appends are
// to be held back.
func (m *maintainer) due() bool {
	m.log.mu.RLock()
	defer m.log.mu.RUnlock()
	return m.assess()
}

// assess is due for one who holds Log.mu.
func (m *maintainer) assess() bool {
	c, slack := m.log.mu.catalog, m.log.options.SlackBytes
	due := c.due(slack)
	m.behind.Store(due && c.disk > c.live*2+slack*7/8)
	over := due && c.disk > c.live*2+slack
	if m.over.Swap(over) && !over {
		select {
		case m.relief <- struct{}{}:
		default:
		}
	}
	return due
}

// compactOldest copies what is live in the oldest segment to the log's end,
// has the front move past it and past every dead one that follows, and
// unlinks them.
func (m *maintainer) compactOldest() error {
	m.compacting.Lock()
	defer m.compacting.Unlock()
	oldest, live := m.oldest()
	if live > 0 {
		if err := m.moveLive(oldest); err != nil {
			return err
		}
	}
	dead, next := m.deadFront()
	if len(dead) == 0 {
		if m.stopping() {
			return nil
		}
		_, live := m.oldest()
		return &DamagedError{File: oldest.path, Reason: fmt.Sprintf("%d live bytes cannot be found in it", live)}
	}
	if err := m.log.writer.do(&task{front: next}); err != nil {
		return err
	}
	for _, s := range dead {
		m.log.mu.Lock()
		m.log.mu.dropFront()
		m.log.mu.Unlock()
		m.log.open.drop(s)
	}
	return unlinkSegments(m.log.files, m.log.mu.dir, m.indexDir(), dead)
}

func (m *maintainer) oldest() (*segment, int64) {
	m.log.mu.RLock()
	defer m.log.mu.RUnlock()
	s := m.log.mu.segments[0]
	return s, s.live
}

// deadFront returns the oldest segments in which nothing is live, up to a
// bound, and the one that follows.
func (m *maintainer) deadFront() (dead []*segment, next *segment) {
	m.log.mu.RLock()
	defer m.log.mu.RUnlock()
	segments := m.log.mu.segments
	n := 0
	for n < len(segments)-1 && n < maxDrop && segments[n].live == 0 {
		n++
	}
	return append(dead, segments[:n]...), segments[n]
}

// moveLive copies every live entry of a segment. Entries that are released
// meanwhile are left behind.
func (m *maintainer) moveLive(s *segment) error {
	side, err := m.sideIndexOf(s)
	if err != nil {
		return err
	}
	var piece []movedRecord
	size := 0
	var failed error
	flush := func() bool {
		if len(piece) > 0 && failed == nil {
			failed = m.log.writer.do(&task{moved: piece})
			m.due() // to know whether appends are to be held back
		}
		piece, size = piece[:0], 0
		return failed == nil && !m.stopping()
	}
	err = side.each(func(r record) bool {
		from := place{segment: s.id, offset: uint32(r.offset), size: uint32(r.size)}
		if !r.isEntry() || !m.isAt(r, from) {
			return true
		}
		limit := pieceBytes
		if m.behind.Load() {
			limit = behindPieceBytes
		}
		if size > 0 && size+int(r.size) > limit && !flush() {
			return false
		}
		moved, err := m.read(s, r, from)
		if err != nil {
			failed = err
			return false
		}
		piece = append(piece, moved)
		size += int(r.size)
		return true
	})
	flush()
	return errors.Join(failed, err)
}

func (m *maintainer) isAt(r record, at place) bool {
	m.log.mu.RLock()
	defer m.log.mu.RUnlock()
	return m.log.mu.isAt(r.group, r.index, at)
}

func (m *maintainer) read(s *segment, r record, from place) (movedRecord, error) {
	b := make([]byte, r.size)
	if err := m.log.readAt(s, b, r.offset); err != nil {
		return movedRecord{}, err
	}
	whole, payload, err := verify(b, r.group, r.index, located{from, s})
	return movedRecord{record: whole, from: from, payload: payload}, err
}

// sideIndexOf loads a sealed segment's side index, or builds it.
func (m *maintainer) sideIndexOf(s *segment) (*sideIndex, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	side, err := loadSideIndex(m.indexDir(), s.first, info.Size())
	if err != nil || side != nil {
		return side, err
	}
	r := &recovery{dir: m.log.dir, files: m.log.files, logger: m.log.options.Logger}
	if side, err = r.rebuild(s); errors.Is(err, fs.ErrNotExist) {
		return nil, &DamagedError{File: s.path, Reason: "missing"}
	}
	return side, err
}
