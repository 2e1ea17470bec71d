package queue

import (
	"encoding/binary"
	"slices"
	"time"
)

const (
	// ProducerMemory is for how long a producer is remembered that publishes
	// nothing.
	ProducerMemory = 24 * time.Hour
	// maxProducers and maxProducerBytes bound those of a group. Beyond, the ones
	// that were idle for longest are forgotten.
	maxProducers     = 100_000
	maxProducerBytes = 64 << 20
	// maxProducerName is the most bytes of a producer's name, and of its vhost's.
	maxProducerName = 255
	// producerBytes is about what one takes beside its name and its words.
	producerBytes = 160
)

// producers is what a machine remembers of those who number what they publish,
// so that a publish that comes again by another way is enqueued once. All of it
// follows from the entries applied: who is forgotten too.
type producers struct {
	byKey          map[string]*producer
	oldest, newest *producer // a list in the order of their last publishes
	bytes          int
	// most and mostBytes are the bounds.
	most, mostBytes int
	last            *producer // looked up last
	epoch           uint64    // raised by each snapshot: see producer.epoch
}

// producer is one of them.
type producer struct {
	key         string
	seen        int64 // batch time of its last publish
	window      window
	epoch       uint64 // words older than the producers' epoch belong to a snapshot
	prev, next  *producer
	countedSize int // of it in producers.bytes
}

func newProducers() producers {
	return producers{byKey: make(map[string]*producer), most: maxProducers, mostBytes: maxProducerBytes}
}

// splitProducer splits a producer's key: the lengths and bytes of vhost and name
// as AppendOnce has them.
func splitProducer(key []byte) (vhost, producer []byte) {
	n, w := binary.Uvarint(key)
	vhost, key = key[w:w+int(n)], key[w+int(n):]
	_, w = binary.Uvarint(key)
	return vhost, key[w:]
}

// find returns a producer, nil if it is not known. Most publishes of an entry
// are of the same one, so the last is kept at hand.
func (ps *producers) find(key []byte) *producer {
	if p := ps.last; p != nil && p.key == string(key) {
		return p
	}
	p := ps.byKey[string(key)]
	if p != nil {
		ps.last = p
	}
	return p
}

// remember notes that a publish of a producer was enqueued.
// REQUIRES: it is neither seen nor below the window.
func (ps *producers) remember(key []byte, sequence uint64, now int64) {
	p := ps.find(key)
	if p == nil {
		p = &producer{key: string(key), epoch: ps.epoch}
		ps.byKey[p.key], ps.last = p, p
		ps.append(p)
	}
	if p.epoch != ps.epoch {
		p.window.words, p.epoch = slices.Clone(p.window.words), ps.epoch
	}
	p.window.add(sequence)
	ps.count(p)
	ps.touch(p, now)
	for len(ps.byKey) > ps.most || ps.bytes > ps.mostBytes && ps.oldest != ps.newest {
		ps.forget(ps.oldest)
	}
}

// touch puts a producer at the end of the list.
func (ps *producers) touch(p *producer, now int64) {
	p.seen = now
	if p != ps.newest {
		ps.unlink(p)
		ps.append(p)
	}
}

// forgetIdle forgets those that have been idle for too long at a time. O(forgotten).
func (ps *producers) forgetIdle(now int64) {
	for ps.oldest != nil && now-ps.oldest.seen >= int64(ProducerMemory) {
		ps.forget(ps.oldest)
	}
}

func (ps *producers) forget(p *producer) {
	ps.unlink(p)
	delete(ps.byKey, p.key)
	ps.bytes -= p.countedSize
	ps.last = nil
}

// count brings the bytes up to date with one.
func (ps *producers) count(p *producer) {
	size := producerBytes + len(p.key) + 8*len(p.window.words)
	ps.bytes += size - p.countedSize
	p.countedSize = size
}

func (ps *producers) append(p *producer) {
	p.prev, p.next = ps.newest, nil
	if p.prev != nil {
		p.prev.next = p
	} else {
		ps.oldest = p
	}
	ps.newest = p
}

func (ps *producers) unlink(p *producer) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		ps.oldest = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		ps.newest = p.prev
	}
}

// fresh reports whether a publish of a producer is to be enqueued, and notes in
// fx why it is not.
func (m *Machine) fresh(ordinal int, op *Op, fx *Effects) bool {
	p := m.producers.find(op.producer)
	if p == nil {
		return true
	}
	m.producers.touch(p, m.now)
	if p.window.below(op.Sequence) {
		p.refuse(ordinal, op, fx)
		return false
	}
	if p.window.has(op.Sequence) {
		fx.Dropped++
		return false
	}
	return true
}

// judgeAgain finds out once more which publishes of the current submission, which
// comes again, were refused: who submits it again was told of nothing. One that is
// too old by now, and was not when it came first, can't be told from them; it is
// refused too, which promises nothing of it.
func (m *Machine) judgeAgain(fx *Effects) {
	for ordinal := 0; m.batch.NextOp(&m.op); ordinal++ {
		if m.op.Sequence == 0 {
			continue
		}
		if p := m.producers.find(m.op.producer); p != nil && p.window.below(m.op.Sequence) {
			p.refuse(ordinal, &m.op, fx)
		}
	}
}

func (p *producer) refuse(ordinal int, op *Op, fx *Effects) {
	fx.ops = append(fx.ops, OpResult{Op: ordinal, Kind: op.Kind, Code: TooOld, N: p.window.highest})
	vhost, name := op.Producer()
	fx.TooOld = append(fx.TooOld, Numbered{string(vhost), string(name), op.Sequence, p.window.highest})
}

// Producers is how many producers are remembered that number their publishes.
func (m *Machine) Producers() int { return len(m.producers.byKey) }

// ProducerBytes is about how much memory they take.
func (m *Machine) ProducerBytes() int { return m.producers.bytes }
