package queue

import (
	"cmp"
	"encoding/binary"
	"io"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	checkpointMagic = "MMQC"
	// checkpointVersion is what is written. Version 1 had no expirations and
	// stamps, version 2 no producers; both are still read.
	checkpointVersion = 3
	checkpointEnd     = "END\n"
	// checkpointBuffer is how much is written or read at once, in bytes.
	checkpointBuffer = 64 << 10
	// maxMessageSize bounds a message of a checkpoint, in bytes.
	maxMessageSize = 5 * binary.MaxVarintLen64
)

// Snapshot is a machine's state at one index, which stays as it is while the
// machine goes on. It may be written on another goroutine.
type Snapshot struct {
	applied   uint64
	now       int64
	sessions  []sessionImage
	queues    []queueImage
	stamps    timesImage
	producers []producerImage
}

type sessionImage struct {
	id entry.SessionID
	session
}

type queueImage struct {
	state       // without its tables
	count       int
	chunks      []*chunk[record]
	expirations timesImage
}

type producerImage struct {
	key    string
	seen   int64
	window window
}

// timesImage is a table of times.
type timesImage struct {
	count  int
	chunks []*chunk[int64]
}

func imageOf(t *table[int64]) timesImage {
	if t == nil || t.live == 0 {
		return timesImage{}
	}
	return timesImage{t.live, t.snapshot()}
}

// Snapshot costs O(queues + sessions + producers + messages/256): 1,000,000
// messages take less than 0.1 ms. They are shared; a chunk of up to 256 is copied
// when the machine next changes it, and so is a producer's window.
func (m *Machine) Snapshot() *Snapshot {
	s := &Snapshot{applied: m.applied, now: m.now, stamps: imageOf(&m.stamps), producers: m.producers.snapshot()}
	for id, one := range m.sessions {
		s.sessions = append(s.sessions, sessionImage{id, *one})
	}
	for _, q := range m.queues {
		image := queueImage{count: q.waiting.live, chunks: q.waiting.snapshot(), expirations: imageOf(q.expirations)}
		image.id, image.settings, image.last, image.mark = q.id, q.settings, q.last, q.mark
		s.queues = append(s.queues, image)
	}
	return s
}

// Applied is the index of the last entry in the snapshot.
func (s *Snapshot) Applied() uint64 { return s.applied }

// Checkpoint writes the state in the form that doc.go draws: O(messages), about
// 8 bytes each. The error is w's.
func (m *Machine) Checkpoint(w io.Writer) error { return m.Snapshot().Checkpoint(w) }

// Checkpoint writes the snapshot, as Machine.Checkpoint does.
func (s *Snapshot) Checkpoint(w io.Writer) error {
	// The maps gave them in any order.
	slices.SortFunc(s.sessions, func(a, b sessionImage) int { return cmp.Compare(a.id, b.id) })
	slices.SortFunc(s.queues, func(a, b queueImage) int { return cmp.Compare(a.id, b.id) })

	out := &blockWriter{w: w, buf: make([]byte, 0, checkpointBuffer)}
	b := append(append(out.buf, checkpointMagic...), checkpointVersion)
	b = binary.AppendUvarint(b, s.applied)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.now))
	b = binary.AppendUvarint(b, uint64(len(s.sessions)))
	for _, one := range s.sessions {
		b = out.flush(b)
		b = binary.LittleEndian.AppendUint64(b, uint64(one.id))
		b = binary.AppendUvarint(b, one.seq)
		b = binary.LittleEndian.AppendUint64(b, uint64(one.seen))
	}
	b = binary.AppendUvarint(b, uint64(len(s.queues)))
	for i := range s.queues {
		b = s.queues[i].append(out, b)
	}
	b = s.stamps.append(out, b)
	b = binary.AppendUvarint(out.flush(b), uint64(len(s.producers)))
	for i := range s.producers {
		b = s.producers[i].append(out, b)
	}
	b = append(b, checkpointEnd...)
	out.write(b)
	return out.err
}

func (q *queueImage) append(out *blockWriter, b []byte) []byte {
	b = out.flush(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(q.id))
	b = binary.AppendUvarint(b, uint64(q.settings.size()))
	b = q.settings.append(b)
	b = binary.AppendUvarint(b, uint64(q.last))
	b = binary.AppendUvarint(b, uint64(q.mark))
	b = binary.AppendUvarint(b, uint64(q.count))
	var id, index uint64
	for _, c := range q.chunks {
		for slot := c.first; slot < len(c.keys); slot++ {
			r := c.vals[slot]
			if r == (record{}) {
				continue
			}
			b = out.flush(b)
			key := c.key(slot)
			b = binary.AppendUvarint(b, key-id)
			b = binary.AppendUvarint(b, r.index()-index)
			b = binary.AppendUvarint(b, uint64(r.offset))
			b = binary.AppendUvarint(b, uint64(r.size))
			b = binary.AppendUvarint(b, uint64(r.deliveries()))
			id, index = key, r.index()
		}
	}
	return q.expirations.append(out, b)
}

func (t *timesImage) append(out *blockWriter, b []byte) []byte {
	b = binary.AppendUvarint(out.flush(b), uint64(t.count))
	previous := uint64(0)
	for _, c := range t.chunks {
		for slot := c.first; slot < len(c.keys); slot++ {
			if c.vals[slot] == 0 {
				continue
			}
			key := c.key(slot)
			b = binary.AppendUvarint(out.flush(b), key-previous)
			b = binary.LittleEndian.AppendUint64(b, uint64(c.vals[slot]))
			previous = key
		}
	}
	return b
}

// snapshot returns the producers in the order in which they will be forgotten.
func (ps *producers) snapshot() []producerImage {
	ps.epoch++
	images := make([]producerImage, 0, len(ps.byKey))
	for p := ps.oldest; p != nil; p = p.next {
		images = append(images, producerImage{p.key, p.seen, p.window})
	}
	return images
}

func (p *producerImage) append(out *blockWriter, b []byte) []byte {
	b = append(out.flush(b), p.key...)
	b = binary.LittleEndian.AppendUint64(out.flush(b), uint64(p.seen))
	b = binary.AppendUvarint(b, p.window.highest)
	b = binary.AppendUvarint(b, p.window.highest-p.window.first)
	b = binary.AppendUvarint(b, uint64(len(p.window.words)))
	for _, word := range p.window.words {
		b = binary.LittleEndian.AppendUint64(out.flush(b), word)
	}
	return b
}

// blockWriter writes large blocks and keeps the first error. bufio.Writer
// would take a call per byte or per field.
type blockWriter struct {
	w   io.Writer
	buf []byte
	err error
}

// flush writes b out when there is no room for a message behind it, and
// returns what to append to.
func (o *blockWriter) flush(b []byte) []byte {
	if cap(b)-len(b) >= maxMessageSize {
		return b
	}
	o.write(b)
	return b[:0]
}

func (o *blockWriter) write(b []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(b)
	}
}
