package queue

import (
	"math"
	"slices"
)

// table is a sorted map from ids to small values: the messages of a queue, the
// reference counts of entries, the owners of deliveries. It is the leaves of a
// B+ tree under a plain list of them (the spine).
//
// A key costs 4 bytes beside its value while the table is dense, and there is
// no map entry, pointer or allocation per key. Chunks shrink and merge as keys
// go, so a table in which one key of a thousand is left takes a few times what
// the keys need, not a thousand times: one old message pins little.
//
// Ids come and go in order but for exceptions. In order, put, get, next and
// deleteRange are O(1) a key: two places are remembered, one for each of two
// interleaved walks (acks at the front, deliveries further on). Out of order
// they are O(log keys). When a chunk somewhere in the middle comes or goes the
// spine behind it moves, 8 bytes per 256 keys.
//
// The zero value of V marks deleted slots and can't be stored.
type table[V comparable] struct {
	pool   *pool[V]
	chunks []*chunk[V] // the spine. Invariant: bases ascend, spans don't overlap
	places [2]int      // chunks where the last searches ended, newest first
	live   int
	epoch  uint64 // raised by each snapshot; older chunks are copied before a write
}

// locate returns the last chunk whose base is not above key, -1 if none is.
func (t *table[V]) locate(key uint64) int {
	for p, i := range t.places {
		if i >= len(t.chunks) || t.chunks[i].base > key {
			continue
		}
		if i+1 < len(t.chunks) && t.chunks[i+1].base <= key {
			i++ // a walk has come to the next chunk
		}
		if i+1 == len(t.chunks) || key < t.chunks[i+1].base {
			t.places[p] = t.places[0]
			t.places[0] = i
			return i
		}
	}
	lo, hi := 0, len(t.chunks)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.chunks[mid].base <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	t.places[1] = t.places[0]
	t.places[0] = max(lo-1, 0)
	return lo - 1
}

// get looks a key up.
func (t *table[V]) get(key uint64) (v V, ok bool) {
	i := t.locate(key)
	if i < 0 {
		return v, false
	}
	c := t.chunks[i]
	slot := c.search(key)
	if slot == len(c.keys) || c.key(slot) != key {
		return v, false
	}
	var zero V
	return c.vals[slot], c.vals[slot] != zero
}

// next returns the first key that is not below from.
func (t *table[V]) next(from uint64) (key uint64, v V, ok bool) {
	if t.live == 0 {
		return 0, v, false
	}
	var zero V
	i := t.locate(from)
	if i >= 0 {
		c := t.chunks[i]
		for slot := max(c.search(from), c.first); slot < len(c.keys); slot++ {
			if c.vals[slot] != zero {
				return c.key(slot), c.vals[slot], true
			}
		}
	}
	if i+1 == len(t.chunks) {
		return 0, v, false
	}
	c := t.chunks[i+1]
	return c.key(c.first), c.vals[c.first], true
}

// bound is not below any key; 0 if there is none.
func (t *table[V]) bound() uint64 {
	if t.live == 0 {
		return 0
	}
	return t.chunks[len(t.chunks)-1].end()
}

// each calls fn with all keys from `from` on, until it returns false. fn must
// not change the table.
func (t *table[V]) each(from uint64, fn func(key uint64, v V) bool) {
	var zero V
	for i := max(t.locate(from), 0); i < len(t.chunks); i++ {
		c := t.chunks[i]
		slot := c.first
		if from > c.base {
			slot = max(slot, c.search(from))
		}
		for ; slot < len(c.keys); slot++ {
			if c.vals[slot] != zero && !fn(c.key(slot), c.vals[slot]) {
				return
			}
		}
	}
}

// update calls fn with all keys of first…last, both included, until it returns
// false. It may change the value, not to zero, and must not change the table.
func (t *table[V]) update(first, last uint64, fn func(key uint64, v *V) bool) {
	var zero V
	for i := max(t.locate(first), 0); i < len(t.chunks) && t.chunks[i].base <= last; i++ {
		c := t.own(i)
		slot := c.first
		if first > c.base {
			slot = max(slot, c.search(first))
		}
		for ; slot < len(c.keys) && c.key(slot) <= last; slot++ {
			if c.vals[slot] != zero && !fn(c.key(slot), &c.vals[slot]) {
				return
			}
		}
	}
}

// ref returns the place of a key's value, nil if there is none; it holds until
// the table changes.
func (t *table[V]) ref(key uint64) *V {
	var zero V
	i := t.locate(key)
	if i < 0 {
		return nil
	}
	c := t.own(i)
	slot := c.search(key)
	if slot == len(c.keys) || c.key(slot) != key || c.vals[slot] == zero {
		return nil
	}
	return &c.vals[slot]
}

// put adds a key or replaces its value.
func (t *table[V]) put(key uint64, v V) {
	if n := len(t.chunks); n > 0 {
		c := t.chunks[n-1]
		if key > c.end() && c.holds(key) && !c.full() && c.epoch == t.epoch {
			c.push(key, v)
			t.live++
			return
		}
	}
	t.insert(key, v)
}

// insert is put where the tail has no room for the key, or it is not the last.
func (t *table[V]) insert(key uint64, v V) {
	var zero V
	i := t.locate(key)
	if i < 0 {
		if len(t.chunks) == 0 || t.chunks[0].end()-key > math.MaxUint32 {
			t.insertChunk(0, 0, key, v)
			return
		}
		i = 0
		t.own(0).rebase(key)
	}
	c := t.own(i)
	if !c.holds(key) {
		t.insertChunk(i+1, 0, key, v)
		return
	}
	slot := c.search(key)
	switch {
	case slot < len(c.keys) && c.key(slot) == key && c.vals[slot] != zero:
		c.vals[slot] = v
	case !c.full() || slot < len(c.keys) && c.vals[slot] == zero || slot > 0 && c.vals[slot-1] == zero:
		c.insert(slot, key, v)
		t.live++
	case cap(c.keys) == maxChunk && slot == len(c.keys) && i+1 == len(t.chunks) && c.live > maxChunk/2:
		// The table grows in order: the next chunk is likely to be filled too.
		t.insertChunk(i+1, chunkClasses-1, key, v)
	default:
		t.makeRoom(i)
		t.insert(key, v)
	}
}

// insertChunk puts a new chunk with one key into the spine.
func (t *table[V]) insertChunk(i, class int, key uint64, v V) {
	c := t.pool.get(class, key, t.epoch)
	c.push(key, v)
	t.chunks = slices.Insert(t.chunks, i, c)
	t.live++
}

// makeRoom drops the deleted keys of a full chunk, or gives it the next class,
// or splits it.
func (t *table[V]) makeRoom(i int) {
	c := t.chunks[i]
	if c.live <= maxChunk/2 {
		t.replace(i, i+1, classOf(c.live*2))
		return
	}
	// More than half of the largest class are live, so both halves have some.
	half := len(c.keys) / 2
	upper := t.pool.get(chunkClasses-1, c.key(half), t.epoch)
	var zero V
	for slot := half; slot < len(c.keys); slot++ {
		if c.vals[slot] != zero {
			upper.push(c.key(slot), c.vals[slot])
		}
	}
	c.keys, c.vals = c.keys[:half], c.vals[:half]
	c.live -= upper.live
	t.chunks = slices.Insert(t.chunks, i+1, upper)
}

// replace puts one new chunk of a class in the place of chunks i…j-1, with
// their live keys.
func (t *table[V]) replace(i, j, class int) {
	old := t.chunks[i]
	c := t.pool.get(class, old.key(old.first), t.epoch)
	for k := i; k < j; k++ {
		c.pushLive(t.chunks[k])
		t.recycle(t.chunks[k])
	}
	t.chunks[i] = c
	t.cut(i+1, j)
}

// delete removes a key.
func (t *table[V]) delete(key uint64) {
	t.deleteRange(key, key, func(uint64, V) {})
}

// deleteRange removes the keys of first…last, both included, and calls fn with
// each before; it must not change the table. O(chunks touched).
func (t *table[V]) deleteRange(first, last uint64, fn func(key uint64, v V)) {
	start := max(t.locate(first), 0)
	i, emptied := start, start // emptied: one past the last chunk without keys
	cut := -1                  // the first chunk without keys
	for ; i < len(t.chunks) && t.chunks[i].base <= last; i++ {
		if t.chunks[i].end() < first {
			continue
		}
		c := t.own(i)
		t.deleteIn(c, first, last, fn)
		if c.live > 0 {
			continue
		}
		if cut < 0 {
			cut = i
		}
		emptied = i + 1
		t.recycle(c)
	}
	touched := i
	if cut >= 0 {
		t.cut(cut, emptied)
		touched -= emptied - cut
	}
	// Of those touched all but the first and the last are gone.
	if touched-1 > start {
		t.shrink(touched - 1)
	}
	if touched > start {
		t.shrink(start)
	}
}

func (t *table[V]) deleteIn(c *chunk[V], first, last uint64, fn func(uint64, V)) {
	var zero V
	slot := c.first
	if first > c.base {
		slot = max(slot, c.search(first))
	}
	for ; slot < len(c.keys); slot++ {
		key := c.key(slot)
		if key > last {
			break
		}
		if c.vals[slot] != zero {
			fn(key, c.vals[slot])
			c.vals[slot] = zero
			c.live--
			t.live--
		}
	}
	c.settleFirst()
}

// shrink gives a chunk that has lost many keys a smaller class, or joins it to
// a neighbour. The tail keeps some room, because it grows.
func (t *table[V]) shrink(i int) {
	c := t.chunks[i]
	want := c.live
	if i+1 == len(t.chunks) {
		want *= 2
	}
	if want > cap(c.keys)/2 || cap(c.keys) == minChunk {
		return
	}
	for _, j := range [2]int{i, i - 1} {
		if j < 0 || j+1 >= len(t.chunks) {
			continue
		}
		a, b := t.chunks[j], t.chunks[j+1]
		if a.live+b.live <= maxChunk/2 && b.end()-a.base <= math.MaxUint32 {
			t.replace(j, j+2, classOf(a.live+b.live))
			return
		}
	}
	t.replace(i, i+1, classOf(want))
}

// own returns chunk i, made the table's own if a snapshot shares it.
func (t *table[V]) own(i int) *chunk[V] {
	c := t.chunks[i]
	if c.epoch == t.epoch {
		return c
	}
	mine := t.pool.get(classOf(cap(c.keys)), c.base, t.epoch)
	mine.keys, mine.vals = append(mine.keys, c.keys...), append(mine.vals, c.vals...)
	mine.live, mine.first = c.live, c.first
	t.chunks[i] = mine
	return mine
}

// recycle gives a chunk that leaves the spine to the pool, unless a snapshot
// shares it.
func (t *table[V]) recycle(c *chunk[V]) {
	if c.epoch == t.epoch {
		t.pool.put(c)
	}
}

// cut takes chunks i…j-1 out of the spine: at the front O(1).
func (t *table[V]) cut(i, j int) {
	if i == j {
		return
	}
	if i == 0 {
		clear(t.chunks[:j])
		t.chunks = t.chunks[j:]
	} else {
		t.chunks = slices.Delete(t.chunks, i, j)
	}
	for p := range t.places {
		if t.places[p] >= j {
			t.places[p] -= j - i
		} else if t.places[p] > i {
			t.places[p] = i
		}
	}
}

// drop empties the table.
func (t *table[V]) drop() {
	for _, c := range t.chunks {
		t.recycle(c)
	}
	t.chunks, t.live = nil, 0
}

// snapshot returns the spine as it is; its chunks don't change any more.
func (t *table[V]) snapshot() []*chunk[V] {
	t.epoch++
	return slices.Clone(t.chunks)
}
