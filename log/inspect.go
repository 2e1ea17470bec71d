package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// RecordInfo is one record of a stopped log, as Inspect tells it.
type RecordInfo struct {
	File        string // path of the segment
	Offset      int64  // of the record in it
	Sequence    uint64 // its ordinal in the log, from 1
	Kind        string // entry, moved, hardstate, synced, front, refill
	Group       entry.GroupID
	Term, Index uint64
	EntryKind   uint8     // Entry.Kind of a record with an entry
	HardState   HardState // of a hardstate record
	Size        int       // of the payload, in bytes
}

// Report is what Verify found.
type Report struct {
	Identity    uint64 // the incarnation; 0 for none
	Segments    int
	Records     int
	Checkpoints int
	Bytes       int64   // of the segments
	LiveBytes   int64   // at most this much of it is live
	TornBytes   int64   // at the end of the newest segment; Open would cut them
	Damaged     []error // a *DamagedError each
}

// stopped is a data directory that is only read.
type stopped struct {
	dir    string
	firsts []uint64
	lock   *os.File
}

func openStopped(dir string) (*stopped, error) {
	if _, err := os.Stat(filepath.Join(dir, segmentsName)); err != nil {
		return nil, fmt.Errorf("log: %s holds no log: %w", dir, err)
	}
	lock, err := lockDirectory(dir, true)
	if err != nil {
		return nil, err
	}
	s := &stopped{dir: dir, lock: lock}
	if s.firsts, err = listSegments(filepath.Join(dir, segmentsName)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stopped) close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// scan reads segment k. Of the newest one it returns how many bytes of torn
// tail it has.
func (s *stopped) scan(k int, fn func(path string, r record) error) (torn int64, err error) {
	first := s.firsts[k]
	path := filepath.Join(s.dir, segmentsName, segmentName(first))
	count := uint64(0)
	bad, err := scanSegment(path, first, func(r record) error {
		count++
		return fn(path, r)
	})
	switch last := k == len(s.firsts)-1; {
	case err != nil:
		return 0, err
	case bad != nil && last:
		at, found, err := findSynced(path, first, bad.offset)
		if err != nil {
			return 0, err
		}
		if found {
			return 0, &DamagedError{File: path, Offset: bad.offset, Reason: fmt.Sprintf("%v, before what the record at %d says was synced", bad, at)}
		}
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		return info.Size() - bad.offset, nil
	case bad != nil:
		return 0, &DamagedError{File: path, Offset: bad.offset, Reason: "in a sealed segment: " + bad.Error()}
	case !last && first+count != s.firsts[k+1]:
		return 0, &gapError{end: s.firsts[k+1], DamagedError: DamagedError{
			File:   filepath.Join(s.dir, segmentsName, segmentName(first+count)),
			Reason: fmt.Sprintf("missing between segments %d and %d", first, s.firsts[k+1]),
		}}
	}
	return 0, nil
}

// gapError is a gap between segments, which is no damage if the front has
// passed its end: a power failure has undone a part of their removal.
type gapError struct {
	DamagedError
	end uint64
}

// Inspect calls fn for every record of the stopped log in dir, oldest first,
// without changing anything. It stops at fn's error, or at a damaged record
// with a *DamagedError. Missing segments, and a torn tail, which Open would cut,
// are passed over.
func Inspect(dir string, fn func(RecordInfo) error) (err error) {
	s, err := openStopped(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for k, first := range s.firsts {
		sequence := first
		_, err := s.scan(k, func(path string, r record) error {
			info := RecordInfo{
				File: path, Offset: r.offset, Sequence: sequence, Kind: r.kind.String(),
				Group: r.group, Term: r.term, Index: r.index, EntryKind: r.entryKind, Size: int(r.size - headerSize),
			}
			if r.kind == kindHardState {
				info.HardState = HardState{Term: r.term, Vote: r.vote, Commit: r.index}
			}
			sequence++
			return fn(info)
		})
		var gap *gapError
		if err != nil && !errors.As(err, &gap) {
			return err
		}
	}
	return nil
}

// Verify reads every byte of the stopped log in dir and checks every checksum,
// without changing anything. The error tells what kept it from reading; damage
// is in the report.
func Verify(dir string) (report Report, err error) {
	s, err := openStopped(dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	v := verifier{stopped: s, catalog: newCatalog(filepath.Join(dir, segmentsName))}
	if v.report.Identity, err = loadIdentity(dir); err != nil && !v.note(err) {
		return v.report, err
	}
	if err := v.checkpoints(); err != nil {
		return v.report, err
	}
	if err := v.segments(); err != nil {
		return v.report, err
	}
	return v.report, nil
}

type verifier struct {
	*stopped
	catalog *catalog
	report  Report
}

// note takes damage into the report; false for another error.
func (v *verifier) note(err error) bool {
	if !errors.Is(err, ErrDamaged) {
		return false
	}
	v.report.Damaged = append(v.report.Damaged, err)
	return true
}

func (v *verifier) checkpoints() error {
	paths, err := listCheckpoints(v.dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		c, f, err := openCheckpointFile(path)
		if err != nil {
			if !v.note(err) {
				return err
			}
			continue
		}
		if err := f.Close(); err != nil {
			return err
		}
		v.report.Checkpoints++
		if v.catalog.known(c.group) == nil {
			g := v.catalog.group(c.group)
			g.replaced = c.replaced
			v.catalog.raiseFloor(g, c.at)
		}
	}
	return nil
}

func (v *verifier) segments() error {
	var gaps []*gapError
	for k, first := range v.firsts {
		v.catalog.addSegment(first)
		v.report.Segments++
		torn, err := v.scan(k, func(_ string, r record) error {
			v.report.Records++
			v.catalog.apply(r)
			return nil
		})
		v.report.TornBytes += torn
		var gap *gapError
		if errors.As(err, &gap) {
			gaps = append(gaps, gap)
		} else if err != nil && !v.note(err) {
			return err
		}
	}
	for _, gap := range gaps {
		if gap.end > v.catalog.front {
			v.note(&gap.DamagedError)
		}
	}
	v.report.Bytes, v.report.LiveBytes = v.catalog.disk, v.catalog.live
	if len(v.firsts) > 0 && v.firsts[0] > v.catalog.front {
		v.note(&DamagedError{File: filepath.Join(v.catalog.dir, segmentName(v.catalog.front)), Reason: "missing: it was never dropped"})
	}
	if len(v.report.Damaged) == 0 {
		if err := checkWhole(v.catalog); err != nil {
			v.note(err)
		}
	}
	return nil
}
