package topology

import "slices"

// smallSet is a set that remembers the order of arrival and is scanned while it
// is small, so that the usual few cost no allocation: give it a list on the
// stack to begin with.
type smallSet[T comparable] struct {
	list  []T
	index map[T]struct{} // nil while the set is small
}

// smallSetScan is up to how many elements a scan is faster than a map.
const smallSetScan = 32

func (s *smallSet[T]) add(v T) {
	if s.index == nil {
		if slices.Contains(s.list, v) {
			return
		}
		if len(s.list) >= smallSetScan {
			s.index = make(map[T]struct{}, 2*smallSetScan)
			for _, e := range s.list {
				s.index[e] = struct{}{}
			}
		}
	} else if _, found := s.index[v]; found {
		return
	}
	s.list = append(s.list, v)
	if s.index != nil {
		s.index[v] = struct{}{}
	}
}
