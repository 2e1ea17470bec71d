package topology

import "slices"

// smallSet is a set that remembers the order of arrival. It holds a few
// elements in itself, so that the usual few cost no allocation, and is scanned
// while it is small.
type smallSet[T comparable] struct {
	few   [16]T
	n     int            // elements in few
	more  []T            // those after them
	index map[T]struct{} // of all; nil while the set is small
}

// smallSetScan is up to how many elements a scan is faster than a map.
const smallSetScan = 32

func (s *smallSet[T]) len() int { return s.n + len(s.more) }

// at is the i-th to arrive.
func (s *smallSet[T]) at(i int) T {
	if i < len(s.few) {
		return s.few[i]
	}
	return s.more[i-len(s.few)]
}

func (s *smallSet[T]) add(v T) {
	if s.index == nil {
		if slices.Contains(s.few[:s.n], v) || slices.Contains(s.more, v) {
			return
		}
	} else if _, found := s.index[v]; found {
		return
	}
	if s.n < len(s.few) {
		s.few[s.n] = v
		s.n++
		return
	}
	s.more = append(s.more, v)
	if s.index != nil {
		s.index[v] = struct{}{}
	} else if s.len() > smallSetScan {
		s.index = make(map[T]struct{}, 2*s.len())
		for i := range s.len() {
			s.index[s.at(i)] = struct{}{}
		}
	}
}
