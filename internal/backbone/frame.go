package backbone

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// frame is one encoded data frame. It is shared by the links that it goes to,
// and its buffer returns to the pool when the last of them has written it.
// Invariant: its bytes do not change once it is in a queue.
type frame struct {
	buffer  []byte // room for a header, then the payload
	bytes   []byte // the part of buffer that is sent
	payload int    // bytes after the header
	refs    atomic.Int32
}

// setHeader puts the header of a frame before its payload.
// REQUIRES: it is no longer than the room that gather left.
func (f *frame) setHeader(header []byte) {
	start := len(f.buffer) - f.payload - len(header)
	copy(f.buffer[start:], header)
	f.bytes = f.buffer[start:]
}

func (f *frame) release() {
	if f.refs.Add(-1) <= 0 {
		putBuffer(f.buffer)
		f.buffer, f.bytes = nil, nil
	}
}

// Buffers are pooled by powers of two from 4 KiB to 16 MiB: frames of very
// different sizes share the process, and one pool would hand out an 8 MiB
// buffer for each small message.
const (
	smallestClass = 12
	largestClass  = 24
)

var buffers [largestClass - smallestClass + 1]sync.Pool

// getBuffer is an empty buffer with room for size bytes.
func getBuffer(size int) []byte {
	class := max(bits.Len(uint(size-1)), smallestClass)
	if class > largestClass {
		return make([]byte, 0, size)
	}
	if b, ok := buffers[class-smallestClass].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<class)
}

func putBuffer(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < smallestClass || class > largestClass || cap(b) != 1<<class {
		return
	}
	buffers[class-smallestClass].Put(&b)
}

// gather copies a message's pieces into frames of at most part payload bytes,
// leaving room for a header before each. An empty message is one frame.
func gather(payload [][]byte, total, part, room int) []*frame {
	frames := make([]*frame, 0, 1+max(total-1, 0)/part)
	piece := 0
	var rest []byte
	for left := total; len(frames) == 0 || left > 0; {
		n := min(left, part)
		b := getBuffer(room + n)[:room]
		for len(b) < room+n {
			if len(rest) == 0 {
				rest, piece = payload[piece], piece+1
				continue
			}
			k := min(len(rest), room+n-len(b))
			b, rest = append(b, rest[:k]...), rest[k:]
		}
		frames = append(frames, &frame{buffer: b, payload: n})
		left -= n
	}
	return frames
}
