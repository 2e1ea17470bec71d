package replicate

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// TestTermsKnowWhatATableWould appends, discards and raises the floor at
// random, and compares with one term an entry; then reads the runs back.
func TestTermsKnowWhatATableWould(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		known := terms{runs: []entry.Position{{}}}
		table := []uint64{0} // table[i] is the term of index floor+i
		floor := uint64(0)
		for range 300 {
			switch n := random.IntN(20); {
			case n == 0:
				up := uint64(random.IntN(len(table)))
				floor, table = floor+up, slices.Clone(table[up:])
				known.raise(entry.Position{Term: table[0], Index: floor})
			case n < 3:
				table = table[:1+random.IntN(len(table))]
				fallthrough
			default:
				term := table[len(table)-1]
				if term == 0 || random.IntN(10) == 0 || known.last >= floor+uint64(len(table)) {
					term = known.end().Term + 1
				}
				known.append(entry.Position{Term: term, Index: floor + uint64(len(table))})
				table = append(table, term)
			}
			checkTerms(t, seed, &known, floor, table)
		}
		term := func(index uint64) (uint64, error) { return table[index-floor], nil }
		read, err := readTerms(known.floor(), known.end(), term)
		if err != nil || !slices.Equal(read.runs, known.runs) || read.last != known.last {
			t.Fatalf("seed %d: read %+v, %v; known %+v", seed, read, err, known)
		}
	}
}

func checkTerms(t *testing.T, seed uint64, known *terms, floor uint64, table []uint64) {
	t.Helper()
	last := floor + uint64(len(table)) - 1
	if known.floor() != (entry.Position{Term: table[0], Index: floor}) || known.end() != (entry.Position{Term: table[len(table)-1], Index: last}) {
		t.Fatalf("seed %d: %+v; want %d…%d", seed, known, floor, last)
	}
	if !slices.IsSortedFunc(known.runs, entry.Position.Compare) || len(slices.CompactFunc(slices.Clone(known.runs), func(a, b entry.Position) bool { return a.Term == b.Term })) != len(known.runs) {
		t.Fatalf("seed %d: runs %v", seed, known.runs)
	}
	for i, term := range table {
		if got := known.at(floor + uint64(i)); got != term {
			t.Fatalf("seed %d: entry %d has term %d, want %d: %+v", seed, floor+uint64(i), got, term, known)
		}
	}
}

func TestReadingTermsPassesErrorsOn(t *testing.T) {
	floor, last := entry.Position{}, entry.Position{Term: 3, Index: 100}
	broken := errors.New("broken")
	if _, err := readTerms(floor, last, func(uint64) (uint64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := readTerms(floor, last, func(uint64) (uint64, error) { return 0, nil }); !errors.Is(err, ErrState) {
		t.Error(err)
	}
}
