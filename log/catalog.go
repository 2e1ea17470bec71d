package log

import (
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// catalog is the log's knowledge in memory: which segments there are, and for
// each group which entry lies where. It does no I/O and is not safe for
// concurrent use: Log.mu guards it once the log is open.
type catalog struct {
	dir      string // of the segments
	groups   map[entry.GroupID]*group
	segments []*segment // oldest first; ids are consecutive
	disk     int64      // bytes of all segments
	live     int64      // bytes of what compaction would keep
	entries  int64
	front    uint64 // newest front record's
}

func newCatalog(dir string) *catalog {
	return &catalog{dir: dir, groups: make(map[entry.GroupID]*group), front: 1}
}

func (c *catalog) group(id entry.GroupID) *group {
	g := c.groups[id]
	if g == nil {
		g = newGroup(id)
		c.groups[id] = g
	}
	return g
}

// known returns a group that something has been written of, or nil.
func (c *catalog) known(id entry.GroupID) *group {
	if g := c.groups[id]; g != nil && g.known {
		return g
	}
	return nil
}

// addSegment adds an empty segment after the newest.
func (c *catalog) addSegment(first uint64) *segment {
	id := uint32(1)
	if n := len(c.segments); n > 0 {
		id = c.segments[n-1].id + 1
	}
	s := newSegment(c.dir, id, first)
	c.segments = append(c.segments, s)
	return s
}

func (c *catalog) tail() *segment { return c.segments[len(c.segments)-1] }

// segment returns a segment by id, nil if it has been dropped.
func (c *catalog) segment(id uint32) *segment {
	if k := int64(id) - int64(c.segments[0].id); k >= 0 && k < int64(len(c.segments)) {
		return c.segments[k]
	}
	return nil
}

// grow counts a record at the end of the newest segment and returns its
// sequence.
func (c *catalog) grow(r record) (sequence uint64) {
	s := c.tail()
	s.count++
	s.size += framed(r.size)
	c.disk += framed(r.size)
	return s.first + s.count - 1
}

// apply takes note of a record at the end of the newest segment, and of what
// it means.
func (c *catalog) apply(r record) {
	sequence, s := c.grow(r), c.tail()
	switch r.kind {
	case kindEntry, kindMoved:
		g := c.group(r.group)
		if g.isReplaced(sequence, r.index) {
			return
		}
		g.known = true
		if r.kind == kindEntry {
			// Below the floor a newer record takes an older one's place and
			// that is all: there is one for every index up to the floor.
			c.discard(g, max(r.index, g.floor.Index+1))
		}
		c.place(g, r, s)
	case kindRefill:
		// What it says was committed, so no replacement concerns it.
		if g := c.group(r.group); r.index <= g.floor.Index {
			c.put(&g.places, r, s)
		} else {
			c.put(&g.refilled, r, s)
		}
	case kindHardState:
		g := c.group(r.group)
		g.known, g.hasHard = true, true
		g.hard = HardState{Term: r.term, Vote: r.vote, Commit: r.index}
		g.hardSegment = s.id
	case kindFront:
		c.front = max(c.front, r.index)
	case kindSynced:
	}
}

// isAt tells whether entry i of a group lies at a place.
func (c *catalog) isAt(id entry.GroupID, i uint64, at place) bool { return c.moveAs(id, i, at) != 0 }

// moveAs returns the kind of record with which entry i of a group moves from a
// place; 0 if it does not lie there.
func (c *catalog) moveAs(id entry.GroupID, i uint64, from place) kind {
	g := c.groups[id]
	if g == nil {
		return 0
	}
	if p := g.places.find(i); p != nil && p.same(from) {
		return kindMoved
	}
	if p := g.refilled.find(i); p != nil && p.same(from) {
		return kindRefill
	}
	return 0
}

// place sets the place of one of the group's own entries to a record in s.
func (c *catalog) place(g *group, r record, s *segment) {
	c.put(&g.places, r, s)
	if r.index > g.floor.Index {
		g.last = max(g.last, r.index)
		g.setTerm(r.index, r.term)
	}
}

// put sets an entry's place in x to a record in s.
func (c *catalog) put(x *index, r record, s *segment) {
	p := place{segment: s.id, offset: uint32(r.offset), size: uint32(r.size)}
	if old := x.find(r.index); old != nil {
		c.forgetBytes(*old)
		p.released = old.released
		*old = p
	} else {
		x.put(r.index, p)
		c.entries++
	}
	s.live += framed(r.size)
	c.live += framed(r.size)
}

// discard forgets every entry of g at index i and after. O(entries forgotten).
// REQUIRES: i is above the floor.
func (c *catalog) discard(g *group, i uint64) {
	for k := i; k <= g.last; k++ {
		c.forget(&g.places, k)
	}
	if i <= g.last {
		g.last = i - 1
		g.cutTerms(i)
	}
}

// forget removes an entry from x, if it is there.
func (c *catalog) forget(x *index, i uint64) {
	if p := x.find(i); p != nil {
		c.forgetBytes(*p)
		x.remove(i)
		c.entries--
	}
}

func (c *catalog) forgetBytes(p place) {
	n := framed(int64(p.size))
	c.live -= n
	if s := c.segment(p.segment); s != nil {
		s.live -= n
	}
}

// release says that an entry's body is needed no more: it is forgotten if it
// lies below the floor, and else when the floor passes it.
func (c *catalog) release(g *group, i uint64) {
	if i <= g.floor.Index {
		c.forget(&g.places, i)
	} else if p := g.places.find(i); p != nil {
		p.released = true
	}
}

// raiseFloor moves the floor up to at and forgets what is released below.
// O(entries passed). REQUIRES: at is at or above the floor.
func (c *catalog) raiseFloor(g *group, at entry.Position) {
	for i := g.floor.Index + 1; i <= min(at.Index, g.last); i++ {
		if p := g.places.find(i); p != nil && p.released {
			c.forget(&g.places, i)
		}
	}
	g.known = true
	g.floor = at
	g.last = max(g.last, at.Index)
	g.trimTerms()
}

// due tells whether the oldest segment is to go. The bound is disk <= 2 × live
// + slack; compaction begins short of it.
func (c *catalog) due(slack int64) bool {
	if len(c.segments) < 2 {
		return false
	}
	if c.segments[0].live == 0 {
		return c.disk > c.live+slack/2 // nothing to copy: it costs an unlink
	}
	return c.disk > c.live+c.live*3/4+slack*3/4
}

// dropFront forgets the oldest segment. REQUIRES: nothing live in it, and it
// is not the newest.
func (c *catalog) dropFront() {
	c.disk -= c.segments[0].size
	c.segments[0] = nil
	c.segments = c.segments[1:]
}

func (c *catalog) ids() []entry.GroupID {
	ids := make([]entry.GroupID, 0, len(c.groups))
	for id, g := range c.groups {
		if g.known {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
