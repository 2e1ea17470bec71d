package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// segment is one file of tidwall/wal. Its size, count and live bytes are
// guarded by Log.mu.
type segment struct {
	id    uint32 // ordinal in this process, from 1: what a place names
	first uint64 // sequence of its first record, from 1: its file's name
	path  string
	size  int64
	count uint64 // records
	live  int64  // bytes of live entries, framed

	file atomic.Pointer[os.File] // for reading; owned by fileCache
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d", first) }

func newSegment(dir string, id uint32, first uint64) *segment {
	return &segment{id: id, first: first, path: filepath.Join(dir, segmentName(first))}
}

// maxOpenSegments bounds the file descriptors that reading holds.
const maxOpenSegments = 128

// fileCache keeps some segments open for reading, and closes the one that was
// opened first to make room.
type fileCache struct {
	mu   sync.Mutex
	ring []*segment // open or dropped segments, from next on in order of opening
	next int
	done bool
}

// readAt reads len(b) bytes of s at offset. Another goroutine may close the
// file between lookup and read: then it is opened again. A segment that has
// been dropped is os.ErrNotExist.
func (c *fileCache) readAt(s *segment, b []byte, offset int64) error {
	for {
		f, err := c.get(s)
		if err != nil {
			return err
		}
		if _, err = f.ReadAt(b, offset); !errors.Is(err, os.ErrClosed) {
			return err
		}
		s.file.CompareAndSwap(f, nil)
	}
}

// readSome is readAt for up to len(b) bytes: fewer, or none, at the end of the file.
func (c *fileCache) readSome(s *segment, b []byte, offset int64) (int, error) {
	for {
		f, err := c.get(s)
		if err != nil {
			return 0, err
		}
		n, err := f.ReadAt(b, offset)
		if errors.Is(err, os.ErrClosed) {
			s.file.CompareAndSwap(f, nil)
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	}
}

func (c *fileCache) get(s *segment) (*os.File, error) {
	if f := s.file.Load(); f != nil {
		return f, nil
	}
	return c.open(s)
}

func (c *fileCache) open(s *segment) (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, ErrClosed
	}
	if f := s.file.Load(); f != nil {
		return f, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	if len(c.ring) < maxOpenSegments {
		c.ring = append(c.ring, s)
	} else {
		closeSegment(c.ring[c.next])
		c.ring[c.next] = s
		c.next = (c.next + 1) % len(c.ring)
	}
	s.file.Store(f)
	return f, nil
}

// closeSegment closes s's file; a read that is under way still ends well.
func closeSegment(s *segment) {
	if f := s.file.Swap(nil); f != nil {
		_ = f.Close() // read-only: nothing is lost
	}
}

// drop closes a segment that is about to be unlinked.
func (c *fileCache) drop(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeSegment(s)
}

func (c *fileCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	for _, s := range c.ring {
		closeSegment(s)
	}
	c.ring = nil
}
