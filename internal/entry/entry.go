// Package entry holds the identities and small formats that every room of the
// broker shares: groups, positions, queues, messages and where their bodies
// lie. It has no behaviour beyond comparing, encoding and printing them, and
// imports nothing of ours, so that queue, log, replicate and elect can speak
// of the same things without importing one another.
package entry

import (
	"cmp"
	"fmt"
)

// GroupID names one replicated log and its state machine.
type GroupID uint32

const (
	// Topology is the group of vhosts, users, exchanges, bindings and the
	// queue registry.
	Topology GroupID = 0
	// Volatile is the group of a broker's in-memory queues (exclusive,
	// auto-delete, non-durable). It has no log and is never replicated.
	Volatile GroupID = 1 << 31
)

// QueueID identifies a queue for its whole life. It is drawn at random when
// the queue is declared and never reused: a queue deleted and declared again
// under the same name has another one.
type QueueID uint64

// MessageID is a message's place in its queue's order: the first is 1, each
// enqueue takes the next. Ids are never reused within a queue, and a requeued
// message keeps its own, which is what keeps the order.
type MessageID uint64

// Range is the message ids from First to Last, both included.
// Invariant: First <= Last.
type Range struct{ First, Last MessageID }

// Len is the number of ids in the range.
func (r Range) Len() uint64 { return uint64(r.Last-r.First) + 1 }

// AppendID adds id to ranges that are built in ascending order, growing the
// last range where id follows it.
func AppendID(ranges []Range, id MessageID) []Range {
	if n := len(ranges); n > 0 && ranges[n-1].Last+1 == id {
		ranges[n-1].Last = id
		return ranges
	}
	return append(ranges, Range{id, id})
}

// SessionID identifies one gateway's life: a broker draws a new one at each
// start. With a sequence it makes submissions idempotent.
type SessionID uint64

// Position is the place of a log's entry. Positions are compared, never bare
// indexes: a longer log of an older term is the older log (Raft, section 5.4.1).
type Position struct{ Term, Index uint64 }

// Compare is negative when p is before q, 0 when they are equal.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Term, q.Term); c != 0 {
		return c
	}
	return cmp.Compare(p.Index, q.Index)
}

// String prints term/index.
func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Term, p.Index) }

// Ref says where a message's Content lies: in the payload of its group's entry
// Index, Size bytes from Offset.
type Ref struct {
	Index  uint64
	Offset uint32
	Size   uint32
}
