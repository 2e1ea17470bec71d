package queue

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Apply applies the committed entry at index and fills fx with what that did.
// An empty payload is an entry without ops. Indexes ascend; gaps are entries
// that were not for the state machine (membership changes).
//
// An error wraps ErrMalformed and means that an invariant upstream is broken
// (the leader checks what it proposes): ops before the malformed one were
// applied, and the machine must not be used any more.
func (m *Machine) Apply(index uint64, payload []byte, fx *Effects) error {
	if index <= m.applied || index > maxIndex {
		panic(fmt.Sprintf("queue: entry %d applied after %d", index, m.applied))
	}
	fx.Reset()
	m.applied, m.current, m.stamped = index, 0, false
	b := &m.batch
	if err := b.Open(payload); err != nil {
		return err
	}
	m.now = max(m.now, b.Now)
	m.producers.forgetIdle(m.now)
	for b.NextSubmission() {
		r := Result{Session: b.Session, Seq: b.Seq}
		first := len(fx.ops)
		if m.accept(b.Session, b.Seq) {
			for ordinal := 0; b.NextOp(&m.op); ordinal++ {
				if err := m.applyOp(ordinal, &m.op, fx); err != nil {
					return err
				}
			}
		} else {
			r.Duplicate = true
			m.judgeAgain(fx)
		}
		if len(fx.ops) > first {
			r.Ops = fx.ops[first:len(fx.ops):len(fx.ops)]
		}
		fx.Results = append(fx.Results, r)
	}
	if b.Err() != nil {
		return b.Err()
	}
	b.close()
	if m.current > 0 {
		m.entries.put(index, m.current)
		if m.stamped && m.now > 0 {
			m.stamps.put(index, m.now)
		}
	} else {
		fx.Released = append(fx.Released, index)
	}
	return nil
}

// accept tells whether a submission is new, and remembers it.
func (m *Machine) accept(id entry.SessionID, seq uint64) bool {
	if id == 0 {
		return true
	}
	s := m.sessions[id]
	if s == nil {
		m.sessions[id] = &session{seq: seq, seen: m.now}
		return true
	}
	if seq <= s.seq {
		return false
	}
	s.seq, s.seen = seq, m.now
	return true
}

func (m *Machine) applyOp(ordinal int, op *Op, fx *Effects) error {
	if op.Kind == Enqueue || op.Kind == EnqueueExpiring {
		m.enqueue(ordinal, op, fx)
		return nil
	}
	if op.Kind == EndSession {
		delete(m.sessions, op.Session)
		return nil
	}
	q := m.find(op.Queue)
	if op.Kind == Create {
		return m.create(ordinal, q, op, fx)
	}
	if q == nil {
		if op.Kind == Delete || op.Kind == Purge {
			fx.ops = append(fx.ops, OpResult{Op: ordinal, Kind: op.Kind, Code: NoQueue})
		}
		return nil
	}
	switch op.Kind {
	case Settle:
		for _, r := range op.Ranges {
			m.remove(q, uint64(r.First), uint64(r.Last), fx)
		}
		fx.Settled = append(fx.Settled, Change{q.id, fx.keep(op.Ranges)})
		m.touch(q, fx)
	case Return:
		for _, r := range op.Ranges {
			q.waiting.update(uint64(r.First), uint64(r.Last), countDelivery)
		}
		fx.Returned = append(fx.Returned, Change{q.id, fx.keep(op.Ranges)})
		m.touch(q, fx)
	case Delete:
		m.delete(ordinal, q, op, fx)
	case Purge:
		before := q.waiting.live
		except := fx.keep(op.Ranges)
		eachOther(except, op.UpTo, func(r entry.Range) { m.remove(q, uint64(r.First), uint64(r.Last), fx) })
		fx.Purged = append(fx.Purged, Purged{q.id, op.UpTo, except})
		fx.ops = append(fx.ops, OpResult{Op: ordinal, Kind: Purge, N: uint64(before - q.waiting.live)})
		m.touch(q, fx)
	case Mark:
		q.mark = max(q.mark, op.UpTo)
	}
	return nil
}

func (m *Machine) enqueue(ordinal int, op *Op, fx *Effects) {
	if op.Sequence > 0 && !m.fresh(ordinal, op, fx) {
		return
	}
	before := m.current
	for i := range op.Queues() {
		q := m.find(op.QueueAt(i))
		if q == nil {
			continue
		}
		q.last++
		q.waiting.put(uint64(q.last), record{place: m.applied << 16, offset: op.Offset, size: op.Size})
		q.bytes += uint64(op.Size)
		m.current++
		m.touch(q, fx)
		if q.settings.Expires || op.Kind == EnqueueExpiring {
			m.limit(q, op, fx)
		}
	}
	if op.Sequence > 0 && m.current > before {
		m.producers.remember(op.producer, op.Sequence, m.now)
	}
}

func (m *Machine) touch(q *state, fx *Effects) {
	if q.touched != m.applied {
		q.touched = m.applied
		fx.Touched = append(fx.Touched, q.id)
	}
}

// remove takes messages first…last out of a queue. Neighbours are mostly of
// one entry, so its references are counted down once for a run of them.
func (m *Machine) remove(q *state, first, last uint64, fx *Effects) {
	var index uint64
	var run uint32
	q.waiting.deleteRange(first, last, func(_ uint64, r record) {
		if r.index() != index {
			if run > 0 {
				m.release(index, run, fx)
			}
			index, run = r.index(), 0
		}
		run++
		q.bytes -= uint64(r.size)
	})
	if run > 0 {
		m.release(index, run, fx)
	}
	if q.expirations != nil && q.expirations.live > 0 {
		q.expirations.deleteRange(first, last, func(uint64, int64) {})
	}
}

func countDelivery(_ uint64, r *record) bool {
	if r.place&maxDeliveries < maxDeliveries {
		r.place++
	}
	return true
}

func (m *Machine) create(ordinal int, q *state, op *Op, fx *Effects) error {
	settings, err := op.Settings()
	if err != nil {
		return err
	}
	if q != nil {
		fx.ops = append(fx.ops, OpResult{Op: ordinal, Kind: Create, Code: Exists})
		return nil
	}
	m.newState(op.Queue, settings)
	fx.Created = append(fx.Created, op.Queue)
	return nil
}

func (m *Machine) delete(ordinal int, q *state, op *Op, fx *Effects) {
	result := OpResult{Op: ordinal, Kind: Delete, N: uint64(q.waiting.live)}
	if op.IfEmpty && result.N > 0 {
		result.Code = NotEmpty
		fx.ops = append(fx.ops, result)
		return
	}
	m.remove(q, 0, math.MaxUint64, fx)
	q.waiting.drop()
	q.expirations = nil
	delete(m.queues, q.id)
	m.lastUsed = nil
	fx.Deleted = append(fx.Deleted, q.id)
	fx.ops = append(fx.ops, result)
}

// eachOther calls fn with the ranges up to upto that lie between those given.
// It sorts ranges in place.
func eachOther(ranges []entry.Range, upto entry.MessageID, fn func(entry.Range)) {
	byFirst := func(a, b entry.Range) int { return cmp.Compare(a.First, b.First) }
	if !slices.IsSortedFunc(ranges, byFirst) {
		slices.SortFunc(ranges, byFirst)
	}
	var next entry.MessageID
	for _, r := range ranges {
		if r.First > upto {
			break
		}
		if r.First > next {
			fn(entry.Range{First: next, Last: r.First - 1})
		}
		if r.Last >= upto {
			return
		}
		next = max(next, r.Last+1)
	}
	fn(entry.Range{First: next, Last: upto})
}
