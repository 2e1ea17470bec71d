package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const small = 4 << 10 // the smallest segment, so that few entries fill many

func mustOpen(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	if o.SegmentBytes == 0 {
		o.SegmentBytes = small
	}
	l, err := open(dir, o, fastFiles{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// body is the payload of an entry, told by who it is.
func body(g entry.GroupID, term, i uint64, size int) []byte {
	b := make([]byte, 0, size+24)
	b = binary.LittleEndian.AppendUint64(b, uint64(g))
	b = binary.LittleEndian.AppendUint64(b, term)
	b = binary.LittleEndian.AppendUint64(b, i)
	for k := 24; k < size; k++ {
		b = append(b, byte(uint64(k)*7+i))
	}
	return b[:size]
}

func entries(g entry.GroupID, term, first uint64, n, size int) []Entry {
	list := make([]Entry, n)
	for k := range list {
		i := first + uint64(k)
		list[k] = Entry{Term: term, Index: i, Payload: body(g, term, i, size)}
	}
	return list
}

// await appends and waits for Done.
func await(l *Log, a Append) error {
	done := make(chan error, 1)
	a.Done = func(err error) { done <- err }
	l.Append(a)
	return <-done
}

func mustAppend(t testing.TB, l *Log, a Append) {
	t.Helper()
	if err := await(l, a); err != nil {
		t.Fatal(err)
	}
}

// fill appends n entries of size bytes, each with an fsync of its own.
func fill(t testing.TB, l *Log, g entry.GroupID, term, first uint64, n, size int) {
	t.Helper()
	for _, e := range entries(g, term, first, n, size) {
		mustAppend(t, l, Append{Group: g, Entries: []Entry{e}})
	}
}

func wantEntry(t testing.TB, l *Log, g entry.GroupID, term, i uint64, size int) {
	t.Helper()
	b, err := l.Read(g, i, nil)
	if err != nil {
		t.Fatalf("entry %d/%d: %v", g, i, err)
	}
	if !bytes.Equal(b, body(g, term, i, size)) {
		t.Fatalf("entry %d/%d: other bytes than were appended", g, i)
	}
}

func wantLast(t testing.TB, l *Log, g entry.GroupID, term, i uint64) {
	t.Helper()
	if _, last, ok := l.Bounds(g); !ok || last != (entry.Position{Term: term, Index: i}) {
		t.Fatalf("group %d ends at %v (%v), want %d/%d", g, last, ok, term, i)
	}
}

func mustCheckpoint(t testing.TB, l *Log, g entry.GroupID, term, i uint64, state string) {
	t.Helper()
	err := l.Checkpoint(g, entry.Position{Term: term, Index: i}, func(w io.Writer) error {
		_, err := io.WriteString(w, state)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantCheckpoint(t testing.TB, l *Log, g entry.GroupID, term, i uint64, state string) {
	t.Helper()
	at, r, err := l.OpenCheckpoint(g)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if at != (entry.Position{Term: term, Index: i}) || string(b) != state {
		t.Fatalf("checkpoint at %v: %q, want %d/%d: %q", at, b, term, i, state)
	}
}

// wantDamage opens a log that must be refused, and returns the refusal.
func wantDamage(t testing.TB, dir string) *DamagedError {
	t.Helper()
	l, err := Open(dir, Options{SegmentBytes: small})
	if err == nil {
		_ = l.Close()
		t.Fatal("a damaged log was opened")
	}
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !errors.Is(err, ErrDamaged) || damaged.File == "" {
		t.Fatalf("not a DamagedError: %v", err)
	}
	return damaged
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, segmentsName, "*"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no segments", err)
	}
	return paths
}

func tailFile(t testing.TB, dir string) string {
	paths := segmentFiles(t, dir)
	return paths[len(paths)-1]
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustWrite(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, filePerms); err != nil {
		t.Fatal(err)
	}
}

// newRandom returns a source of randomness whose seed a failure names.
func newRandom(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}
