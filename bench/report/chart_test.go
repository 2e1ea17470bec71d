package report

import (
	"math"
	"testing"
)

func TestStepsAreRoundAndFew(t *testing.T) {
	for _, c := range []struct{ high, step, rounded float64 }{
		{0, 1, 1}, {1, 0.2, 1}, {9, 2, 10}, {87_000, 20_000, 100_000}, {1500, 250, 1500}, {20, 5, 20},
	} {
		step, rounded := niceStep(c.high)
		if math.Abs(step-c.step) > 1e-9 || math.Abs(rounded-c.rounded) > 1e-9 {
			t.Errorf("up to %g: steps of %g to %g, want %g to %g", c.high, step, rounded, c.step, c.rounded)
		}
	}
}

func TestEachNineHasTheSameRoom(t *testing.T) {
	for _, c := range []struct{ percentile, at float64 }{{0, 0}, {90, 1}, {99, 2}, {99.9, 3}} {
		if got := nines(c.percentile); math.Abs(got-c.at) > 1e-9 {
			t.Errorf("p%g at %g, want %g", c.percentile, got, c.at)
		}
	}
	if nines(100) <= nines(99.99) {
		t.Error("the maximum is not the last")
	}
}

func TestAnAxisPutsItsBoundsAtItsEnds(t *testing.T) {
	for _, log := range []bool{false, true} {
		a := axis{low: 1, high: 100, from: 200, to: 20, log: log}
		if a.at(1) != 200 || a.at(100) != 20 {
			t.Errorf("log %t: from %g to %g", log, a.at(1), a.at(100))
		}
	}
	if got := (axis{low: 1, high: 100, from: 0, to: 2, log: true}).at(10); math.Abs(got-1) > 1e-9 {
		t.Errorf("10 of 1 to 100 at %g", got)
	}
}

func TestThousandsAreSetApart(t *testing.T) {
	for value, want := range map[float64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"} {
		if got := thousands(value); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
