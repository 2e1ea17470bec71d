package replicate

import (
	"errors"
	"fmt"
	"sort"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// terms knows the term of every entry from the floor to the last, as runs: a
// log has as many as it saw leaders, so this is a few words where a table would
// be eight bytes an entry. Terms never decrease along a log.
type terms struct {
	// runs[i] holds from its Index up to the next run's, the last one up to last.
	// Invariant: never empty; Index and Term both ascend; runs[0].Index is floor.
	runs []entry.Position
	last uint64
}

// readTerms finds the runs of a log by bisection: O(runs × log entries) calls
// of term.
func readTerms(floor, last entry.Position, term func(index uint64) (uint64, error)) (terms, error) {
	t := terms{runs: []entry.Position{floor}, last: last.Index}
	for at := floor; at.Term < last.Term; t.runs = append(t.runs, at) {
		var failure error
		next := sort.Search(int(last.Index-at.Index), func(i int) bool {
			got, err := term(at.Index + 1 + uint64(i))
			failure = errors.Join(failure, err)
			return got > at.Term
		})
		if failure != nil {
			return terms{}, failure
		}
		at.Index += 1 + uint64(next)
		if at.Index > last.Index {
			return terms{}, fmt.Errorf("%w: no entry of term %d, the last one's", ErrState, last.Term)
		}
		got, err := term(at.Index)
		if err != nil {
			return terms{}, err
		}
		at.Term = got
	}
	return t, nil
}

func (t *terms) floor() entry.Position { return t.runs[0] }

func (t *terms) end() entry.Position {
	return entry.Position{Term: t.runs[len(t.runs)-1].Term, Index: t.last}
}

// at is the term of the entry at index.
//
// REQUIRES: floor <= index <= last.
func (t *terms) at(index uint64) uint64 {
	i := len(t.runs) - 1
	for t.runs[i].Index > index {
		i--
	}
	return t.runs[i].Term
}

// append adds the entry at p, discarding any from its index on.
//
// REQUIRES: floor < p.Index <= last+1.
func (t *terms) append(p entry.Position) {
	for len(t.runs) > 1 && t.runs[len(t.runs)-1].Index >= p.Index {
		t.runs = t.runs[:len(t.runs)-1]
	}
	if t.runs[len(t.runs)-1].Term != p.Term {
		t.runs = append(t.runs, p)
	}
	t.last = p.Index
}

// raise forgets what lies below the new floor.
//
// REQUIRES: floor <= to.Index <= last.
func (t *terms) raise(to entry.Position) {
	i := len(t.runs) - 1
	for t.runs[i].Index > to.Index {
		i--
	}
	t.runs = t.runs[i:]
	t.runs[0].Index = to.Index
}
