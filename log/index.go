package log

const (
	chunkEntries = 128
	// A chunk with few places left is kept as a short list, so that old live
	// entries that lie far apart do not pin 2 KiB each.
	sparseMax = 16
	sparseMin = 8
)

// place is where an entry's record lies. 16 bytes; segment 0 means nowhere.
type place struct {
	segment  uint32 // segment.id
	offset   uint32 // of the record in it: a segment ends with the record that fills it
	size     uint32 // of the record
	released bool   // the state machine needs the body no more
}

func (p place) same(q place) bool { return p.segment == q.segment && p.offset == q.offset }

// index maps a group's entry indexes to places, at 16 bytes an entry where
// they are dense. Not safe for concurrent use.
type index struct {
	chunks map[uint64]*chunk // by entry index / chunkEntries; none is empty
}

// chunk is the places of chunkEntries consecutive indexes: an array, or a list
// in no order when few are there.
type chunk struct {
	count  int
	dense  *[chunkEntries]place
	sparse []sparsePlace
}

type sparsePlace struct {
	slot uint8
	place
}

func newIndex() index { return index{chunks: make(map[uint64]*chunk)} }

// find returns a pointer to the place of entry i, valid until the index
// changes, or nil.
func (x *index) find(i uint64) *place {
	c := x.chunks[i/chunkEntries]
	if c == nil {
		return nil
	}
	return c.find(uint8(i % chunkEntries))
}

func (c *chunk) find(slot uint8) *place {
	if c.dense != nil {
		if p := &c.dense[slot]; p.segment != 0 {
			return p
		}
		return nil
	}
	for k := range c.sparse {
		if c.sparse[k].slot == slot {
			return &c.sparse[k].place
		}
	}
	return nil
}

// within appends the indexes of chunk n that are held and lie in after < i <=
// upto, in ascending order.
func (x *index) within(dst []uint64, n, after, upto uint64) []uint64 {
	c := x.chunks[n]
	if c == nil {
		return dst
	}
	for slot := range uint64(chunkEntries) {
		if i := n*chunkEntries + slot; i > after && i <= upto && c.find(uint8(slot)) != nil {
			dst = append(dst, i)
		}
	}
	return dst
}

// put sets the place of entry i. REQUIRES: find(i) == nil.
func (x *index) put(i uint64, p place) {
	c := x.chunks[i/chunkEntries]
	if c == nil {
		c = &chunk{}
		x.chunks[i/chunkEntries] = c
	}
	slot := uint8(i % chunkEntries)
	if c.dense == nil && c.count == sparseMax {
		c.dense = new([chunkEntries]place)
		for _, s := range c.sparse {
			c.dense[s.slot] = s.place
		}
		c.sparse = nil
	}
	if c.dense != nil {
		c.dense[slot] = p
	} else {
		c.sparse = append(c.sparse, sparsePlace{slot, p})
	}
	c.count++
}

// remove forgets entry i. REQUIRES: find(i) != nil.
func (x *index) remove(i uint64) {
	c := x.chunks[i/chunkEntries]
	slot := uint8(i % chunkEntries)
	c.count--
	if c.count == 0 {
		delete(x.chunks, i/chunkEntries)
		return
	}
	if c.dense == nil {
		for k := range c.sparse {
			if c.sparse[k].slot == slot {
				c.sparse[k] = c.sparse[c.count]
				c.sparse = c.sparse[:c.count]
				return
			}
		}
		panic("log: remove of an entry that the index does not hold")
	}
	c.dense[slot] = place{}
	if c.count > sparseMin {
		return
	}
	c.sparse = make([]sparsePlace, 0, sparseMin)
	for k := range c.dense {
		if c.dense[k].segment != 0 {
			c.sparse = append(c.sparse, sparsePlace{uint8(k), c.dense[k]})
		}
	}
	c.dense = nil
}
