package broker

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// wireKind says what a wireMessage is about.
type wireKind uint8

// From a gateway to a group's leader, unless said otherwise. A call has an
// answer of the kind wireReply with the same number.
const (
	wireHello      wireKind = iota + 1 // the gateway begins, with its session; leader: it may
	wireAttach                         // call: consumer, and what it holds from before
	wireHold                           // holder and queue hold these from before, by get
	wireAttached                       // all that was before is told, in greeting seq, n is 1 if it was doubtful; leader: it has judged that
	wireSubmit                         // seq, quorum, ops; settled are the messages that those are about
	wireCredit                         // consumer, n
	wireLimit                          // holder, n
	wireDetach                         // call: consumer
	wireGet                            // call: holder, queue
	wireClose                          // call: holder
	wireCount                          // call: numbers are queues, n is 1 for at once
	wirePurge                          // call: queue
	wireDeaths                         // call: queue; when what died in it before is dead-lettered
	wireDeadLetter                     // call: holder, queue, ranges
	wireFetch                          // call: numbers are index, offset and size of bodies; any broker that has the group
	wireTransfer                       // call: text is the broker that is to lead

	wireTaken     // leader: of what was told, others have these of a holder and queue, or nobody
	wireDone      // leader: the ends of submissions
	wireDeliver   // leader: deliveries
	wireCancelled // leader: the consumer's queue is gone
	wireReply     // leader: answer to a call
	wireRefused   // leader: it does not lead
	wireFetched   // any broker: call, n bytes of the bodies came before ops
	wireApplied   // any broker: how far its topology is (seq), n copies of each of m groups
	wireStranger  // any broker: the one with the incarnation seq has lost its data
	wireReplace   // any broker: an operator has text replaced by the newcomer seq
	wireKnown     // any broker, to a newcomer: text is known with the incarnation seq
	wireEnd
)

// The answers' codes.
const (
	replyOK uint64 = iota
	replyNoQueue
	replyExclusiveUse
	replyEmpty
	replyFailed // with text
)

// ended is the end of one submission, or tells that its weak quorum holds.
type ended struct {
	seq    uint64
	index  uint64 // that it was applied with; 0 if it was not
	failed string // "" when it was applied
	ops    []byte // encoded results, for the gateway's machine to read
}

// early reports whether it is neither applied nor refused yet.
func (e *ended) early() bool { return e.index == 0 && e.failed == "" }

// wireMessage is everything that gateways and leaders tell one another. One
// struct with one encoding for all kinds: a field that a kind does not use is a
// byte. Here it travels as it is, to another broker encoded.
type wireMessage struct {
	kind     wireKind
	group    entry.GroupID
	term     uint64
	call     uint64
	session  entry.SessionID
	seq      uint64
	quorum   int64
	holder   queue.HolderID
	queue    entry.QueueID
	consumer queue.Consumer
	n, m     uint64
	code     uint64
	text     string
	ops      []byte
	ranges   []entry.Range
	numbers  []uint64
	settled  []settledNote

	ended      []ended
	deliveries []queue.Delivery
	bodies     [][]byte // of the deliveries, where the gateway has no copy of the group

	// round is when it came, for the gateway that it came to: see doubt.
	round uint32
	// submission is the submission itself, between a gateway and a leader on
	// the same broker.
	submission *submission
}

var errWire = errors.New("broker: malformed message between brokers")

const wireVersion = 2

// append encodes m after dst. All numbers are uvarints.
func (m *wireMessage) append(dst []byte) []byte {
	dst = append(dst, wireVersion, byte(m.kind))
	for _, n := range [...]uint64{
		uint64(m.group), m.term, m.call, uint64(m.session), m.seq, uint64(m.quorum), uint64(m.holder), uint64(m.queue),
		uint64(m.consumer.ID), uint64(m.consumer.Holder), uint64(m.consumer.Queue), flagBits(m.consumer.NoAck, m.consumer.Exclusive),
		uint64(m.consumer.Prefetch), uint64(m.consumer.Link), uint64(uint32(m.consumer.Priority)), m.n, m.m, m.code,
	} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = appendWireBytes(dst, []byte(m.text))
	dst = appendWireBytes(dst, m.ops)
	dst = appendWireRanges(dst, m.ranges)
	dst = binary.AppendUvarint(dst, uint64(len(m.numbers)))
	for _, n := range m.numbers {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.settled)))
	for _, n := range m.settled {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(n.holder)), uint64(n.queue))
		dst = appendWireRanges(dst, n.ranges)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.ended)))
	for _, e := range m.ended {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, e.seq), e.index)
		dst = appendWireBytes(appendWireBytes(dst, []byte(e.failed)), e.ops)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.deliveries)))
	for i := range m.deliveries {
		d := &m.deliveries[i]
		for _, n := range [...]uint64{
			uint64(d.Consumer), uint64(d.Holder), uint64(d.Queue), uint64(d.Message), d.Ref.Index,
			uint64(d.Ref.Offset), uint64(d.Ref.Size), uint64(d.Deliveries), flagBits(d.Redelivered, d.NoAck),
		} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.bodies)))
	for _, b := range m.bodies {
		dst = appendWireBytes(dst, b)
	}
	return dst
}

func flagBits(flags ...bool) (bits uint64) {
	for i, f := range flags {
		if f {
			bits |= 1 << i
		}
	}
	return bits
}

func appendWireBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendWireRanges(dst []byte, ranges []entry.Range) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ranges)))
	for _, r := range ranges {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(r.First)), uint64(r.Last-r.First))
	}
	return dst
}

// parseWire decodes a message, which aliases b.
func parseWire(b []byte) (*wireMessage, error) {
	if len(b) < 2 || b[0] != wireVersion {
		return nil, fmt.Errorf("%w: version", errWire)
	}
	m := &wireMessage{kind: wireKind(b[1])}
	if m.kind == 0 || m.kind >= wireEnd {
		return nil, fmt.Errorf("%w: kind %d", errWire, b[1])
	}
	r := wireReader{b: b[2:]}
	m.group, m.term, m.call = entry.GroupID(r.number()), r.number(), r.number()
	m.session, m.seq, m.quorum = entry.SessionID(r.number()), r.number(), int64(r.number())
	m.holder, m.queue = queue.HolderID(r.number()), entry.QueueID(r.number())
	c := &m.consumer
	c.ID, c.Holder, c.Queue = queue.ConsumerID(r.number()), queue.HolderID(r.number()), entry.QueueID(r.number())
	bits := r.number()
	c.NoAck, c.Exclusive = bits&1 != 0, bits&2 != 0
	c.Prefetch, c.Link, c.Priority = uint32(r.number()), uint32(r.number()), int32(uint32(r.number()))
	m.n, m.m, m.code = r.number(), r.number(), r.number()
	m.text, m.ops = string(r.bytes()), r.bytes()
	m.ranges = r.ranges()
	for range r.count(1) {
		m.numbers = append(m.numbers, r.number())
	}
	for range r.count(3) {
		m.settled = append(m.settled, settledNote{queue.HolderID(r.number()), entry.QueueID(r.number()), r.ranges()})
	}
	for range r.count(4) {
		m.ended = append(m.ended, ended{r.number(), r.number(), string(r.bytes()), r.bytes()})
	}
	for range r.count(9) {
		m.deliveries = append(m.deliveries, r.delivery())
	}
	for range r.count(1) {
		m.bodies = append(m.bodies, r.bytes())
	}
	if r.bad || len(r.b) > 0 || len(m.bodies) > 0 && len(m.bodies) != len(m.deliveries) {
		return nil, fmt.Errorf("%w: kind %d of %d bytes", errWire, m.kind, len(b))
	}
	return m, nil
}

// wireReader reads the fields of a message. Once something is wrong it reads
// zeros.
type wireReader struct {
	b   []byte
	bad bool
}

func (r *wireReader) number() uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[w:]
	return n
}

// count reads the length of a list whose items have at least size bytes.
func (r *wireReader) count(size int) int {
	n := r.number()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *wireReader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *wireReader) ranges() (ranges []entry.Range) {
	for range r.count(2) {
		first := r.number()
		ranges = append(ranges, entry.Range{First: entry.MessageID(first), Last: entry.MessageID(first + r.number())})
	}
	return ranges
}

func (r *wireReader) delivery() (d queue.Delivery) {
	d.Consumer, d.Holder = queue.ConsumerID(r.number()), queue.HolderID(r.number())
	d.Queue, d.Message = entry.QueueID(r.number()), entry.MessageID(r.number())
	d.Ref = entry.Ref{Index: r.number(), Offset: uint32(r.number()), Size: uint32(r.number())}
	d.Deliveries = uint32(r.number())
	bits := r.number()
	d.Redelivered, d.NoAck = bits&1 != 0, bits&2 != 0
	return d
}

// appendResults encodes what ops had to say.
func appendResults(dst []byte, results []queue.OpResult) []byte {
	for _, r := range results {
		dst = binary.AppendUvarint(dst, uint64(r.Op))
		dst = append(dst, byte(r.Kind), byte(r.Code))
		dst = binary.AppendUvarint(dst, r.N)
	}
	return dst
}

func parseResults(b []byte) (results []queue.OpResult, err error) {
	r := wireReader{b: b}
	for len(r.b) > 0 {
		o := queue.OpResult{Op: int(r.number())}
		if len(r.b) < 2 {
			return nil, fmt.Errorf("%w: results", errWire)
		}
		o.Kind, o.Code = queue.Kind(r.b[0]), queue.Code(r.b[1])
		r.b = r.b[2:]
		o.N = r.number()
		results = append(results, o)
	}
	if r.bad {
		return nil, fmt.Errorf("%w: results", errWire)
	}
	return results, nil
}
