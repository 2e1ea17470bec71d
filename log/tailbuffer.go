package log

import (
	"reflect"
	"unsafe"

	"github.com/tidwall/wal"
)

// tailSlack is the room of a tail buffer beyond a segment's size and a quarter
// of it: for the record that brings the segment over its size. A larger one has
// the library take a buffer of its own.
const tailSlack = 256 << 10

// buffered is a *wal.Log whose tail segment lies in memory that we provide.
//
// tidwall/wal v1.2.1 holds the whole tail segment in memory and grows it by
// append from nothing, for each segment anew: five bytes are copied and
// allocated for each byte that is written, a quarter of a broker's CPU time.
// It has no option for it, so the buffer is put where the library looks for it,
// found by the names and types of its fields. A version that has other fields
// works as it does without us; a test says so.
type buffered struct {
	*wal.Log
	limit    int // bytes of a segment
	segments *[]unsafe.Pointer
	offset   uintptr // of a segment's buffer
	buffer   []byte  // of the tail, or free if tail is nil
	tail     unsafe.Pointer
}

// withTailBuffer wraps l, if it looks as we know it.
func withTailBuffer(l *wal.Log, segmentBytes int) appender {
	segments := reflect.ValueOf(l).Elem().FieldByName("segments")
	if !segments.IsValid() || segments.Kind() != reflect.Slice || segments.Type().Elem().Kind() != reflect.Pointer {
		return l
	}
	ebuf, ok := segments.Type().Elem().Elem().FieldByName("ebuf")
	if !ok || ebuf.Type != reflect.TypeFor[[]byte]() {
		return l
	}
	return &buffered{
		Log: l, limit: segmentBytes, offset: ebuf.Offset,
		segments: (*[]unsafe.Pointer)(unsafe.Pointer(segments.UnsafeAddr())),
	}
}

// WriteBatch implements appender. Only the log's writer uses the library, so
// its fields are ours to look at between two calls.
func (b *buffered) WriteBatch(batch *wal.Batch) error {
	b.provide()
	return b.Log.WriteBatch(batch)
}

// provide moves a tail that has just begun into the buffer that the segment
// before it is done with.
func (b *buffered) provide() {
	segments := *b.segments
	tail := segments[len(segments)-1]
	if tail == b.tail {
		return
	}
	b.tail = tail
	ebuf := (*[]byte)(unsafe.Add(tail, b.offset))
	if size := b.limit + b.limit/4 + tailSlack; cap(b.buffer) < size {
		b.buffer = make([]byte, 0, size)
	}
	if len(*ebuf) <= cap(b.buffer) {
		*ebuf = append(b.buffer[:0], *ebuf...)
	}
}
