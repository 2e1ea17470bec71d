package log

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tailed makes a log of synced entries 1…3, followed by one batch of two, and
// returns the directory with the bytes and the offset at which that batch
// begins. It is copied while open: nothing vouches for the last batch.
func tailed(t *testing.T) (dir string, tail []byte, batch int) {
	t.Helper()
	from := t.TempDir()
	l := mustOpen(t, from, Options{})
	fill(t, l, 1, 1, 1, 3, 40)
	batch = len(mustRead(t, tailFile(t, from)))
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 4, 2, 40)})
	dir = t.TempDir()
	copyTree(t, from, dir)
	return dir, mustRead(t, tailFile(t, dir)), batch
}

// wantRepaired opens a log with a torn tail, and checks that it goes on.
func wantRepaired(t *testing.T, dir string, last uint64) {
	t.Helper()
	l := mustOpen(t, dir, Options{})
	wantLast(t, l, 1, 1, last)
	for i := uint64(1); i <= last; i++ {
		wantEntry(t, l, 1, 1, i, 40)
	}
	fill(t, l, 1, 2, last+1, 2, 40)
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	wantLast(t, l, 1, 2, last+2)
	for i := uint64(1); i <= last; i++ {
		wantEntry(t, l, 1, 1, i, 40)
	}
	wantEntry(t, l, 1, 2, last+1, 40)
	wantEntry(t, l, 1, 2, last+2, 40)
	mustClose(t, l)
}

// Without the repair tidwall/wal answers a torn tail with ErrCorrupt.
func TestATornTailOfAnyLengthIsCutAtTheLastValidRecord(t *testing.T) {
	dir, tail, batch := tailed(t)
	path := tailFile(t, dir)
	entryBytes := int(framed(headerSize + 40))
	for n := batch; n <= len(tail); n++ {
		mustWrite(t, path, tail[:n])
		last := uint64(3)
		if n >= len(tail)-entryBytes {
			last = 4
		}
		if n == len(tail) {
			last = 5
		}
		again := t.TempDir()
		copyTree(t, dir, again)
		wantRepaired(t, again, last)
	}
}

// Without the repair tidwall/wal opens 4096 zero bytes as 4096 empty records.
func TestWhatACrashLeavesAfterTheLastRecordIsCut(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	garbage := make([]byte, 9000)
	_, _ = random.Read(garbage)
	for name, junk := range map[string][]byte{
		"one zero":       {0},
		"zeros":          make([]byte, 4096),
		"many zeros":     make([]byte, 1<<20),
		"ones":           bytes.Repeat([]byte{0xff}, 5000),
		"garbage":        garbage,
		"huge length":    {0xff, 0xff, 0xff, 0xff, 0x0f, 1},
		"longest length": bytes.Repeat([]byte{0xff}, 10),
		"half a header":  {200, 1, 2, 3, 4, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir, tail, _ := tailed(t)
			mustWrite(t, tailFile(t, dir), append(tail, junk...))
			wantRepaired(t, dir, 5)
		})
	}
	t.Run("a segment of another place", func(t *testing.T) {
		// A record is valid only where it was written.
		dir, tail, _ := tailed(t)
		mustWrite(t, tailFile(t, dir), append(bytes.Clone(tail), tail...))
		wantRepaired(t, dir, 5)
	})
	t.Run("a hole with valid records behind it", func(t *testing.T) {
		// The pages of one batch may reach the disk in any order: nothing of
		// it was promised, so it is torn and not damaged.
		dir, tail, batch := tailed(t)
		at := batch + int(framed(headerSize)) // after the synced record
		clear(tail[at : at+10])
		mustWrite(t, tailFile(t, dir), tail)
		wantRepaired(t, dir, 3)
	})
}

// fields are the parts of a framed record, as offsets from its length prefix.
var fields = map[string]int{"length": 0, "checksum": 1, "kind": 5, "group": 6, "term": 10, "index": 18, "payload": 26, "last byte": 65}

func TestAFlippedByteBeforeASyncedPointIsRefused(t *testing.T) {
	dir, tail, _ := tailed(t)
	first := 0
	for name, k := range fields {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(tail)
			b[first+k] ^= 0x15
			mustWrite(t, tailFile(t, dir), b)
			damaged := wantDamage(t, dir)
			if damaged.File != tailFile(t, dir) || damaged.Offset != int64(first) {
				t.Fatalf("refused %s at %d, want %s at %d", damaged.File, damaged.Offset, tailFile(t, dir), first)
			}
			if err := Inspect(dir, func(RecordInfo) error { return nil }); err == nil {
				t.Fatal("Inspect passed over it")
			}
			report, err := Verify(dir)
			if err != nil || len(report.Damaged) != 1 {
				t.Fatalf("Verify: %+v, %v", report, err)
			}
			if !bytes.Equal(mustRead(t, tailFile(t, dir)), b) {
				t.Fatal("a refused log was changed")
			}
		})
	}
}

func TestAfterACleanCloseEveryFlippedByteIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 2, 40), HardState: &HardState{Term: 1, Vote: 2}})
	mustClose(t, l)
	tail := mustRead(t, tailFile(t, dir))
	for k := range len(tail) - int(framed(headerSize)) { // but for the closing record
		b := bytes.Clone(tail)
		b[k] ^= 0x15
		mustWrite(t, tailFile(t, dir), b)
		wantDamage(t, dir)
	}
}

// sealed makes a log of several segments and closes it.
func sealed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	for i := uint64(1); i <= 60; i++ {
		mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, i, 1, 300), HardState: &HardState{Term: 1, Vote: 1, Commit: i}})
	}
	mustClose(t, l)
	if n := len(segmentFiles(t, dir)); n < 4 {
		t.Fatalf("%d segments", n)
	}
	return dir
}

func TestAMissingSegmentIsRefused(t *testing.T) {
	dir := sealed(t)
	paths := segmentFiles(t, dir)
	for k, path := range paths {
		for _, indexes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d of %d, side indexes %v", k, len(paths), indexes), func(t *testing.T) {
				again := t.TempDir()
				copyTree(t, dir, again)
				missing := filepath.Join(again, segmentsName, filepath.Base(path))
				if err := os.Remove(missing); err != nil {
					t.Fatal(err)
				}
				if !indexes {
					if err := os.RemoveAll(filepath.Join(again, indexesName)); err != nil {
						t.Fatal(err)
					}
					if k == len(paths)-1 {
						t.Skip("nothing is left that tells of the newest segment")
					}
				}
				damaged := wantDamage(t, again)
				if k < len(paths)-1 && damaged.File != missing {
					t.Fatalf("refused because of %v, want %s", damaged, missing)
				}
			})
		}
	}
}

func TestADamagedSealedSegmentIsRefused(t *testing.T) {
	dir := sealed(t)
	path := segmentFiles(t, dir)[1]
	whole := mustRead(t, path)
	t.Run("cut off", func(t *testing.T) {
		mustWrite(t, path, whole[:len(whole)-1])
		if damaged := wantDamage(t, dir); damaged.File != path {
			t.Fatal(damaged)
		}
	})
	t.Run("grown", func(t *testing.T) {
		mustWrite(t, path, append(bytes.Clone(whole), 0))
		if damaged := wantDamage(t, dir); damaged.File != path || damaged.Offset != int64(len(whole)) {
			t.Fatal(damaged)
		}
	})
	flipped := bytes.Clone(whole)
	flipped[len(whole)/2] ^= 1
	mustWrite(t, path, flipped)
	t.Run("flipped, without side index", func(t *testing.T) {
		again := t.TempDir()
		copyTree(t, dir, again)
		if err := os.RemoveAll(filepath.Join(again, indexesName)); err != nil {
			t.Fatal(err)
		}
		if damaged := wantDamage(t, again); filepath.Base(damaged.File) != filepath.Base(path) {
			t.Fatal(damaged)
		}
	})
	t.Run("flipped, with side index", func(t *testing.T) {
		// Opening does not read it; reading does, and never serves it.
		l := mustOpen(t, dir, Options{})
		bad := 0
		for i := uint64(1); i <= 60; i++ {
			if _, err := l.Read(1, i, nil); err == nil {
				wantEntry(t, l, 1, 1, i, 300)
			} else {
				bad++
			}
		}
		err := l.ReadRange(1, 1, 60, func(Entry) error { return nil })
		if bad != 1 || err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("%d entries refused, ReadRange: %v", bad, err)
		}
		mustClose(t, l)
		if report, err := Verify(dir); err != nil || len(report.Damaged) == 0 {
			t.Fatalf("%+v, %v", report, err)
		}
	})
}

func TestSideIndexesAreBuiltAgain(t *testing.T) {
	dir := sealed(t)
	indexes, err := filepath.Glob(filepath.Join(dir, indexesName, "*"))
	if err != nil || len(indexes) != len(segmentFiles(t, dir))-1 {
		t.Fatalf("%d side indexes: %v", len(indexes), err)
	}
	want := mustRead(t, indexes[1])
	for name, damage := range map[string]func() error{
		"absent":     func() error { return os.Remove(indexes[1]) },
		"empty":      func() error { return os.Truncate(indexes[1], 0) },
		"cut off":    func() error { return os.Truncate(indexes[1], int64(len(want)-1)) },
		"flipped":    func() error { b := bytes.Clone(want); b[30] ^= 4; return os.WriteFile(indexes[1], b, filePerms) },
		"of another": func() error { return os.WriteFile(indexes[1], mustRead(t, indexes[0]), filePerms) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			l := mustOpen(t, dir, Options{})
			wantLast(t, l, 1, 1, 60)
			for i := uint64(1); i <= 60; i++ {
				wantEntry(t, l, 1, 1, i, 300)
			}
			mustClose(t, l)
			if !bytes.Equal(mustRead(t, indexes[1]), want) {
				t.Fatal("not built again")
			}
		})
	}
}

func TestALogThatEndsBeforeItsCommitIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 2, 9), HardState: &HardState{Term: 1, Vote: 1, Commit: 3}})
	mustClose(t, l)
	wantDamage(t, dir)
}

func TestTheNewestSegmentMayBeEmptyOrFull(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 1, 10*small)}) // larger than a segment
	mustClose(t, l)
	paths := segmentFiles(t, dir)
	if len(paths) != 2 {
		t.Fatalf("%d segments", len(paths))
	}
	// A crash before the library has begun the next segment.
	full := t.TempDir()
	copyTree(t, dir, full)
	for _, name := range []string{segmentsName, indexesName} {
		for _, base := range []string{filepath.Base(paths[1]), filepath.Base(paths[0])} {
			if name == segmentsName && base == filepath.Base(paths[0]) {
				continue
			}
			_ = os.Remove(filepath.Join(full, name, base))
		}
	}
	for _, dir := range []string{dir, full} {
		l := mustOpen(t, dir, Options{})
		wantEntry(t, l, 1, 1, 1, 10*small)
		fill(t, l, 1, 1, 2, 30, 300)
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
		wantEntry(t, l, 1, 1, 1, 10*small)
		wantLast(t, l, 1, 1, 31)
		wantEntry(t, l, 1, 1, 31, 300)
		mustClose(t, l)
	}
}
