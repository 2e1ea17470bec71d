package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
)

func refill(l *Log, g entry.GroupID, list []Entry) error {
	done := make(chan error, 1)
	l.Refill(g, list, func(err error) { done <- err })
	return <-done
}

func mustRefill(t testing.TB, l *Log, g entry.GroupID, list ...Entry) {
	t.Helper()
	if err := refill(l, g, list); err != nil {
		t.Fatal(err)
	}
}

// some are the entries of a group at these indexes.
func some(g entry.GroupID, term uint64, size int, indexes ...uint64) []Entry {
	var list []Entry
	for _, i := range indexes {
		list = append(list, Entry{Term: term, Index: i, Payload: body(g, term, i, size)})
	}
	return list
}

func wantLive(t testing.TB, l *Log, g entry.GroupID, after, upto uint64, want ...uint64) {
	t.Helper()
	var got []uint64
	l.LiveEntries(g, after, upto, func(i uint64) bool { got = append(got, i); return true })
	if !slices.Equal(got, want) {
		t.Fatalf("live: %v, want %v", got, want)
	}
}

func wantMissing(t testing.TB, l *Log, g entry.GroupID, indexes ...uint64) {
	t.Helper()
	for _, i := range indexes {
		if _, err := l.Read(g, i, nil); !errors.Is(err, ErrNotFound) {
			t.Fatalf("entry %d/%d: %v", g, i, err)
		}
	}
}

func records(t testing.TB, dir, kind string) int {
	t.Helper()
	n := 0
	if err := Inspect(dir, func(r RecordInfo) error {
		if r.Kind == kind {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// A mirror has entries 1 to 20 of term 1, of which 4 are committed, and gets a
// checkpoint at 50 of term 5. Its leader wrote 7 in term 1 and later ones in
// term 5. In between, a crash leaves the old log, to which the transfer can
// come again, or all that the checkpoint brings.
func TestRefilledEntriesBecomeTheGroupsWithTheCheckpoint(t *testing.T) {
	const size = 600
	brought := slices.Concat(some(1, 1, size, 3, 7), some(1, 5, size, 9, 15, 30, 31, 50))
	old := func(t *testing.T, l *Log) {
		t.Helper()
		wantLast(t, l, 1, 1, 20)
		for i := uint64(1); i <= 20; i++ {
			wantEntry(t, l, 1, 1, i, size)
		}
		if err := l.ReadRange(1, 1, 20, func(Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	installed := func(t *testing.T, l *Log) {
		t.Helper()
		wantLast(t, l, 1, 5, 50)
		wantCheckpoint(t, l, 1, 5, 50, "installed")
		for _, e := range brought {
			wantEntry(t, l, 1, e.Term, e.Index, size)
		}
		wantMissing(t, l, 1, 5, 6, 8, 10, 20, 29, 49)
		l.Retain(1, func(i uint64) bool {
			return slices.ContainsFunc(brought, func(e Entry) bool { return e.Index == i })
		})
		wantLive(t, l, 1, 0, 50, 3, 7, 9, 15, 30, 31, 50)
	}
	transfer := func(t *testing.T, l *Log) {
		t.Helper()
		mustRefill(t, l, 1, brought[:4]...)
		mustRefill(t, l, 1, brought[4:]...)
		old(t, l)
		wantEntry(t, l, 1, 5, 30, size)
		wantLive(t, l, 1, 0, 3, 1, 2, 3)
		mustCheckpoint(t, l, 1, 5, 50, "installed")
		installed(t, l)
	}
	dir := t.TempDir()
	l, f := openFaulty(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 20, size), HardState: &HardState{Term: 1, Vote: 1, Commit: 4}})
	random := newRandom(t, 1)
	var crashed []string
	f.hook(func(string, string) error {
		for k := range 4 {
			crashed = append(crashed, filepath.Join(t.TempDir(), "crash"))
			f.crash(t, crashed[len(crashed)-1])
			if k > 0 {
				f.powerFailure(t, crashed[len(crashed)-1], random)
			}
		}
		return nil
	})
	transfer(t, l)
	f.hook(nil)
	mustClose(t, l)
	if n := records(t, dir, "refill"); n != len(brought)-1 {
		t.Fatalf("%d refill records: 3 was there already", n)
	}
	l = mustOpen(t, dir, Options{})
	installed(t, l)
	// Compaction takes what was refilled along like any other.
	mustClose(t, l)
	l = mustOpen(t, dir, Options{SlackBytes: small})
	installed(t, l)
	churn(t, l, 2)
	installed(t, l)
	mustClose(t, l)
	if l.Stats().MovedBytes == 0 {
		t.Fatal("nothing was moved")
	}
	for k, dir := range crashed {
		t.Run(fmt.Sprint("crash ", k), func(t *testing.T) {
			l := mustOpen(t, dir, Options{})
			if l.Floor(1) != at(5, 50) {
				old(t, l)
				transfer(t, l)
				mustClose(t, l)
				if n := records(t, dir, "refill"); n != len(brought)-1 {
					t.Fatalf("%d refill records: those of before are good", n)
				}
				l = mustOpen(t, dir, Options{})
			}
			installed(t, l)
			mustClose(t, l)
			if report, err := Verify(dir); err != nil || len(report.Damaged) > 0 {
				t.Fatalf("%+v, %v", report, err)
			}
		})
	}
}

// churn writes and releases entries of a group until compaction has passed all
// that was there before.
func churn(t testing.TB, l *Log, g entry.GroupID) {
	t.Helper()
	_, last, _ := l.Bounds(g)
	l.mu.RLock()
	newest := l.mu.tail().id
	l.mu.RUnlock()
	for i := last.Index + 1; ; i++ {
		fill(t, l, g, 1, i, 1, 900)
		l.Release(g, i)
		if i%8 == 0 {
			mustCheckpoint(t, l, g, 1, i, "churn")
		}
		l.mu.RLock()
		oldest := l.mu.segments[0].id
		l.mu.RUnlock()
		if oldest > newest {
			return
		}
	}
}

func TestAnUnfinishedRefillSurvivesCompactionAndIsNothingToTheGroup(t *testing.T) {
	dir := t.TempDir()
	o := Options{SlackBytes: small}
	l := mustOpen(t, dir, o)
	mustRefill(t, l, 7, some(7, 3, 500, 10, 90, 400)...)
	fill(t, l, 1, 1, 1, 3, 30)
	mustRefill(t, l, 1, some(1, 3, 500, 2, 20)...)
	for range 3 {
		if _, _, ok := l.Bounds(7); ok || slices.Contains(l.Groups(), 7) {
			t.Fatal("what was refilled is taken for a log")
		}
		wantLast(t, l, 1, 1, 3)
		wantEntry(t, l, 1, 1, 2, 30) // the group's own
		wantEntry(t, l, 1, 3, 20, 500)
		for _, i := range []uint64{10, 90, 400} {
			wantEntry(t, l, 7, 3, i, 500)
		}
		wantLive(t, l, 7, 0, 500)
		churn(t, l, 2)
		mustClose(t, l)
		l = mustOpen(t, dir, o)
	}
	mustCheckpoint(t, l, 7, 3, 100, "installed")
	mustCheckpoint(t, l, 1, 3, 30, "installed")
	for range 3 {
		wantLast(t, l, 7, 3, 100)
		wantLive(t, l, 7, 0, 500, 10, 90)
		wantLast(t, l, 1, 3, 30)
		wantLive(t, l, 1, 0, 500, 2, 20)
		wantEntry(t, l, 1, 3, 2, 500)
		wantEntry(t, l, 7, 3, 400, 500) // above this checkpoint
		churn(t, l, 2)
		mustClose(t, l)
		l = mustOpen(t, dir, o)
	}
	l.Release(7, 10, 90)
	wantMissing(t, l, 7, 10, 90)
}

func TestARefillThatTheLogOvertakesIsDropped(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	mustRefill(t, l, 1, some(1, 1, 300, 4, 9)...)
	fill(t, l, 1, 1, 1, 10, 300)
	both := l.Stats()
	mustCheckpoint(t, l, 1, 1, 5, "state")
	mustCheckpoint(t, l, 1, 1, 10, "state")
	if s := l.Stats(); both.Entries != 12 || s.Entries != 10 || s.LiveBytes >= both.LiveBytes {
		t.Fatalf("%+v, before: %+v", s, both)
	}
	wantLive(t, l, 1, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	mustRefill(t, l, 1, some(1, 1, 300, 4, 9)...) // they are there
	if s := l.Stats(); s.Entries != 10 {
		t.Fatalf("%+v", s)
	}
	l.Release(1, 4)
	wantMissing(t, l, 1, 4)
	mustRefill(t, l, 1, some(1, 1, 300, 4)...) // below the floor: the group's at once
	wantLive(t, l, 1, 2, 5, 3, 4, 5)
}

// The commit that the log knows of may lag behind the floor.
func TestAnInstalledCheckpointKeepsWhatAnEarlierOneBrought(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SlackBytes: small})
	mustAppend(t, l, Append{Group: 1, HardState: &HardState{Term: 1, Vote: 1}})
	mustRefill(t, l, 1, some(1, 5, 300, 20, 40)...)
	mustCheckpoint(t, l, 1, 5, 50, "first")
	churn(t, l, 2) // 20 and 40 are moved records now
	mustRefill(t, l, 1, some(1, 7, 300, 70)...)
	mustCheckpoint(t, l, 1, 7, 100, "second")
	for range 2 {
		wantLast(t, l, 1, 7, 100)
		wantLive(t, l, 1, 0, 100, 20, 40, 70)
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
	}
}

// What the first one replaced lies before the second one's, and was written
// after what the first one brought.
func TestAnInstalledCheckpointKeepsAwayWhatAnEarlierOneReplaced(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	fill(t, l, 1, 1, 1, 5, 30)
	mustRefill(t, l, 1, some(1, 5, 30, 4)...)
	fill(t, l, 1, 2, 3, 4, 30)
	mustCheckpoint(t, l, 1, 5, 8, "first")
	fill(t, l, 1, 5, 9, 2, 30)
	mustCheckpoint(t, l, 1, 7, 20, "second")
	fill(t, l, 1, 7, 21, 2, 30)
	mustCheckpoint(t, l, 1, 7, 22, "third")
	for range 2 {
		wantLast(t, l, 1, 7, 22)
		wantLive(t, l, 1, 0, 22, 4, 21, 22)
		wantEntry(t, l, 1, 5, 4, 30)
		wantCheckpoint(t, l, 1, 7, 22, "third")
		mustClose(t, l)
		if report, err := Verify(dir); err != nil || len(report.Damaged) > 0 || report.Checkpoints != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
		l = mustOpen(t, dir, Options{})
	}
}

// Many chunks of the index, taken over whole or in part.
func TestManyRefilledEntriesAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 64 << 10})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 300, 24), HardState: &HardState{Term: 1, Commit: 200}})
	var want []uint64
	for i := uint64(1); i <= 1000; i++ {
		if i <= 200 || i%3 == 0 {
			want = append(want, i)
		}
	}
	for piece := range slices.Chunk(want, 50) {
		list := some(1, 1, 24, piece...)
		slices.Reverse(list)
		mustRefill(t, l, 1, list...)
	}
	mustRefill(t, l, 1, some(1, 1, 24, 901, 902, 5000)...)
	mustCheckpoint(t, l, 1, 1, 900, "state")
	want = want[:slices.Index(want, 900)+1]
	for range 2 {
		wantLive(t, l, 1, 0, 5000, want...)
		for _, i := range want {
			wantEntry(t, l, 1, 1, i, 24)
		}
		mustClose(t, l)
		l = mustOpen(t, dir, Options{SegmentBytes: 64 << 10})
	}
}

func TestEntriesThatNoRecordCanHoldAreRefusedAlone(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	for _, e := range []Entry{{Term: 1}, {Term: 1, Index: 1, Kind: maxEntryKind + 1}} {
		if err := refill(l, 1, []Entry{{Term: 1, Index: 5}, e}); !errors.Is(err, ErrInvalidAppend) {
			t.Fatalf("%+v: %v", e, err)
		}
	}
	wantMissing(t, l, 1, 5)
	fill(t, l, 1, 1, 1, 1, 30) // it goes on
	mustClose(t, l)
	if err := refill(l, 1, some(1, 1, 30, 5)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	l.Refill(1, nil, nil)
}

func TestLiveEntriesAreThoseNotReleased(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 400, 9)
	mustCheckpoint(t, l, 1, 1, 300, "state")
	for i := uint64(1); i <= 400; i++ {
		if i != 5 && i != 200 && i != 300 && i != 301 && i != 399 {
			l.Release(1, i)
		}
	}
	wantLive(t, l, 1, 0, 400, 5, 200, 300, 301, 399)
	wantLive(t, l, 1, 5, 300, 200, 300)
	wantLive(t, l, 1, 399, 1<<63)
	wantLive(t, l, 2, 0, 400)
	n := 0
	l.LiveEntries(1, 0, 400, func(i uint64) bool {
		l.Release(1, 200) // no lock is held
		n++
		return i < 200
	})
	if n != 2 {
		t.Fatalf("called %d times", n)
	}
}

// A conflict that compaction moved while a checkpoint replaced it would be
// newer than the replacement says.
func TestCompactionWaitsForACheckpointThatReplacesTheLog(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 3, 30)
	held := 0
	f.hook(func(step, _ string) error {
		if step == "rename" && !l.maintainer.compacting.TryLock() {
			held++
		}
		return nil
	})
	mustCheckpoint(t, l, 1, 2, 2, "installed")
	if held != 1 {
		t.Fatal("compaction may run in between")
	}
}

func TestACheckpointIsNotDurableBeforeTheBodiesBelowIt(t *testing.T) {
	for _, index := range []uint64{3, 9} {
		l, f := openFaulty(t, t.TempDir(), Options{Fsync: Never})
		fill(t, l, 1, 1, 1, 3, 30)
		mustRefill(t, l, 1, some(1, 1, 30, 8)...)
		f.hook(func(step, _ string) error {
			tail, err := os.Stat(l.writer.tail.Name())
			if relative := f.relative(l.writer.tail.Name()); step == "rename" && f.mu.synced[relative] < tail.Size() {
				t.Errorf("%d bytes are not synced", tail.Size()-f.mu.synced[relative])
			}
			return err
		})
		mustCheckpoint(t, l, 1, 1, index, "state")
	}
}
