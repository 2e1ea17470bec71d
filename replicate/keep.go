package replicate

import (
	"sort"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// KeepFrom is the index up to which the log may be cut: the owner raises the
// floor (by a checkpoint) no further, so that a mirror that lags or was away
// for a short while is served from the log. On a leader that is what the
// slowest member has on its disk, but at most KeepLive bytes back for one that
// is heard, KeepAbsent for one that is not; and never past a checkpoint that is
// being sent. On a mirror, which does not know what the others have but may
// lead them next, it is KeepTail bytes back.
//
// It is a wish for the sake of speed: a floor beyond it costs a mirror a
// checkpoint and is safe. O(members).
func (n *Node) KeepFrom() uint64 {
	if n.err != nil || n.role != Leader {
		return min(n.applied.Index, n.sizes.back(n.config.KeepTail))
	}
	keep := n.applied.Index
	n.raft.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id == n.config.ID || p.Match >= keep {
			return
		}
		if at, sending := n.sending[id]; sending {
			keep = min(keep, max(p.Match, at))
			return
		}
		bound := n.config.KeepAbsent
		if n.hears(id) {
			bound = n.config.KeepLive
		}
		keep = min(keep, max(p.Match, n.sizes.back(bound)))
	})
	return keep
}

// sizeStep is how much lies between two marks of sizes.
const sizeStep = 64 << 10

// sizes knows roughly how many bytes of a log follow an index: to sizeStep or
// an entry, whichever is larger. Entries from before the start count nothing.
type sizes struct {
	marks []mark // ascending in both
	total uint64
}

// mark says how many bytes came up to an index, that entry included.
type mark struct{ index, total uint64 }

// append counts the entry at index, which discards those from there on.
func (s *sizes) append(index uint64, size int) {
	for n := len(s.marks); n > 0 && s.marks[n-1].index >= index; n-- {
		s.total = min(s.total, s.marks[n-1].total)
		s.marks = s.marks[:n-1]
	}
	s.total += uint64(size) + entryOverhead
	if n := len(s.marks); n == 0 || s.total-s.marks[n-1].total >= sizeStep {
		s.marks = append(s.marks, mark{index, s.total})
	}
}

// back is the lowest known index with at most size bytes behind it; 0 if all of
// the log fits.
func (s *sizes) back(size uint64) uint64 {
	if s.total <= size || len(s.marks) == 0 {
		return 0
	}
	i := sort.Search(len(s.marks), func(i int) bool { return s.total-s.marks[i].total <= size })
	if i == len(s.marks) {
		return s.marks[i-1].index
	}
	return s.marks[i].index
}

// raise forgets marks below a floor.
func (s *sizes) raise(floor uint64) {
	i := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].index >= floor })
	if i > len(s.marks)/2 { // rarely, so that it costs O(1) a mark
		s.marks = append([]mark(nil), s.marks[i:]...)
	}
}
