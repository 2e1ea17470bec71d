package log

import (
	"sort"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// group is what the log knows of one group. Guarded by Log.mu, except for the
// fields marked as the writer's.
//
// Invariant: every index in (floor.Index, last] is in places; below the floor
// there may be holes.
type group struct {
	id     entry.GroupID
	known  bool // something of it has been written
	floor  entry.Position
	last   uint64 // index of the last entry; >= floor.Index
	terms  []termRun
	places index

	// refilled are entries that Refill wrote ahead of the checkpoint that makes
	// them the group's. Invariant: all lie above the floor.
	refilled index

	hard        HardState
	hasHard     bool
	hardSegment uint32 // where the newest hard state record lies; 0 for nowhere yet

	// replaced says which older records installed checkpoints have replaced,
	// oldest first, for as long as such a record may be on disk. Invariant: both
	// fields rise.
	replaced []replacement

	// The writer's own: as above, but with what it has staged and not yet
	// published.
	writeLast   uint64
	writeHard   HardState
	writeHas    bool
	commitDirty bool // writeHard.Commit is newer than the last record
}

// termRun is a run of entries of one term, up to the next run's first.
type termRun struct{ first, term uint64 }

// replacement: records of sequence < before with index >= from are not the
// group's any more. A checkpoint that is installed over a log that it does not
// continue carries one in its header, so that it takes effect by the same
// rename.
type replacement struct{ from, before uint64 }

// isReplaced tells whether a record of this sequence is the group's no more.
func (g *group) isReplaced(sequence, i uint64) bool {
	for _, r := range g.replaced {
		if sequence < r.before && i >= r.from {
			return true
		}
	}
	return false
}

func newGroup(id entry.GroupID) *group {
	return &group{id: id, places: newIndex(), refilled: newIndex()}
}

// committed is an index up to which the group's own entries are final.
func (g *group) committed() uint64 { return max(g.hard.Commit, g.floor.Index) }

// setTerm notes an entry's term. Terms rise with the index (Raft, section
// 5.3), but after compaction entries may be met out of order at opening.
func (g *group) setTerm(i, term uint64) {
	n := len(g.terms)
	if n > 0 && i > g.terms[n-1].first {
		if g.terms[n-1].term != term {
			g.terms = append(g.terms, termRun{i, term})
		}
		return
	}
	k := sort.Search(n, func(k int) bool { return g.terms[k].first > i }) // runs before k begin at or before i
	switch {
	case k > 0 && g.terms[k-1].term == term:
	case k < n && g.terms[k].term == term:
		g.terms[k].first = i
	default:
		g.terms = append(g.terms, termRun{})
		copy(g.terms[k+1:], g.terms[k:])
		g.terms[k] = termRun{i, term}
	}
}

// term returns the term of the entry at i, from the floor to the last.
func (g *group) term(i uint64) (uint64, bool) {
	if i == g.floor.Index {
		return g.floor.Term, true
	}
	if i < g.floor.Index || i > g.last {
		return 0, false
	}
	k := sort.Search(len(g.terms), func(k int) bool { return g.terms[k].first > i })
	if k == 0 {
		return 0, false
	}
	return g.terms[k-1].term, true
}

// cutTerms forgets the terms of entries at i and after.
func (g *group) cutTerms(i uint64) {
	n := len(g.terms)
	for n > 0 && g.terms[n-1].first >= i {
		n--
	}
	g.terms = g.terms[:n]
}

// trimTerms forgets the runs that end at or below the floor.
func (g *group) trimTerms() {
	k := 0
	for k+1 < len(g.terms) && g.terms[k+1].first <= g.floor.Index+1 {
		k++
	}
	if g.last == g.floor.Index {
		k = len(g.terms)
	}
	if k > 0 {
		g.terms = append(g.terms[:0], g.terms[k:]...)
	}
}

func (g *group) lastPosition() entry.Position {
	term, _ := g.term(g.last)
	return entry.Position{Term: term, Index: g.last}
}
