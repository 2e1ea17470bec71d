package log

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestACheckpointRaisesTheFloor(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	fill(t, l, 1, 1, 1, 10, 30)
	fill(t, l, 1, 2, 11, 2, 30)
	mustCheckpoint(t, l, 1, 1, 7, "first")
	mustCheckpoint(t, l, 1, 2, 12, "second")
	for range 2 {
		if l.Floor(1) != at(2, 12) {
			t.Fatal(l.Floor(1))
		}
		first, last, ok := l.Bounds(1)
		if first.Index != 13 || last != at(2, 12) || !ok {
			t.Fatal(first, last, ok)
		}
		if term, err := l.Term(1, 12); err != nil || term != 2 {
			t.Fatal(term, err)
		}
		if _, err := l.Term(1, 11); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		wantCheckpoint(t, l, 1, 2, 12, "second")
		wantEntry(t, l, 1, 1, 3, 30) // not released
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
	}
	if err := l.Checkpoint(1, at(1, 7), writeNothing); err == nil {
		t.Fatal("the floor was lowered")
	}
	if err := l.Checkpoint(1, at(3, 12), writeNothing); err == nil {
		t.Fatal("another term at the floor")
	}
	mustCheckpoint(t, l, 1, 2, 12, "again")
	if paths, _ := listCheckpoints(dir); len(paths) != 1 {
		t.Fatal(paths)
	}
}

func TestACheckpointThatFailsChangesNothing(t *testing.T) {
	dir := t.TempDir()
	l, f := openFaulty(t, dir, Options{})
	fill(t, l, 1, 1, 1, 10, 30)
	mustCheckpoint(t, l, 1, 1, 5, "kept")
	if err := l.Checkpoint(1, at(1, 8), func(w io.Writer) error {
		_, _ = w.Write(make([]byte, 1<<20))
		return errInjected
	}); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	for _, fail := range []string{"sync", "rename"} {
		f.hook(func(step, _ string) error {
			if step == fail {
				return errInjected
			}
			return nil
		})
		if err := l.Checkpoint(1, at(1, 8), writeNothing); !errors.Is(err, errInjected) {
			t.Fatalf("%s: %v", fail, err)
		}
	}
	f.hook(nil)
	if l.Floor(1) != at(1, 5) {
		t.Fatal(l.Floor(1))
	}
	wantCheckpoint(t, l, 1, 1, 5, "kept")
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	wantCheckpoint(t, l, 1, 1, 5, "kept")
	if names, _ := os.ReadDir(filepath.Join(dir, checkpointsName)); len(names) != 1 {
		t.Fatal(names)
	}
}

func TestADamagedCheckpointIsNeverHandedOut(t *testing.T) {
	from := t.TempDir()
	l := mustOpen(t, from, Options{})
	fill(t, l, 1, 1, 1, 3, 30)
	mustCheckpoint(t, l, 1, 1, 2, "state")
	path := filepath.Join(checkpointsName, checkpointName(1, at(1, 2)))
	whole := mustRead(t, filepath.Join(from, path))
	t.Run("while open", func(t *testing.T) {
		b := bytes.Clone(whole)
		b[checkpointHeaderSize] ^= 1
		mustWrite(t, filepath.Join(from, path), b)
		if _, _, err := l.OpenCheckpoint(1); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(from, path), whole)
	})
	mustClose(t, l)
	for k := range whole {
		for name, b := range map[string][]byte{"flipped": bytes.Clone(whole), "cut off": whole[:k]} {
			if name == "flipped" {
				b[k] ^= 1
			}
			dir := t.TempDir()
			copyTree(t, from, dir)
			mustWrite(t, filepath.Join(dir, path), b)
			report, err := Verify(dir)
			if err != nil || len(report.Damaged) == 0 {
				t.Fatalf("byte %d %s: %+v, %v", k, name, report, err)
			}
			// The log behind it is whole here: it is replayed from the start.
			l := mustOpen(t, dir, Options{})
			if _, _, err := l.OpenCheckpoint(1); !errors.Is(err, ErrNoCheckpoint) {
				t.Fatalf("byte %d %s: %v", k, name, err)
			}
			first, last, _ := l.Bounds(1)
			if first != at(1, 1) || last != at(1, 3) {
				t.Fatalf("byte %d %s: %v…%v", k, name, first, last)
			}
			mustClose(t, l)
		}
	}
}

func TestWithoutItsCheckpointACompactedLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SlackBytes: small})
	fill(t, l, 1, 1, 1, 100, 300)
	for i := uint64(1); i <= 100; i++ {
		l.Release(1, i)
	}
	mustCheckpoint(t, l, 1, 1, 90, "state")
	for i := uint64(101); l.Stats().Segments > 6; i++ {
		fill(t, l, 1, 1, i, 1, 30)
	}
	mustClose(t, l)
	if err := os.Remove(filepath.Join(dir, checkpointsName, checkpointName(1, at(1, 90)))); err != nil {
		t.Fatal(err)
	}
	wantDamage(t, dir)
}

func TestAnInstalledCheckpointReplacesTheLog(t *testing.T) {
	for name, to := range map[string]struct{ term, index uint64 }{
		"beyond the last entry": {5, 50},
		"at another term":       {5, 8},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, f := openFaulty(t, dir, Options{})
			mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 20, 200), HardState: &HardState{Term: 1, Vote: 1, Commit: 4}})
			var crashed []string
			f.hook(func(step, _ string) error {
				crashed = append(crashed, filepath.Join(t.TempDir(), "crash"))
				f.crash(t, crashed[len(crashed)-1])
				return nil
			})
			mustCheckpoint(t, l, 1, to.term, to.index, "installed")
			f.hook(nil)
			check := func(l *Log) {
				t.Helper()
				wantLast(t, l, 1, to.term, to.index)
				wantCheckpoint(t, l, 1, to.term, to.index, "installed")
				wantEntry(t, l, 1, 1, 4, 200) // committed: it is what was installed
				for i := uint64(5); i <= 20; i++ {
					if _, err := l.Read(1, i, nil); !errors.Is(err, ErrNotFound) {
						t.Fatalf("entry %d: %v", i, err)
					}
				}
			}
			check(l)
			mustClose(t, l)
			l = mustOpen(t, dir, Options{})
			check(l)
			// The log goes on, is checkpointed, and what was replaced stays so.
			fill(t, l, 1, to.term, to.index+1, 3, 200)
			mustCheckpoint(t, l, 1, to.term, to.index+1, "later")
			mustClose(t, l)
			l = mustOpen(t, dir, Options{})
			wantLast(t, l, 1, to.term, to.index+3)
			if _, err := l.Read(1, 20, nil); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			mustClose(t, l)
			// Between any two steps it is the old log or the new one.
			for k, dir := range crashed {
				l := mustOpen(t, dir, Options{})
				if l.Floor(1) == at(to.term, to.index) {
					check(l)
				} else {
					wantLast(t, l, 1, 1, 20)
				}
				if err := l.Close(); err != nil {
					t.Fatal(k, err)
				}
			}
		})
	}
}

func TestAnInstalledCheckpointOfAnUnknownGroup(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustCheckpoint(t, l, 7, 3, 100, "installed")
	fill(t, l, 7, 3, 101, 2, 30)
	for range 2 {
		wantLast(t, l, 7, 3, 102)
		wantCheckpoint(t, l, 7, 3, 100, "installed")
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
	}
}

// A moved record that followed, in one batch, the conflict that discards its
// entry would bring that back at the next opening.
func TestAConflictInTheBatchOfAMoveIsNotUndone(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 2, 30)})
	from, err := l.locate(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	err = l.writer.do(&task{run: func() error { // on the writer's goroutine
		conflict := Append{Group: 1, Entries: entries(1, 2, 2, 1, 30), Done: func(err error) { done <- err }}
		moved := movedRecord{record: record{group: 1, term: 1, index: 2}, from: from.place, payload: body(1, 1, 2, 30)}
		l.writer.reset()
		l.writer.commit([]item{{Append: conflict}}, &task{moved: []movedRecord{moved}, done: done})
		return nil
	}})
	if err := errors.Join(err, <-done, <-done); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantLast(t, l, 1, 2, 2)
		wantEntry(t, l, 1, 2, 2, 30)
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
	}
}
