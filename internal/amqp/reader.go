package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ErrProtocolHeader is returned by Reader.ProtocolHeader for a client that
// speaks something else.
var ErrProtocolHeader = errors.New("amqp: not the protocol header of AMQP 0-9-1")

// Reader cuts frames out of a stream. It has one owner and no lock.
//
// An idle connection costs little and a busy one takes many frames with one
// read: buffers are pooled in three sizes (buffer.go), grow while reads fill
// them, and go back when the stream has nothing to give. A TCP or Unix
// connection on a Unix system holds none at all while it waits
// (source_unix.go); any other stream holds the smallest.
//
// Memory grows with the bytes that have come, never with the size that a
// frame claims.
type Reader struct {
	source source
	// buffer.bytes[start:end] has been read and not been returned yet. The
	// buffer may be nil when there is nothing in it.
	buffer     *buffer
	start, end int
	// tier is the size that the last reads would have liked.
	tier int
	// maxPayload is the longest payload that is accepted.
	maxPayload uint32
	// err is why there is no way on: a malformed frame, or the stream's end.
	err error
}

// NewReader returns a Reader of r that accepts frames of maxFrame octets, 0
// for no limit. Like RabbitMQ (rabbit_reader, FRAME_SIZE_FUDGE) it forgives a
// peer that doesn't count the eight octets around the payload.
//
// From a *net.TCPConn and a *net.UnixConn the Reader may read by the file
// descriptor; deadlines and Close work as ever.
func NewReader(r io.Reader, maxFrame uint32) *Reader {
	f := &Reader{source: newSource(r)}
	f.SetMaxFrame(maxFrame)
	return f
}

// SetMaxFrame changes the limit for the frames to come, after the tuning.
func (r *Reader) SetMaxFrame(maxFrame uint32) {
	if maxFrame == 0 {
		maxFrame = math.MaxUint32
	}
	r.maxPayload = maxFrame
}

// ProtocolHeader reads the header that a client opens with; it comes before
// any Next. ErrProtocolHeader means that it was another one. The two of
// 0-9 are taken as 0-9-1's, as RabbitMQ does. The other errors are those of
// Next.
func (r *Reader) ProtocolHeader() error {
	for {
		b := r.unread()
		if len(b) >= len(ProtocolHeader) {
			switch string(b[:len(ProtocolHeader)]) {
			case ProtocolHeader, "AMQP\x01\x01\x00\x09", "AMQP\x01\x01\x09\x01":
				r.start += len(ProtocolHeader)
				return nil
			}
			return ErrProtocolHeader
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}

// Next returns the next frame. Its payload aliases the reader's buffer and is
// valid until the next call.
//
// Errors: io.EOF where the stream ends between frames, io.ErrUnexpectedEOF
// within one; an *Error for a malformed frame (501, or 505 for a heartbeat on
// a channel), which is final; else that of the stream's Read, after which
// Next may be called again where the stream can go on, as after a deadline:
// no byte is lost.
func (r *Reader) Next() (Frame, error) {
	for {
		if r.err != nil {
			return Frame{}, r.err
		}
		frame, size, err := cutFrame(r.unread(), r.maxPayload)
		if err != nil {
			return Frame{}, r.stop(err)
		}
		if size > 0 {
			r.start += size
			return frame, nil
		}
		if err := r.fill(); err != nil {
			return Frame{}, err
		}
	}
}

// Buffered reports whether Next has something to return without reading: a
// frame, or the error that a malformed one makes. While it is true an owner
// can go on collecting; when it is false Next may block.
func (r *Reader) Buffered() bool {
	if r.err != nil {
		return true
	}
	_, size, err := cutFrame(r.unread(), r.maxPayload)
	return size > 0 || err != nil
}

// cutFrame cuts the frame that b begins with. size is 0 where more bytes are
// needed. A frame that can't become valid is refused as soon as its first
// seven octets are there.
func cutFrame(b []byte, maxPayload uint32) (frame Frame, size int, err error) {
	if len(b) < frameHeadSize {
		return Frame{}, 0, nil
	}
	frame = Frame{Type: b[0], Channel: binary.BigEndian.Uint16(b[1:])}
	n := binary.BigEndian.Uint32(b[3:])
	if n > maxPayload {
		limit := max(int64(maxPayload)-frameOverhead, 0)
		return Frame{}, 0, malformed(frame, fmt.Sprintf("{frame_too_large,%d,%d}", n, limit))
	}
	switch frame.Type {
	case FrameMethod, FrameHeader, FrameBody:
	case FrameHeartbeat:
		if n != 0 {
			return Frame{}, 0, malformed(frame, "unknown_frame")
		}
		if frame.Channel != 0 {
			return Frame{}, 0, UnexpectedFrame("type %d, all octets = <<>>", frame.Type)
		}
	default:
		return Frame{}, 0, malformed(frame, "unknown_frame")
	}
	if uint64(len(b)) < uint64(n)+frameOverhead {
		return Frame{}, 0, nil
	}
	end := frameHeadSize + int(n)
	frame.Payload = b[frameHeadSize:end:end]
	if b[end] != FrameEnd {
		return Frame{}, 0, malformed(frame, fmt.Sprintf("{invalid_frame_end_marker,%d}", b[end]))
	}
	return frame, end + 1, nil
}

// malformed is the error 501 for a frame, with RabbitMQ's text.
func malformed(frame Frame, why string) *Error {
	all, octets := "all", frame.Payload
	if len(octets) > 16 {
		all, octets = "first 16", octets[:16]
	}
	return FrameError("type %d, %s octets = %s: %s", frame.Type, all, erlangBinary(octets), why)
}

// erlangBinary prints octets as Erlang does, and with it RabbitMQ's texts: as
// a string where all are printable, else as numbers.
func erlangBinary(b []byte) string {
	text, numbers := len(b) > 0, make([]string, 0, len(b))
	for _, c := range b {
		text = text && c >= ' ' && c <= '~'
		numbers = append(numbers, strconv.Itoa(int(c)))
	}
	if text {
		return fmt.Sprintf("<<%q>>", b)
	}
	return "<<" + strings.Join(numbers, ",") + ">>"
}

func (r *Reader) unread() []byte {
	if r.buffer == nil {
		return nil
	}
	return r.buffer.bytes[r.start:r.end]
}

// fill reads once, at least one byte, or returns why not.
func (r *Reader) fill() error {
	if r.err != nil {
		return r.err
	}
	n, err := r.source.read(r)
	if n > 0 {
		// An error that came along will come again.
		return nil
	}
	if err == io.EOF {
		if r.end > r.start {
			err = io.ErrUnexpectedEOF
		}
		return r.stop(err)
	}
	return err
}

// stop makes err the answer to everything from now on and lets the buffer go.
func (r *Reader) stop(err error) error {
	r.err = err
	r.release()
	return err
}

// room returns where the next read goes, never empty. With brief the caller
// expects few bytes, or none for long, and takes the smallest buffer; else the
// buffer is of the wanted tier at least. A longer piece of a frame is not
// moved to a smaller buffer: a peer that dribbles would have it copied forth
// and back for each byte.
func (r *Reader) room(brief bool) []byte {
	unread := r.end - r.start
	tier := r.tier
	if brief = brief && unread < bufferSizes[0]; brief {
		tier = 0
	}
	for tier < largestTier && bufferSizes[tier] <= unread {
		tier++
	}
	switch {
	case r.buffer == nil:
		r.buffer = takeBuffer(tier)
	case unread == len(r.buffer.bytes):
		r.move(r.buffer.larger())
	case r.buffer.tier < tier || brief && r.buffer.tier > 0:
		r.move(takeBuffer(tier))
	case unread == 0:
		r.start, r.end = 0, 0
	case len(r.buffer.bytes)-r.end < len(r.buffer.bytes)/2 && r.start > 0:
		// Half of the buffer free keeps reads large. What is copied is less
		// than a frame, and moves but once until it is complete.
		copy(r.buffer.bytes, r.buffer.bytes[r.start:r.end])
		r.start, r.end = 0, unread
	}
	return r.buffer.bytes[r.end:]
}

// move puts what is unread into another buffer.
func (r *Reader) move(to *buffer) {
	n := copy(to.bytes, r.buffer.bytes[r.start:r.end])
	r.buffer.give()
	r.buffer, r.start, r.end = to, 0, n
}

// rest lets go of what isn't needed while the stream has nothing to give.
func (r *Reader) rest() {
	switch unread := r.end - r.start; {
	case r.buffer == nil:
	case unread == 0:
		r.release()
	case unread < bufferSizes[0] && r.buffer.tier > 0:
		r.move(takeBuffer(0))
	}
}

// release lets the buffer go, and what is in it.
func (r *Reader) release() {
	if r.buffer != nil {
		r.buffer.give()
		r.buffer, r.start, r.end = nil, 0, 0
	}
}

// took accounts for n bytes read into room, and learns from them how large
// the next buffer should be. It reports whether the stream may have more.
func (r *Reader) took(n, room int) (more bool) {
	r.end += n
	if n == room {
		r.tier = min(r.tier+1, largestTier)
		return true
	}
	if r.tier > 0 && n < bufferSizes[r.tier-1]/2 {
		r.tier--
	}
	return false
}
