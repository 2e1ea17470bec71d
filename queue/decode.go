package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// ErrMalformed is returned for bytes that are not a batch, an op or a
// checkpoint.
var ErrMalformed = errors.New("queue: malformed")

// Op is one decoded op. Only the fields of its kind mean anything; slices
// alias the payload or the decoder's buffer until the next op is read.
type Op struct {
	Kind     Kind
	Queue    entry.QueueID   // all but the enqueues and EndSession
	Offset   uint32          // enqueues: where the content starts in the payload
	Size     uint32          // enqueues: bytes of content
	Ranges   []entry.Range   // Settle, Return; Purge: what is spared
	UpTo     entry.MessageID // Purge, Mark
	IfEmpty  bool            // Delete
	Session  entry.SessionID // EndSession
	Lifetime time.Duration   // EnqueueExpiring
	Sequence uint64          // enqueues: which of its producer's; 0 for none's
	settings []byte          // Create
	queues   []byte          // enqueues: 8 bytes each
	producer []byte          // enqueues with a Sequence: see producerKey
}

// Queues is the number of queues that an enqueue names.
func (o *Op) Queues() int { return len(o.queues) / 8 }

// QueueAt is the i-th queue that an enqueue names.
func (o *Op) QueueAt(i int) entry.QueueID {
	return entry.QueueID(binary.LittleEndian.Uint64(o.queues[8*i:]))
}

// Producer is who published an enqueue with a Sequence.
func (o *Op) Producer() (vhost, producer []byte) { return splitProducer(o.producer) }

// Settings decodes those of a Create.
func (o *Op) Settings() (Settings, error) { return parseSettings(o.settings) }

// Batch reads a payload: NextSubmission, then NextOp until it says no, and so
// on. It decodes in place and checks every length; an op's ranges go to a
// buffer that grows with the payload, never with what the payload claims.
// The first error ends the reading, Err has it.
type Batch struct {
	Now     int64           // the leader's time, nanoseconds of the Unix epoch
	Session entry.SessionID // of the current submission
	Seq     uint64          // of the current submission

	payload []byte
	at      int // next byte of payload
	end     int // end of the current submission's ops
	ranges  []entry.Range
	err     error
}

// Open starts reading payload, which must not change meanwhile. The buffer of
// an earlier reading is kept.
func (b *Batch) Open(payload []byte) error {
	*b = Batch{payload: payload, ranges: b.ranges[:0]}
	switch {
	case len(payload) == 0:
	case uint64(len(payload)) > math.MaxUint32:
		return b.fail("a batch above 4 GiB")
	case payload[0] != batchVersion:
		return b.fail("batch version")
	case len(payload) < BatchHeadSize:
		return b.fail("batch head")
	default:
		b.Now = int64(binary.LittleEndian.Uint64(payload[1:]))
		b.at, b.end = BatchHeadSize, BatchHeadSize
	}
	return nil
}

// close lets go of the caller's memory, and of a buffer that one large batch
// has made too large to keep.
func (b *Batch) close() {
	b.payload = nil
	if cap(b.ranges) > 1<<16 {
		b.ranges = nil
	}
}

// Err is the first error met, wrapping ErrMalformed.
func (b *Batch) Err() error { return b.err }

// NextSubmission goes to the next submission, passing over ops of the current
// one that were not read. It is false at the end and after an error.
func (b *Batch) NextSubmission() bool {
	if b.err != nil {
		return false
	}
	b.at = b.end
	if b.at == len(b.payload) {
		return false
	}
	b.end = len(b.payload)
	session := b.uint64()
	seq, size := b.uvarint(), b.uvarint()
	if b.err != nil || size > uint64(b.end-b.at) {
		b.fail("submission")
		return false
	}
	b.Session, b.Seq = entry.SessionID(session), seq
	b.end = b.at + int(size)
	return true
}

// NextOp reads the current submission's next op. It is false at the
// submission's end and after an error.
func (b *Batch) NextOp(op *Op) bool {
	if b.at >= b.end || b.err != nil {
		return false
	}
	op.Kind, op.Sequence = Kind(b.payload[b.at]), 0
	b.at++
	if op.Kind == Enqueue {
		return b.enqueue(op)
	}
	if op.Kind == Once {
		if !b.once(op) {
			return false
		}
		if op.Kind == Enqueue {
			return b.enqueue(op)
		}
	}
	if op.Kind == EnqueueExpiring {
		lifetime := b.uvarint()
		if lifetime > maxTTL {
			b.fail("expiration")
			return false
		}
		op.Lifetime = time.Duration(lifetime) * time.Millisecond
		return b.enqueue(op)
	}
	id := b.uint64()
	op.Queue = entry.QueueID(id)
	switch op.Kind {
	case Settle, Return:
		op.Ranges = b.rangeList()
	case Create:
		if op.settings = b.bytes(); len(op.settings) > maxSettings {
			b.fail("size of settings")
		}
	case Delete:
		if b.at < b.end {
			op.IfEmpty = b.payload[b.at] == 1
			b.at++
		} else {
			b.fail("delete")
		}
	case Purge:
		op.UpTo = entry.MessageID(b.uvarint())
		op.Ranges = b.rangeList()
	case Mark:
		op.UpTo = entry.MessageID(b.uvarint())
	case EndSession:
		op.Queue, op.Session = 0, entry.SessionID(id)
	default:
		b.fail("kind of op")
	}
	return b.err == nil
}

func (b *Batch) enqueue(op *Op) bool {
	n := b.uvarint()
	if n > uint64(b.end-b.at)/8 {
		b.fail("queues of an enqueue")
		return false
	}
	op.queues = b.payload[b.at : b.at+int(n)*8]
	b.at += int(n) * 8
	size := b.uvarint()
	if b.err != nil || size > uint64(b.end-b.at) {
		b.fail("content of an enqueue")
		return false
	}
	op.Offset, op.Size = uint32(b.at), uint32(size)
	b.at += int(size)
	return true
}

// once reads whose the enqueue behind it is, and the enqueue's kind.
func (b *Batch) once(op *Op) bool {
	at := b.at
	vhost, producer := b.bytes(), b.bytes()
	op.producer = b.payload[at:b.at]
	op.Sequence = b.uvarint()
	if b.err == nil && (len(vhost) > maxProducerName || len(producer) == 0 || len(producer) > maxProducerName) {
		b.fail("producer")
	}
	if b.err == nil && (op.Sequence == 0 || op.Sequence > MaxSequence) {
		b.fail("sequence of a producer")
	}
	if b.err == nil && (b.at == b.end || Kind(b.payload[b.at]) != Enqueue && Kind(b.payload[b.at]) != EnqueueExpiring) {
		b.fail("no enqueue of a producer")
	}
	if b.err != nil {
		return false
	}
	op.Kind = Kind(b.payload[b.at])
	b.at++
	return true
}

// rangeList reads ranges into the buffer, each checked to be First ≤ Last.
func (b *Batch) rangeList() []entry.Range {
	n := b.uvarint()
	if n > uint64(b.end-b.at)/2 { // a range takes two bytes at least
		b.fail("number of ranges")
		return nil
	}
	b.ranges = b.ranges[:0]
	for range n {
		first, more := b.uvarint(), b.uvarint()
		if b.err != nil || more > math.MaxUint64-first {
			b.fail("range")
			return nil
		}
		b.ranges = append(b.ranges, entry.Range{First: entry.MessageID(first), Last: entry.MessageID(first + more)})
	}
	return b.ranges
}

func (b *Batch) bytes() []byte {
	n := b.uvarint()
	if b.err != nil || n > uint64(b.end-b.at) {
		b.fail("length")
		return nil
	}
	s := b.payload[b.at : b.at+int(n)]
	b.at += int(n)
	return s
}

func (b *Batch) uint64() uint64 {
	if b.end-b.at < 8 {
		b.fail("integer")
		return 0
	}
	n := binary.LittleEndian.Uint64(b.payload[b.at:])
	b.at += 8
	return n
}

func (b *Batch) uvarint() uint64 {
	if b.at < b.end && b.payload[b.at] < 0x80 {
		b.at++
		return uint64(b.payload[b.at-1])
	}
	n, w := binary.Uvarint(b.payload[b.at:b.end])
	if w <= 0 {
		b.fail("varint")
		return 0
	}
	b.at += w
	return n
}

// fail keeps the first error and stops the reading.
func (b *Batch) fail(what string) error {
	if b.err == nil {
		b.err = fmt.Errorf("%w batch: %s at byte %d of %d", ErrMalformed, what, b.at, len(b.payload))
	}
	b.at = b.end
	return b.err
}

// CheckOps tells whether ops, as they come from another broker, would be
// applied without an error. A leader checks what it proposes: a malformed
// batch in the log stops every replica.
func CheckOps(ops []byte) error {
	var op Op
	b := Batch{payload: ops, end: len(ops)}
	for b.NextOp(&op) {
		if op.Kind == Create {
			if _, err := op.Settings(); err != nil {
				return err
			}
		}
	}
	return b.Err()
}
