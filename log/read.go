package log

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	// readAhead is how much ReadRange reads at once, and keeps per call.
	readAhead = 512 << 10
	// rangePlaces is how many places ReadRange looks up under one lock.
	rangePlaces = 64
)

// located is an entry's place with its segment, good until it is unlinked.
type located struct {
	place
	file *segment
}

// locate returns an entry's place.
func (l *Log) locate(id entry.GroupID, i uint64) (located, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.locateLocked(id, i)
}

func (l *Log) locateLocked(id entry.GroupID, i uint64) (located, error) {
	if g := l.mu.groups[id]; g != nil {
		p := g.places.find(i)
		if p == nil {
			p = g.refilled.find(i)
		}
		if p != nil {
			return located{*p, l.mu.segment(p.segment)}, nil
		}
	}
	return located{}, notFound(id, i)
}

// Read returns the payload of an entry, appended to dst[:0], its checksum
// verified: ErrNotFound, a *DamagedError, or an I/O error. One pread; never
// waits for an fsync. Entries below the floor are served until released.
func (l *Log) Read(id entry.GroupID, index uint64, dst []byte) ([]byte, error) {
	e, err := l.ReadEntry(id, index, dst)
	return e.Payload, err
}

// ReadEntry is Read for the entry as a whole: Term, which Log.Term does not
// tell below the floor, and Kind come with it.
func (l *Log) ReadEntry(id entry.GroupID, index uint64, dst []byte) (Entry, error) {
	for {
		at, err := l.locate(id, index)
		if err != nil {
			return Entry{}, err
		}
		// The record is read as a whole into dst and its payload moved down:
		// that costs less than a second pread.
		size := int(at.size)
		dst = slices.Grow(dst[:0], size)[:size]
		if err := l.readAt(at.file, dst, int64(at.offset)); err != nil {
			if l.movedAway(id, index, at) && !errors.Is(err, ErrClosed) {
				continue
			}
			return Entry{}, err
		}
		r, payload, err := verify(dst, id, index, at)
		if err != nil {
			return Entry{}, err
		}
		return Entry{Term: r.term, Index: index, Kind: r.entryKind, Payload: dst[:copy(dst, payload)]}, nil
	}
}

// readAt reads bytes of a segment that it should have.
func (l *Log) readAt(s *segment, b []byte, offset int64) error {
	err := l.open.readAt(s, b, offset)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &DamagedError{File: s.path, Offset: offset, Reason: fmt.Sprintf("file ends within a record of %d bytes", len(b))}
	}
	return err
}

// movedAway tells whether an entry lies elsewhere now, which excuses a read
// error: compaction unlinks a segment once its entries have moved.
func (l *Log) movedAway(id entry.GroupID, index uint64, from located) bool {
	at, err := l.locate(id, index)
	return err != nil || !at.same(from.place)
}

// verify checks a record that was read for an entry.
func verify(b []byte, id entry.GroupID, index uint64, at located) (record, []byte, error) {
	r, payload, err := parseRecord(b, at.file.first, int64(at.offset))
	if err == nil && (r.group != id || r.index != index) {
		err = fmt.Errorf("group %d, index %d found instead of group %d, index %d", r.group, r.index, id, index)
	}
	if err != nil {
		return record{}, nil, &DamagedError{File: at.file.path, Offset: int64(at.offset), Reason: err.Error()}
	}
	return r, payload, nil
}

// ReadRange calls fn for each entry from first to last, both included, reading
// ahead in large pieces. The payload is valid until fn returns. It stops at
// fn's first error and returns it. A missing entry is ErrNotFound. Entries
// that are appended over older ones meanwhile may be seen in either state.
func (l *Log) ReadRange(id entry.GroupID, first, last uint64, fn func(Entry) error) error {
	w := l.window()
	defer l.buffers.Put(w)
	var places [rangePlaces]located
	for i := first; i <= last; {
		n := 0
		l.mu.RLock()
		for ; n < len(places) && i+uint64(n) <= last; n++ {
			at, err := l.locateLocked(id, i+uint64(n))
			if err != nil && n == 0 {
				l.mu.RUnlock()
				return err
			} else if err != nil {
				break
			}
			places[n] = at
		}
		l.mu.RUnlock()
		for k := 0; k < n; k++ {
			b, err := w.record(l, places[k])
			if err != nil && !errors.Is(err, ErrClosed) && l.movedAway(id, i, places[k]) {
				break // look up again from here
			} else if err != nil {
				return err
			}
			r, payload, err := verify(b, id, i, places[k])
			if err != nil {
				return err
			}
			if err := fn(Entry{Term: r.term, Index: i, Kind: r.entryKind, Payload: payload}); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}

// window is a piece of a segment in memory.
type window struct {
	file   *segment
	offset int64
	bytes  []byte // what has been read
	buffer []byte
	large  []byte // a record that is larger than buffer
}

func (l *Log) window() *window {
	w, _ := l.buffers.Get().(*window)
	if w == nil {
		w = &window{buffer: make([]byte, readAhead)}
	}
	w.file, w.bytes, w.large = nil, nil, nil
	return w
}

// record returns the bytes of a record, valid until the next call.
func (w *window) record(l *Log, at located) ([]byte, error) {
	offset, size := int64(at.offset), int64(at.size)
	if size > int64(len(w.buffer)) {
		w.large = slices.Grow(w.large[:0], int(size))[:size]
		return w.large, l.readAt(at.file, w.large, offset)
	}
	if w.file != at.file || offset < w.offset || offset+size > w.offset+int64(len(w.bytes)) {
		n, err := l.open.readSome(at.file, w.buffer, offset)
		if err != nil {
			w.file = nil
			return nil, err
		}
		w.file, w.offset, w.bytes = at.file, offset, w.buffer[:n]
		if int64(n) < size {
			return nil, &DamagedError{File: at.file.path, Offset: offset, Reason: fmt.Sprintf("file ends within a record of %d bytes", size)}
		}
	}
	return w.bytes[offset-w.offset:][:size], nil
}
