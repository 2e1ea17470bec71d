package replicate

import (
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
)

// entryOverhead is about what an entry costs in memory beside its payload: the
// protobuf struct, its three boxed fields and the slot.
const entryOverhead = 160

// Ring holds a group's newest entries, so that applying and delivering them
// reads no disk. It is bounded in bytes and drops the oldest; the newest stays
// whatever its size, until the next one comes: it is about to be applied. The owner's loop
// alone changes it; Get may be called from any goroutine and takes no lock.
type Ring struct {
	limit int64
	bytes atomic.Int64

	// slots is replaced when the ring grows. A reader that still holds the old
	// ones sees entries as they were, which is right: entries never change, and
	// one that was truncated was never committed, so nobody asks for it.
	slots atomic.Pointer[[]atomic.Pointer[raftpb.Entry]]

	// Owner's. The ring holds the entries of [first, next), all of them.
	// Invariant: next - first <= len(slots), a power of two.
	first, next uint64
}

func newRing(limit int64) *Ring {
	r := &Ring{limit: limit}
	slots := make([]atomic.Pointer[raftpb.Entry], 64)
	r.slots.Store(&slots)
	return r
}

// Get returns the payload of the entry at index, false if it is not held. The
// caller must not change it, and may keep it.
//
// REQUIRES: the entry at index was applied; others may be replaced.
func (r *Ring) Get(index uint64) ([]byte, bool) {
	if e := r.entry(index); e != nil {
		return e.Data, true
	}
	return nil, false
}

// Bytes is what the ring holds, overhead included.
func (r *Ring) Bytes() int64 { return r.bytes.Load() }

func (r *Ring) entry(index uint64) *raftpb.Entry {
	slots := *r.slots.Load()
	e := slots[index&uint64(len(slots)-1)].Load()
	if e == nil || e.GetIndex() != index {
		return nil
	}
	return e
}

// put adds the entry that follows the last, or replaces everything from its
// index on. After a gap (there is none but at the start) only e is left; an
// entry that is larger than the ring leaves it empty.
func (r *Ring) put(e *raftpb.Entry) {
	index := e.GetIndex()
	switch {
	case index > r.next || index < r.first:
		r.truncate(r.first)
		r.first, r.next = index, index
	case index < r.next:
		r.truncate(index)
	}
	size := entrySize(e)
	for r.first < r.next && r.bytes.Load()+size > r.limit {
		r.drop(r.first)
		r.first++
	}
	r.next = index + 1
	slots := r.grow()
	slots[index&uint64(len(slots)-1)].Store(e)
	r.bytes.Add(size)
}

func (r *Ring) truncate(from uint64) {
	for r.next > from {
		r.next--
		r.drop(r.next)
	}
}

func (r *Ring) drop(index uint64) {
	e := r.entry(index)
	if e == nil {
		return
	}
	slots := *r.slots.Load()
	slots[index&uint64(len(slots)-1)].Store(nil)
	r.bytes.Add(-entrySize(e))
}

// grow makes room for [first, next) by doubling: O(entries), seldom.
func (r *Ring) grow() []atomic.Pointer[raftpb.Entry] {
	old := *r.slots.Load()
	if r.next-r.first <= uint64(len(old)) {
		return old
	}
	slots := make([]atomic.Pointer[raftpb.Entry], 2*len(old))
	for i := r.first; i < r.next; i++ {
		if e := r.entry(i); e != nil {
			slots[i&uint64(len(slots)-1)].Store(e)
		}
	}
	r.slots.Store(&slots)
	return slots
}

func entrySize(e *raftpb.Entry) int64 { return int64(len(e.GetData())) + entryOverhead }
