package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Restore reads what Checkpoint wrote, to the end of r. Bytes that are not
// that give an error that wraps ErrMalformed, and take no more memory than a
// few times their number.
func Restore(r io.Reader) (*Machine, error) {
	in := &blockReader{r: r, block: make([]byte, 0, checkpointBuffer)}
	m := NewMachine()
	m.restore(in)
	if in.err == nil && in.more(1) {
		in.fail("bytes after the end")
	}
	if in.err != nil {
		return nil, in.err
	}
	return m, nil
}

func (m *Machine) restore(in *blockReader) {
	if string(in.take(len(checkpointMagic))) != checkpointMagic {
		in.fail("magic")
		return
	}
	version := in.uvarint()
	if version < 1 || version > checkpointVersion {
		in.fail("version")
		return
	}
	m.applied = in.uvarint()
	m.now = int64(in.uint64())
	if m.applied > maxIndex {
		in.fail("applied index")
	}
	previous := uint64(0)
	for range in.uvarint() {
		id := in.uint64()
		one := &session{seq: in.uvarint(), seen: int64(in.uint64())}
		if in.err != nil || id <= previous {
			in.fail("session")
			return
		}
		m.sessions[entry.SessionID(id)], previous = one, id
	}
	any := false
	for range in.uvarint() {
		id := in.uint64()
		if in.err != nil || any && id <= previous {
			in.fail("queue")
			return
		}
		q := m.restoreQueue(in, entry.QueueID(id))
		if version > 1 && in.err == nil {
			m.restoreExpirations(in, q)
		}
		any, previous = true, id
	}
	if version > 1 {
		in.times(&m.stamps, m.Live)
	}
	if version > 2 {
		m.restoreProducers(in)
	}
	if string(in.take(len(checkpointEnd))) != checkpointEnd {
		in.fail("end")
	}
}

// restoreQueue returns the queue, and what is read of it up to an error.
func (m *Machine) restoreQueue(in *blockReader, id entry.QueueID) *state {
	q := m.newState(id, Settings{})
	size := in.uvarint()
	if size > maxSettings {
		in.fail("size of settings")
		return q
	}
	settings, err := parseSettings(in.take(int(size)))
	if err != nil {
		in.fail(err.Error())
		return q
	}
	q.settings = settings
	q.last, q.mark = entry.MessageID(in.uvarint()), entry.MessageID(in.uvarint())

	if q.last > maxMessage {
		in.fail("last id")
		return q
	}

	count := in.uvarint()
	var message, index uint64 // of the message before
	var run uint32            // messages of entry index not yet counted
	for range count {
		b := in.peek(maxMessageSize)
		var f [5]uint64
		at := 0
		for i := range f {
			v, w := binary.Uvarint(b[at:])
			if w <= 0 {
				in.fail("message")
				return q
			}
			f[i], at = v, at+w
		}
		in.skip(at)
		if f[0] == 0 || f[0] > uint64(q.last)-message || f[1] > m.applied-index ||
			f[2] > math.MaxUint32 || f[3] > math.MaxUint32 || f[4] > maxDeliveries || index+f[1] == 0 {
			in.fail("message")
			return q
		}
		if f[1] > 0 && run > 0 {
			m.retain(index, run)
			run = 0
		}
		message, index, run = message+f[0], index+f[1], run+1
		q.waiting.put(message, record{place: index<<16 | f[4], offset: uint32(f[2]), size: uint32(f[3])})
		q.bytes += f[3]
	}
	if run > 0 {
		m.retain(index, run)
	}
	return q
}

func (m *Machine) restoreExpirations(in *blockReader, q *state) {
	var t table[int64]
	t.pool = &m.times
	in.times(&t, func(id uint64) bool {
		_, ok := q.waiting.get(id)
		return ok
	})
	if t.live > 0 {
		q.expirations = &t
	}
}

func (m *Machine) restoreProducers(in *blockReader) {
	ps := &m.producers
	for range in.uvarint() {
		key := in.producerKey()
		p := &producer{key: string(key), seen: int64(in.uint64())}
		w := &p.window
		w.highest = in.uvarint()
		w.first = w.highest - in.uvarint()
		n := in.uvarint()
		if in.err != nil || n > ProducerWindow/64+1 {
			in.fail("producer")
			return
		}
		for range n {
			w.words = append(w.words, in.uint64())
		}
		if in.err != nil || !w.valid() || ps.byKey[p.key] != nil || p.seen > m.now || ps.newest != nil && p.seen < ps.newest.seen {
			in.fail("producer")
			return
		}
		ps.byKey[p.key] = p
		ps.append(p)
		ps.count(p)
	}
}

// producerKey reads one, as it is: see splitProducer. It holds until the next call.
func (in *blockReader) producerKey() []byte {
	b := in.peek(2 * (2 + maxProducerName))
	end := 0
	for _, least := range [...]uint64{0, 1} {
		n, w := binary.Uvarint(b[end:])
		if w <= 0 || n < least || n > maxProducerName || n > uint64(len(b)-end-w) {
			in.fail("producer's name")
			return nil
		}
		end += w + int(n)
	}
	return in.take(end)
}

// times reads what timesImage.append wrote into an empty table, each key
// checked to be known.
func (in *blockReader) times(t *table[int64], known func(key uint64) bool) {
	key := uint64(0)
	for range in.uvarint() {
		more, at := in.uvarint(), int64(in.uint64())
		if in.err != nil || more == 0 || more > math.MaxUint64-key || at == 0 || !known(key+more) {
			in.fail("time")
			return
		}
		key += more
		t.put(key, at)
	}
}

// blockReader reads large blocks and keeps the first error.
type blockReader struct {
	r     io.Reader
	block []byte // all the memory
	buf   []byte // what was read and not yet taken, in block
	at    int64  // bytes taken
	eof   bool
	err   error
}

// more tells whether n bytes can be had, n ≤ maxSettings.
func (in *blockReader) more(n int) bool {
	for len(in.buf) < n && !in.eof && in.err == nil {
		if cap(in.buf) < n || len(in.buf) == cap(in.buf) {
			in.buf = append(in.block[:0], in.buf...)
		}
		got, err := in.r.Read(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+got]
		if errors.Is(err, io.EOF) {
			in.eof = true
		} else if err != nil {
			in.err = fmt.Errorf("queue: reading a checkpoint at byte %d: %w", in.at+int64(len(in.buf)), err)
		}
	}
	return len(in.buf) >= n
}

// peek returns the next n bytes, fewer at the end.
func (in *blockReader) peek(n int) []byte {
	if !in.more(n) {
		n = len(in.buf)
	}
	return in.buf[:n]
}

func (in *blockReader) skip(n int) {
	in.buf = in.buf[n:]
	in.at += int64(n)
}

// take returns the next n bytes, nil if there are fewer. They hold until the
// next call.
func (in *blockReader) take(n int) []byte {
	if !in.more(n) {
		in.fail("truncated")
		return nil
	}
	b := in.buf[:n]
	in.skip(n)
	return b
}

func (in *blockReader) uint64() uint64 {
	if b := in.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// uvarint returns 0 after an error, so that loops over a count end.
func (in *blockReader) uvarint() uint64 {
	v, w := binary.Uvarint(in.peek(binary.MaxVarintLen64))
	if w <= 0 || in.err != nil {
		in.fail("varint")
		return 0
	}
	in.skip(w)
	return v
}

func (in *blockReader) fail(what string) {
	if in.err == nil {
		in.err = fmt.Errorf("%w checkpoint: %s at byte %d", ErrMalformed, what, in.at)
	}
}
