package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
)

func at(term, i uint64) entry.Position { return entry.Position{Term: term, Index: i} }

func writeNothing(io.Writer) error { return nil }

func TestANewLogIsEmpty(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	if _, _, ok := l.Bounds(1); ok || len(l.Groups()) != 0 || l.Floor(1) != at(0, 0) {
		t.Fatal("it knows a group")
	}
	if _, ok := l.HardState(1); ok {
		t.Fatal("it has a hard state")
	}
	if _, err := l.Read(1, 1, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := l.Term(1, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := l.ReadRange(1, 1, 2, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, _, err := l.OpenCheckpoint(1); !errors.Is(err, ErrNoCheckpoint) {
		t.Fatal(err)
	}
	l.Release(1, 1)
	l.Retain(1, func(uint64) bool { return true })
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{SegmentBytes: 1}, {SegmentBytes: 1 << 30}, {Fsync: 9}, {SlackBytes: -1}} {
		if _, err := Open(t.TempDir(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestTheDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if _, err := Verify(dir); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if err := Inspect(dir, nil); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	mustClose(t, l)
	mustOpen(t, dir, Options{})
}

func TestTheIncarnationStaysWithTheDirectory(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	id := l.Identity()
	if id == 0 {
		t.Fatal("it is 0")
	}
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	if l.Identity() != id {
		t.Fatal("it has changed")
	}
	mustClose(t, l)
	path := filepath.Join(dir, identityName)
	for _, text := range []string{"", "0000000000000000\n", "12\n", "000000000000000g\n"} {
		mustWrite(t, path, []byte(text))
		wantDamage(t, dir)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantDamage(t, dir)
	if other := mustOpen(t, t.TempDir(), Options{}); other.Identity() == id {
		t.Fatal("two directories have the same")
	}
}

func TestAConflictDiscardsWhatFollows(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 9, 30)})
	mustAppend(t, l, Append{Group: 2, Entries: entries(2, 1, 1, 9, 30)})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 3, 4, 2, 30)})
	for range 2 {
		wantLast(t, l, 1, 3, 5)
		wantLast(t, l, 2, 1, 9)
		wantEntry(t, l, 1, 1, 3, 30)
		wantEntry(t, l, 1, 3, 4, 30)
		if _, err := l.Read(1, 6, nil); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for i, want := range map[uint64]uint64{0: 0, 3: 1, 4: 3, 5: 3} {
			if term, err := l.Term(1, i); err != nil || term != want {
				t.Fatalf("term of %d: %d, %v", i, term, err)
			}
		}
		if _, err := l.Term(1, 6); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
	}
}

func TestACommitAloneCostsNoWriteAndIsKeptAtClose(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 2, 1, 3, 9), HardState: &HardState{Term: 2, Vote: 7}})
	before := l.Stats()
	for commit := range uint64(3) {
		h := HardState{Term: 2, Vote: 7, Commit: commit + 1}
		mustAppend(t, l, Append{Group: 1, HardState: &h})
		if got, ok := l.HardState(1); !ok || got != h {
			t.Fatalf("%v, want %v", got, h)
		}
	}
	if s := l.Stats(); s.Fsyncs != before.Fsyncs || s.WrittenBytes != before.WrittenBytes {
		t.Fatalf("%+v, was %+v", s, before)
	}
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	if h, _ := l.HardState(1); h != (HardState{Term: 2, Vote: 7, Commit: 3}) {
		t.Fatal(h)
	}
}

func TestOneOldLiveEntryDoesNotPinTheLog(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: 64 << 10, SlackBytes: 256 << 10, Fsync: Never}
	l := mustOpen(t, dir, o)
	h := HardState{Term: 1, Vote: 5}
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 1, 500), HardState: &h})
	mustAppend(t, l, Append{Group: 2, Entries: entries(2, 1, 1, 3, 500), HardState: &h}) // an idle group without a checkpoint
	const n, size = 20_000, 1000
	largest, live := int64(0), int64(0)
	for i := uint64(2); i <= n; i += 100 {
		mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, i, 100, size)})
		for k := i; k < i+100; k++ {
			l.Release(1, k)
		}
		if i%1000 == 2 {
			mustCheckpoint(t, l, 1, 1, i, "")
		}
		s := l.Stats()
		// Entries above the floor are live, up to 1,100 of them here.
		largest, live = max(largest, s.DiskBytes), max(live, s.LiveBytes)
	}
	// The maintainer works beside us: it may be a batch and a segment late.
	if limit := 2*live + limitOf(o); largest > limit {
		t.Errorf("disk grew to %d bytes with at most %d live, want at most %d", largest, live, limit)
	}
	for range 2 {
		wantEntry(t, l, 1, 1, 1, 500)
		wantEntry(t, l, 2, 1, 3, 500)
		wantLast(t, l, 2, 1, 3)
		if got, _ := l.HardState(2); got != h {
			t.Fatal(got)
		}
		s := l.Stats()
		if s.DiskBytes > 2*s.LiveBytes+limitOf(o) {
			t.Fatalf("%+v", s)
		}
		mustClose(t, l)
		l = mustOpen(t, dir, o)
		l.Retain(1, func(i uint64) bool { return i == 1 })
	}
}

func limitOf(o Options) int64 { return o.SlackBytes + 4*int64(o.SegmentBytes) }

func TestRetainReleasesWhatIsDeadBelowTheFloorOnly(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	fill(t, l, 1, 1, 1, 300, 30)
	mustCheckpoint(t, l, 1, 1, 250, "state")
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	l.Retain(1, func(i uint64) bool { return i%10 == 0 })
	for i := uint64(1); i <= 300; i++ {
		_, err := l.Read(1, i, nil)
		if gone := i <= 250 && i%10 != 0; gone != errors.Is(err, ErrNotFound) {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	l.Release(1, 260, 999)
	wantEntry(t, l, 1, 1, 260, 30) // above the floor it stays
	mustCheckpoint(t, l, 1, 1, 270, "later")
	if _, err := l.Read(1, 260, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if n := l.Stats().Entries; n != 300-250+25-1 {
		t.Fatalf("%d entries", n)
	}
}

// tidwall/wal's Read, called by two at once, panics.
func TestManyReadWhileOthersAppendAndCompact(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{SlackBytes: 4 * small, Fsync: Never})
	const n = 3000
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var low sync.Map // group → index from which entries are kept
	for g := range entry.GroupID(3) {
		low.Store(g, uint64(1))
		wg.Add(1)
		go func() {
			defer wg.Done()
			random := newRandom(t, uint64(g))
			var buffer []byte
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, last, _ := l.Bounds(g)
				from, _ := low.Load(g)
				if last.Index <= from.(uint64) {
					continue
				}
				i := from.(uint64) + random.Uint64N(last.Index-from.(uint64)+1)
				b, err := l.Read(g, i, buffer)
				if err == nil {
					buffer = b
					if !bytes.Equal(b, body(g, 1, i, 100)) {
						t.Errorf("other bytes")
					}
				} else if now, _ := low.Load(g); !errors.Is(err, ErrNotFound) || i >= now.(uint64) {
					t.Errorf("entry %d/%d: %v", g, i, err)
				}
				err = l.ReadRange(g, i, last.Index, func(e Entry) error {
					if !bytes.Equal(e.Payload, body(g, 1, e.Index, 100)) {
						return errors.New("other bytes")
					}
					return nil
				})
				if now, _ := low.Load(g); err != nil && (!errors.Is(err, ErrNotFound) || i >= now.(uint64)) {
					t.Errorf("range from %d/%d: %v", g, i, err)
				}
			}
		}()
	}
	for i := uint64(1); i <= n && !t.Failed(); i += 10 {
		for g := range entry.GroupID(3) {
			mustAppend(t, l, Append{Group: g, Entries: entries(g, 1, i, 10, 100)})
			if i%200 == 1 && i > 200 {
				low.Store(g, i-100)
				mustCheckpoint(t, l, g, 1, i-50, "")
				for k := uint64(1); k < i-100; k++ {
					l.Release(g, k)
				}
			}
		}
	}
	close(stop)
	wg.Wait()
	if l.Stats().MovedBytes == 0 && l.Stats().Segments > 100 {
		t.Fatal("nothing was compacted")
	}
}

func TestABodyLargerThanManySegments(t *testing.T) {
	const size = 24 << 20
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 1 << 20, SlackBytes: 1 << 20})
	payload := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	mustAppend(t, l, Append{Group: 1, Entries: []Entry{{Term: 1, Index: 1, Payload: payload}}})
	fill(t, l, 1, 1, 2, 3, 100)
	// It is copied by compaction too.
	for i := uint64(5); l.Stats().MovedBytes < size && i < 100; i++ {
		mustAppend(t, l, Append{Group: 1, Entries: []Entry{{Term: 1, Index: i, Payload: payload}}})
		l.Release(1, i)
		mustCheckpoint(t, l, 1, 1, i, "")
	}
	for range 2 {
		b, err := l.Read(1, 1, nil)
		if err != nil || !bytes.Equal(b, payload) {
			t.Fatal(len(b), err)
		}
		err = l.ReadRange(1, 1, 3, func(e Entry) error {
			if e.Index == 1 && !bytes.Equal(e.Payload, payload) {
				return errors.New("other bytes")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		l = mustOpen(t, dir, Options{SegmentBytes: 1 << 20, SlackBytes: 1 << 20})
	}
	mustClose(t, l)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("heap in use: %d MiB", m.HeapInuse>>20)
}

// The library keeps each sealed segment in its cache, and each dropped one in
// its list.
func TestMemoryDoesNotGrowWithWhatIsWritten(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{SegmentBytes: 4 * small, SlackBytes: 1 << 18, Fsync: Never})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	i := uint64(1)
	write := func(n int) {
		for range n {
			mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, i, 10, 1000)})
			for k := i; k < i+10; k++ {
				l.Release(1, k)
			}
			i += 10
			if i%500 == 1 {
				mustCheckpoint(t, l, 1, 1, i-1, "")
			}
		}
	}
	write(100)
	before := heap()
	write(600)
	if after := heap(); after > before+1<<20 {
		t.Fatalf("%d bytes, were %d", after, before)
	}
}

func TestTheLibraryIsOpenedAnewWithoutHarm(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	for i := uint64(1); i <= 40; i++ {
		l.Append(Append{Group: 1, Entries: entries(1, 1, i, 1, 500)})
		// As if many had been dropped; done at the next roll that leaves the
		// newest segment empty.
		if err := l.writer.do(&task{run: func() error { l.writer.dropped = reopenSegments; return nil }}); err != nil {
			t.Fatal(err)
		}
	}
	reopened := 0
	for i := uint64(41); i <= 140; i++ {
		mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, i, 1, 500)})
		if err := l.writer.do(&task{run: func() error {
			if l.writer.dropped == 0 {
				reopened++
				l.writer.dropped = reopenSegments
			}
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if reopened == 0 {
		t.Fatal("never")
	}
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	for i := uint64(1); i <= 140; i++ {
		wantEntry(t, l, 1, 1, i, 500)
	}
}

// TruncateFront and TruncateBack rewrite a segment under the library's lock,
// and forget about files that we have unlinked; Read and Sync hold or break
// its lock.
func TestTheLibraryIsUsedForWritingOnly(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	banned := regexp.MustCompile(`wal\.(TruncateFront|TruncateBack|Read|Sync|Write)\(`)
	for _, path := range paths {
		if b := mustRead(t, path); !strings.HasSuffix(path, "_test.go") && banned.Match(b) {
			t.Errorf("%s: %s", path, banned.Find(b))
		}
	}
}

func TestInspectListsEveryRecord(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 3, Entries: entries(3, 1, 1, 2, 30), HardState: &HardState{Term: 1, Vote: 9, Commit: 1}})
	mustClose(t, l)
	var got []string
	err := Inspect(dir, func(r RecordInfo) error {
		got = append(got, fmt.Sprintf("%d %s %d/%d/%d %d", r.Sequence, r.Kind, r.Group, r.Term, r.Index, r.Size))
		if r.Kind == "hardstate" && r.HardState != (HardState{Term: 1, Vote: 9, Commit: 1}) {
			t.Error(r.HardState)
		}
		return nil
	})
	want := []string{"1 entry 3/1/1 30", "2 entry 3/1/2 30", "3 hardstate 3/1/1 8", "4 synced 0/0/0 0"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
	if err := Inspect(dir, func(RecordInfo) error { return io.ErrShortBuffer }); !errors.Is(err, io.ErrShortBuffer) {
		t.Fatal(err)
	}
	report, err := Verify(dir)
	if err != nil || report.Records != 4 || report.Identity != l.Identity() || len(report.Damaged) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := Inspect(t.TempDir(), nil); err == nil {
		t.Fatal("an empty directory holds a log")
	}
}
