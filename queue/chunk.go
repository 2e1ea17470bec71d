package queue

import "math"

// Chunks have room for one of these numbers of keys: minChunk << class.
const (
	minChunk     = 8
	maxChunk     = 256
	chunkClasses = 6
	// poolDepth bounds the spare chunks that a pool keeps of each class.
	poolDepth = 64
)

// chunk is a sorted run of keys with their values, in a table.
type chunk[V comparable] struct {
	base uint64   // keys are kept as their difference to it
	keys []uint32 // ascending. Invariant: its capacity is a class, and that of vals
	vals []V      // of the same length; the zero value where a key was deleted
	live int      // keys not deleted. Invariant: > 0 while in a table
	// Invariant: slot first is live, all before it are deleted.
	first int
	epoch uint64 // the table's when it was made: if older, a snapshot shares it
}

func (c *chunk[V]) full() bool            { return len(c.keys) == cap(c.keys) }
func (c *chunk[V]) key(slot int) uint64   { return c.base + uint64(c.keys[slot]) }
func (c *chunk[V]) end() uint64           { return c.key(len(c.keys) - 1) }
func (c *chunk[V]) holds(key uint64) bool { return key >= c.base && key-c.base <= math.MaxUint32 }

// push appends a key above all others. REQUIRES: there is room, it fits.
func (c *chunk[V]) push(key uint64, v V) {
	c.keys = append(c.keys, uint32(key-c.base))
	c.vals = append(c.vals, v)
	c.live++
}

// pushLive appends the live keys of from, which are above all others.
func (c *chunk[V]) pushLive(from *chunk[V]) {
	var zero V
	for slot := from.first; slot < len(from.keys); slot++ {
		if from.vals[slot] != zero {
			c.push(from.key(slot), from.vals[slot])
		}
	}
}

// search returns the first slot whose key is not below key, deleted or not.
// REQUIRES: key >= base. Keys mostly follow one another without a gap, so
// the place where key would be then is tried before the binary search.
func (c *chunk[V]) search(key uint64) int {
	offset := key - c.base
	n := len(c.keys)
	hi := n
	if offset < uint64(n) {
		if uint64(c.keys[offset]) == offset {
			return int(offset)
		}
		hi = int(offset) // the keys are distinct, so a slot is never behind its key
	}
	lo := 0
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if uint64(c.keys[mid]) < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// insert puts a key that is not there in its slot. REQUIRES: there is room or
// a deleted slot beside it, and the key fits.
func (c *chunk[V]) insert(slot int, key uint64, v V) {
	var zero V
	offset := uint32(key - c.base)
	switch {
	case slot < len(c.keys) && c.vals[slot] == zero:
	case slot > 0 && c.vals[slot-1] == zero:
		slot--
	default:
		c.keys, c.vals = append(c.keys, 0), append(c.vals, zero)
		copy(c.keys[slot+1:], c.keys[slot:])
		copy(c.vals[slot+1:], c.vals[slot:])
		if slot <= c.first {
			c.first++
		}
	}
	c.keys[slot], c.vals[slot] = offset, v
	c.live++
	c.first = min(c.first, slot)
}

// rebase lowers the base. REQUIRES: the last key still fits.
func (c *chunk[V]) rebase(base uint64) {
	for i := range c.keys {
		c.keys[i] += uint32(c.base - base)
	}
	c.base = base
}

// settleFirst restores the invariant of first after deletions.
func (c *chunk[V]) settleFirst() {
	var zero V
	for c.first < len(c.vals) && c.vals[c.first] == zero {
		c.first++
	}
}

// classOf is the smallest class with room for n keys.
func classOf(n int) int {
	class := 0
	for minChunk<<class < n {
		class++
	}
	return class
}

// pool keeps spare chunks, so that a queue through which messages flow
// allocates nothing. Its tables belong to one goroutine.
type pool[V comparable] struct {
	spare [chunkClasses][]*chunk[V]
}

func (p *pool[V]) get(class int, base, epoch uint64) *chunk[V] {
	spare := p.spare[class]
	if n := len(spare); n > 0 {
		c := spare[n-1]
		p.spare[class] = spare[:n-1]
		c.base, c.epoch = base, epoch
		return c
	}
	return &chunk[V]{
		base:  base,
		keys:  make([]uint32, 0, minChunk<<class),
		vals:  make([]V, 0, minChunk<<class),
		epoch: epoch,
	}
}

// put takes a chunk back. REQUIRES: no table and no snapshot has it.
func (p *pool[V]) put(c *chunk[V]) {
	class := classOf(cap(c.keys))
	if len(p.spare[class]) < poolDepth {
		c.keys, c.vals, c.live, c.first = c.keys[:0], c.vals[:0], 0, 0
		p.spare[class] = append(p.spare[class], c)
	}
}
