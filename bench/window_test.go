package bench

import (
	"testing"

	"pgregory.net/rapid"
)

// A window agrees with a set of outstanding tags, whatever the order and
// grouping of confirms.
func TestAWindowSettlesEachMessageOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 20).Draw(t, "size")
		w := newWindow(size)
		outstanding := map[uint64]int64{}
		clock := int64(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if !w.full() && rapid.Bool().Draw(t, "publish") {
				clock++
				outstanding[w.add(clock)] = clock
			} else if len(outstanding) > 0 {
				confirmSome(t, w, outstanding)
			}
			if len(outstanding) > size {
				t.Fatalf("%d outstanding in a window of %d", len(outstanding), size)
			}
			published, confirmed := w.counts()
			if got := published - confirmed; got != uint64(len(outstanding)) {
				t.Fatalf("%d unconfirmed, want %d", got, len(outstanding))
			}
		}
	})
}

func confirmSome(t *rapid.T, w *window, outstanding map[uint64]int64) {
	published, _ := w.counts()
	tag := rapid.Uint64Range(1, published).Draw(t, "tag")
	multiple := rapid.Bool().Draw(t, "multiple")
	want := map[int64]bool{}
	for candidate, at := range outstanding {
		if candidate == tag || multiple && candidate < tag {
			want[at] = true
			delete(outstanding, candidate)
		}
	}
	err := w.confirm(tag, multiple, func(at int64) {
		if !want[at] {
			t.Fatalf("message sent at %d settled by tag %d (multiple %t)", at, tag, multiple)
		}
		delete(want, at)
	})
	if err != nil || len(want) > 0 {
		t.Fatalf("tag %d (multiple %t): %v, not settled: %v", tag, multiple, err, want)
	}
}

func TestAConfirmOfWhatWasNeverPublishedIsAnError(t *testing.T) {
	w := newWindow(4)
	w.add(1)
	for _, tag := range []uint64{0, 2} {
		if err := w.confirm(tag, false, func(int64) {}); err == nil {
			t.Errorf("tag %d accepted", tag)
		}
	}
}
