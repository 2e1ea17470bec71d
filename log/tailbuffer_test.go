package log

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/tidwall/wal"
)

// The library's fields are where we look for them: one buffer serves all
// segments, a record that is larger than it too, and what is on disk is what was
// written.
func TestTailBuffer(t *testing.T) {
	dir := t.TempDir()
	a, err := osFiles{}.openWAL(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	b, ok := a.(*buffered)
	if !ok {
		t.Fatal("tidwall/wal is not as it was: its tail segment grows by append again")
	}
	var want [][]byte
	write := func(sizes ...int) {
		t.Helper()
		var batch wal.Batch
		for _, size := range sizes {
			record := body(1, 1, uint64(len(want)+1), size)
			want = append(want, record)
			batch.Write(uint64(len(want)), record)
		}
		if err := b.WriteBatch(&batch); err != nil {
			t.Fatal(err)
		}
	}
	inBuffer := func() bool {
		ebuf := *(*[]byte)(unsafe.Add(b.tail, b.offset))
		return unsafe.SliceData(ebuf) == unsafe.SliceData(b.buffer)
	}
	write(100, 200)
	first := unsafe.SliceData(b.buffer)
	for range 40 {
		write(900, 3000, 70)
	}
	write(1 << 20)
	write(10)
	if !inBuffer() || unsafe.SliceData(b.buffer) != first {
		t.Error("a segment lies elsewhere than in the one buffer")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := wal.Open(dir, &wal.Options{AllowEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	for k, record := range want {
		if got, err := again.Read(uint64(k + 1)); err != nil || !bytes.Equal(got, record) {
			t.Fatalf("record %d: %d bytes, want %d: %v", k+1, len(got), len(record), err)
		}
	}
}
