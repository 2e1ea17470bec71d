package elect

import (
	"reflect"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

var start = time.Unix(1_000_000, 0)

func beatsOf(t *testing.T, datagram []byte) []Beat {
	t.Helper()
	var beats []Beat
	if err := ParseBeats(datagram, func(b Beat) { beats = append(beats, b) }); err != nil {
		t.Fatal(err)
	}
	return beats
}

func TestABeatTellsAllGroupsThatAreLed(t *testing.T) {
	b := NewBeater(0)
	if _, ok := b.Make(start, time.Time{}, nil); ok {
		t.Error("it beats for nothing")
	}
	want := []Beat{
		{Group: 1, Term: 3, Position: entry.Position{Term: 3, Index: 900}},
		{Group: 5, Term: 2, Position: entry.Position{Term: 1, Index: 4}},
	}
	b.Lead(start, want[1])
	b.Lead(start, Beat{Group: 1, Term: 2})
	b.Lead(start, Beat{Group: 9, Term: 2})
	b.Lead(start, want[0])
	b.Resign(9)
	b.Resign(10)
	datagram, ok := b.Make(start, time.Time{}, []byte("kept"))
	if !ok || string(datagram[:4]) != "kept" || !IsBeats(datagram[4:]) {
		t.Fatalf("%t %x", ok, datagram)
	}
	if got := beatsOf(t, datagram[4:]); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestABrokerWhoseLogHangsBeatsNoMore(t *testing.T) {
	b := NewBeater(0)
	b.Lead(start.Add(time.Second), Beat{Group: 1, Term: 3})
	now := start.Add(time.Second)
	if _, ok := b.Make(now, now.Add(-DefaultHang), nil); !ok {
		t.Error("a slow write is taken for a hanging one")
	}
	if _, ok := b.Make(now, now.Add(-DefaultHang-1), nil); ok {
		t.Error("it beats while its log hangs")
	}
	if _, ok := b.Make(now, time.Time{}, nil); !ok {
		t.Error("it doesn't beat any more")
	}
}

func TestAGroupWhoseLoopHangsBeatsNoMore(t *testing.T) {
	b := NewBeater(0)
	b.Lead(start, Beat{Group: 1, Term: 3})
	b.Lead(start.Add(DefaultHang), Beat{Group: 2, Term: 3})
	datagram, _ := b.Make(start.Add(DefaultHang+1), time.Time{}, nil)
	if got := beatsOf(t, datagram); len(got) != 1 || got[0].Group != 2 {
		t.Errorf("%+v", got)
	}
}

func TestBeatsAreSmall(t *testing.T) {
	b := NewBeater(0)
	for g := range 64 {
		b.Lead(start, Beat{Group: entry.GroupID(g), Term: 40, Position: entry.Position{Term: 40, Index: 1 << 30}})
	}
	if datagram, _ := b.Make(start, time.Time{}, nil); len(datagram) > 64*8+2 {
		t.Errorf("%d bytes for 64 groups", len(datagram))
	}
}

func BenchmarkMake(b *testing.B) {
	beater := NewBeater(0)
	for g := range 64 {
		beater.Lead(start, Beat{Group: entry.GroupID(g), Term: 40, Position: entry.Position{Term: 40, Index: 1 << 30}})
	}
	var datagram []byte
	b.ReportAllocs()
	for b.Loop() {
		datagram, _ = beater.Make(start, time.Time{}, datagram[:0])
	}
}
