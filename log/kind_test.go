package log

import (
	"errors"
	"testing"
)

func TestTheKindOfAnEntryIsKept(t *testing.T) {
	dir := t.TempDir()
	o := Options{SlackBytes: small}
	l := mustOpen(t, dir, o)
	var list []Entry
	for i := uint64(1); i <= 40; i++ {
		list = append(list, Entry{Term: 1, Index: i, Kind: uint8(i % 16), Payload: body(1, 1, i, 300)})
	}
	mustAppend(t, l, Append{Group: 1, Entries: list})
	refilled := some(1, 2, 300, 70)
	refilled[0].Kind = 2
	mustRefill(t, l, 1, refilled...)
	var buffer []byte
	want := func(term, i uint64, kind uint8) {
		t.Helper()
		e, err := l.ReadEntry(1, i, buffer)
		if err != nil || e.Term != term || e.Index != i || e.Kind != kind || len(e.Payload) != 300 {
			t.Fatalf("%d/%d of kind %d, %v, want %d/%d of kind %d", e.Term, e.Index, e.Kind, err, term, i, kind)
		}
		buffer = e.Payload
	}
	check := func() {
		t.Helper()
		for i := uint64(1); i <= 40; i++ {
			want(1, i, uint8(i%16))
		}
		want(2, 70, 2)
		if err := l.ReadRange(1, 1, 40, func(e Entry) error {
			if e.Kind != uint8(e.Index%16) {
				t.Fatalf("entry %d: kind %d", e.Index, e.Kind)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		check()
		churn(t, l, 2)
		check()
		mustClose(t, l)
		l = mustOpen(t, dir, o)
	}
	err := await(l, Append{Group: 1, Entries: []Entry{{Term: 1, Index: 41, Kind: 16}}})
	if !errors.Is(err, ErrInvalidAppend) {
		t.Fatal(err)
	}
}

// A record of before kinds were kept, byte by byte.
func TestAnOldRecordIsOfKindZero(t *testing.T) {
	b := []byte{0, 0, 0, 0, 1, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 'x'}
	seal(b, 1, 1)
	r, payload, err := parseRecord(b, 1, 1)
	if err != nil || r.entryKind != 0 || r.kind != kindEntry || r.group != 7 || r.term != 3 || r.index != 9 || string(payload) != "x" {
		t.Fatalf("%+v, %v", r, err)
	}
}
