package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// recovery reads a data directory: checkpoints, then segments, through their
// side indexes where these are good. It repairs a torn tail and refuses damage.
type recovery struct {
	dir      string
	files    files
	logger   *slog.Logger
	limit    int64 // bytes of a segment
	catalog  *catalog
	side     sideIndex // of the newest segment
	markDue  bool      // the newest record is not a synced record
	repaired int64

	// The last gap between two segments, and the first sequence after it.
	gap    error
	gapEnd uint64
}

func (r *recovery) run() error {
	for {
		r.catalog = newCatalog(filepath.Join(r.dir, segmentsName))
		r.gap = nil
		if err := r.loadCheckpoints(); err != nil {
			return err
		}
		if err := r.loadSegments(); err != nil {
			return err
		}
		again, err := r.dropLeftovers()
		if err != nil {
			return err
		}
		if !again {
			break
		}
	}
	if err := checkWhole(r.catalog); err != nil {
		return err
	}
	for _, g := range r.catalog.groups {
		g.trimTerms()
	}
	return nil
}

// loadSegments takes note of every record, oldest segment first.
func (r *recovery) loadSegments() error {
	firsts, err := listSegments(r.catalog.dir)
	if err != nil {
		return err
	}
	indexes, err := listSegments(r.indexDir())
	if err != nil {
		return err
	}
	if len(firsts) == 0 {
		if len(indexes) > 0 || len(r.catalog.groups) > 0 {
			return &DamagedError{File: r.catalog.dir, Reason: "no segment beside side indexes or checkpoints"}
		}
		return r.begin(1)
	}
	newest := firsts[len(firsts)-1]
	if n := len(indexes); n > 0 && indexes[n-1] >= newest {
		// A segment's side index is written once its successor is durable.
		return &DamagedError{File: filepath.Join(r.catalog.dir, segmentName(newest)), Reason: "the segments after it are missing"}
	}
	for k, first := range firsts {
		s := r.catalog.addSegment(first)
		if k == len(firsts)-1 {
			break
		}
		if err := r.loadSealed(s); err != nil {
			return err
		}
		if next := s.first + s.count; next != firsts[k+1] {
			// Not yet an error: it may lie before a front that comes later.
			r.gapEnd = firsts[k+1]
			r.gap = &DamagedError{File: filepath.Join(r.catalog.dir, segmentName(next)), Reason: fmt.Sprintf("missing between segments %d and %d", first, firsts[k+1])}
		}
	}
	if err := r.loadTail(r.catalog.tail()); err != nil {
		return err
	}
	return r.removeOrphans(firsts, indexes)
}

func (r *recovery) indexDir() string { return filepath.Join(r.dir, indexesName) }

// loadSealed loads a segment that has a successor: it was synced as a whole
// before that was begun, so any flaw in it is damage.
func (r *recovery) loadSealed(s *segment) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	side, err := loadSideIndex(r.indexDir(), s.first, info.Size())
	if err != nil {
		return err
	}
	if side == nil {
		if side, err = r.rebuild(s); err != nil {
			return err
		}
	}
	return side.each(func(rec record) bool {
		r.catalog.apply(rec)
		return true
	})
}

func (r *recovery) rebuild(s *segment) (*sideIndex, error) {
	side := &sideIndex{}
	side.reset(s.first)
	bad, err := scanSegment(s.path, s.first, func(rec record) error {
		side.add(rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, &DamagedError{File: s.path, Offset: bad.offset, Reason: "in a sealed segment: " + bad.Error()}
	}
	r.save(side)
	return side, nil
}

// save writes a side index. Without it the next opening is slower, no more; a
// full disk must not keep a log from opening.
func (r *recovery) save(side *sideIndex) {
	if err := side.save(r.files, r.indexDir()); err != nil {
		r.logger.Warn("side index not written", "segment", segmentName(side.first), "error", err)
	}
}

// loadTail loads the newest segment and cuts off what a crash has left half
// written.
func (r *recovery) loadTail(s *segment) error {
	r.side.reset(s.first)
	r.markDue = false
	bad, err := scanSegment(s.path, s.first, func(rec record) error {
		r.catalog.apply(rec)
		r.side.add(rec)
		r.markDue = rec.kind != kindSynced
		return nil
	})
	if err != nil {
		return err
	}
	if bad != nil {
		if err := r.cut(s, bad); err != nil {
			return err
		}
	}
	if s.size >= r.limit {
		// The crash came before the next segment was begun. Beginning it here
		// spares the library to load a segment that may hold a huge body.
		old := r.side
		r.side = sideIndex{}
		if err := r.begin(s.first + s.count); err != nil {
			return err
		}
		r.save(&old)
	}
	return nil
}

// begin makes an empty segment the newest. tidwall/wal, with AllowEmpty,
// continues at the sequence that its name tells.
func (r *recovery) begin(first uint64) error {
	if n := len(r.catalog.segments); n > 0 {
		f, err := os.OpenFile(r.catalog.tail().path, os.O_RDWR, filePerms)
		if err != nil {
			return err
		}
		if err := errors.Join(r.files.sync(f), f.Close()); err != nil {
			return err
		}
	}
	s := r.catalog.addSegment(first)
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, filePerms)
	if err != nil {
		return err
	}
	r.side.reset(first)
	r.markDue = false
	return errors.Join(f.Close(), r.files.syncDir(r.catalog.dir))
}

// cut truncates the newest segment at its first bad record, unless a later
// record proves that the bad one was durable once.
func (r *recovery) cut(s *segment, bad *damage) error {
	at, found, err := findSynced(s.path, s.first, bad.offset)
	if err != nil {
		return err
	}
	if found {
		return &DamagedError{File: s.path, Offset: bad.offset, Reason: fmt.Sprintf("%v, before what the record at %d says was synced", bad, at)}
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	r.logger.Warn("cut a torn tail", "file", s.path, "offset", bad.offset, "bytes", info.Size()-bad.offset, "reason", bad.reason)
	r.repaired += info.Size() - bad.offset
	return r.files.truncate(s.path, bad.offset)
}

// dropLeftovers unlinks segments that a front record has dropped, where a
// crash came between the two. It reports whether there were any: their dead
// entries have been loaded, so that loading has to begin anew.
func (r *recovery) dropLeftovers() (bool, error) {
	c := r.catalog
	if oldest := c.segments[0]; oldest.first > c.front {
		return false, &DamagedError{File: filepath.Join(c.dir, segmentName(c.front)), Reason: "missing: it was never dropped"}
	}
	n := 0
	for n < len(c.segments) && c.segments[n].first < c.front {
		n++
	}
	if r.gap != nil && r.gapEnd > c.front {
		return false, r.gap
	}
	if n == 0 {
		return false, nil
	}
	return true, unlinkSegments(r.files, c.dir, r.indexDir(), c.segments[:n])
}

// unlinkSegments removes segments that the front has passed, oldest first, and
// then their side indexes. A power failure may undo some of the removals and
// not others: opening takes what lies before the front for leftovers.
func unlinkSegments(files files, dir, indexDir string, segments []*segment) error {
	for _, s := range segments {
		if err := files.remove(s.path); err != nil {
			return err
		}
	}
	if err := files.syncDir(dir); err != nil {
		return err
	}
	for _, s := range segments {
		if err := files.remove(sideIndexPath(indexDir, s.first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeOrphans removes side indexes of segments that are gone.
func (r *recovery) removeOrphans(segments, indexes []uint64) error {
	for _, first := range indexes {
		if _, found := slices.BinarySearch(segments, first); !found {
			if err := r.files.remove(sideIndexPath(r.indexDir(), first)); err != nil {
				return err
			}
		}
	}
	return nil
}
