package broker

import (
	"slices"
	"sort"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// heldSet is the messages of one queue that a holder has, as ascending ranges.
// Adding at the end and removing from the front, the usual ways, are O(1)
// amortised.
type heldSet struct {
	ranges []entry.Range
	head   int
}

func (s *heldSet) empty() bool { return s.head == len(s.ranges) }

// list returns the ranges; they are the set's.
func (s *heldSet) list() []entry.Range { return s.ranges[s.head:] }

// has reports whether an id is in.
func (s *heldSet) has(id entry.MessageID) bool {
	at := s.search(id)
	return at < len(s.ranges) && s.ranges[at].First <= id
}

// add puts an id in.
func (s *heldSet) add(id entry.MessageID) {
	n := len(s.ranges)
	switch {
	case n == s.head || s.ranges[n-1].Last+1 < id:
		s.ranges = append(s.ranges, entry.Range{First: id, Last: id})
	case s.ranges[n-1].Last+1 == id:
		s.ranges[n-1].Last = id
	default: // A requeued one.
		at := s.search(id)
		if at < n && s.ranges[at].First <= id {
			return
		}
		s.ranges = slices.Insert(s.ranges, at, entry.Range{First: id, Last: id})
	}
}

// addAll puts the ids of a range in.
func (s *heldSet) addAll(r entry.Range) {
	for id := r.First; id <= r.Last; id++ {
		s.add(id)
	}
}

// search returns the place of the first range that ends at or after id.
func (s *heldSet) search(id entry.MessageID) int {
	list := s.list()
	return s.head + sort.Search(len(list), func(i int) bool { return list[i].Last >= id })
}

// remove takes ids out; those that are not in are passed over.
func (s *heldSet) remove(r entry.Range) {
	at := s.search(r.First)
	for at < len(s.ranges) && s.ranges[at].First <= r.Last {
		at = s.cut(at, r)
	}
	if s.empty() {
		s.ranges, s.head = s.ranges[:0], 0
	} else if s.head > 256 && s.head > len(s.ranges)/2 {
		s.ranges, s.head = slices.Delete(s.ranges, 0, s.head), 0
	}
}

// removeAll takes the ids of ranges out.
func (s *heldSet) removeAll(ranges []entry.Range) {
	for _, r := range ranges {
		s.remove(r)
	}
}

// cut takes r, which overlaps the range at a place, out of that range, and
// returns the place to go on at.
func (s *heldSet) cut(at int, r entry.Range) int {
	have := s.ranges[at]
	switch {
	case have.First < r.First && have.Last > r.Last:
		s.ranges[at].Last = r.First - 1
		s.ranges = slices.Insert(s.ranges, at+1, entry.Range{First: r.Last + 1, Last: have.Last})
		return at + 2
	case have.First < r.First:
		s.ranges[at].Last = r.First - 1
		return at + 1
	case have.Last > r.Last:
		s.ranges[at].First = r.Last + 1
		return at + 1
	case at == s.head:
		s.head++
		return at + 1
	}
	s.ranges = slices.Delete(s.ranges, at, at+1)
	return at
}
