package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
)

func encodeRecord(r record, payload []byte, segment uint64, offset int64) []byte {
	r.size = headerSize + int64(len(payload))
	b := append(appendHeader(nil, r), payload...)
	seal(b, segment, offset)
	return b
}

func TestARecordIsReadBackAsItWasWritten(t *testing.T) {
	vote := binary.LittleEndian.AppendUint64(nil, 1<<63)
	for name, c := range map[string]struct {
		record  record
		payload []byte
	}{
		"entry":           {record{kind: kindEntry, group: 7, term: 3, index: 9}, []byte("body")},
		"empty entry":     {record{kind: kindEntry, group: 1<<32 - 1, term: 1<<64 - 1, index: 1<<64 - 1}, nil},
		"entry of a kind": {record{kind: kindEntry, entryKind: maxEntryKind, group: 7, term: 3, index: 9}, []byte("body")},
		"refilled entry":  {record{kind: kindRefill, entryKind: 2, group: 7, term: 3, index: 9}, []byte("body")},
		"moved entry":     {record{kind: kindMoved, term: 3, index: 9}, make([]byte, 5000)},
		"hard state":      {record{kind: kindHardState, group: 7, term: 3, index: 9, vote: 1 << 63}, vote},
		"synced record":   {record{kind: kindSynced}, nil},
		"front record":    {record{kind: kindFront, index: 12}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := encodeRecord(c.record, c.payload, 5, 77)
			r, payload, err := parseRecord(b, 5, 77)
			if err != nil {
				t.Fatal(err)
			}
			c.record.offset, c.record.size = 77, int64(len(b))
			if r != c.record || !bytes.Equal(payload, c.payload) {
				t.Fatalf("got %+v, want %+v", r, c.record)
			}
			if _, _, err := parseRecord(b, 5, 78); !errors.Is(err, errChecksum) {
				t.Fatalf("at another offset: %v", err)
			}
			if _, _, err := parseRecord(b, 6, 77); !errors.Is(err, errChecksum) {
				t.Fatalf("in another segment: %v", err)
			}
			for bit := range len(b) * 8 {
				b[bit/8] ^= 1 << (bit % 8)
				if _, _, err := parseRecord(b, 5, 77); err == nil {
					t.Fatalf("flipped bit %d was not noticed", bit)
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
}

func TestMalformedRecordsAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"zeros":                 make([]byte, 64),
		"short of a header":     encodeRecord(record{kind: kindEntry}, nil, 1, 0)[:headerSize-1],
		"unknown kind":          encodeRecord(record{kind: 7}, nil, 1, 0),
		"synced with a kind":    encodeRecord(record{kind: kindSynced, entryKind: 1}, nil, 1, 0),
		"hard state, no vote":   encodeRecord(record{kind: kindHardState}, nil, 1, 0),
		"hard state, long vote": encodeRecord(record{kind: kindHardState}, make([]byte, 9), 1, 0),
		"synced with payload":   encodeRecord(record{kind: kindSynced}, make([]byte, 1), 1, 0),
	} {
		if _, _, err := parseRecord(b, 1, 0); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(encodeRecord(record{kind: kindEntry, group: 1, term: 2, index: 3}, []byte("body"), 1, 1))
	f.Add(encodeRecord(record{kind: kindRefill, entryKind: 2, group: 1, term: 2, index: 3}, nil, 1, 1))
	f.Add(encodeRecord(record{kind: kindHardState}, make([]byte, 8), 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, payload, err := parseRecord(b, 1, 1)
		if err == nil {
			if again := encodeRecord(r, payload, 1, 1); !bytes.Equal(again, b) {
				t.Fatalf("%x is encoded as %x", b, again)
			}
		}
		// With the right checksum every well-formed record is accepted.
		if len(b) >= headerSize {
			b = bytes.Clone(b)
			seal(b, 1, 1)
			_, _, headErr := parseHeader(b, int64(len(b)))
			if _, _, err := parseRecord(b, 1, 1); (err == nil) != (headErr == nil) {
				t.Fatal(err, headErr)
			}
		}
	})
}

func randomRecords(random *rand.Rand, n int) []record {
	var list []record
	end := int64(0)
	for range n {
		r := record{kind: kind(1 + random.IntN(6)), group: entry.GroupID(random.Uint32() >> random.IntN(32))}
		r.term, r.index = random.Uint64()>>random.IntN(64), random.Uint64()>>random.IntN(64)
		if k := len(list); k > 0 && random.IntN(3) > 0 {
			r.group, r.term, r.index = list[k-1].group, list[k-1].term, list[k-1].index+1
		}
		r.size = headerSize
		switch r.kind {
		case kindEntry, kindMoved, kindRefill:
			r.size += random.Int64N(5000)
		case kindHardState:
			r.size, r.vote = headerSize+voteSize, random.Uint64()
		}
		r.offset = end + int64(prefixLen(r.size))
		end += framed(r.size)
		list = append(list, r)
	}
	return list
}

func TestASideIndexListsTheRecordsThatItWasGiven(t *testing.T) {
	random := newRandom(t, 1)
	for n := range 200 {
		want := randomRecords(random, n)
		var x sideIndex
		x.reset(9)
		for _, r := range want {
			x.add(r)
		}
		b := x.encode()
		y, err := decodeSideIndex(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []record
		if err := y.each(func(r record) bool { got = append(got, r); return true }); err != nil {
			t.Fatal(err)
		}
		if y.first != 9 || len(got) != len(want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
		for k := range got {
			if got[k] != want[k] {
				t.Fatalf("record %d: %+v, want %+v", k, got[k], want[k])
			}
		}
		k := random.IntN(len(b))
		b[k] ^= 1 << random.IntN(8)
		if _, err := decodeSideIndex(b); err == nil {
			t.Fatalf("a flipped bit in byte %d of %d was not noticed", k, len(b))
		}
	}
}

func FuzzSideIndex(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 4 {
		var x sideIndex
		x.reset(1)
		for _, r := range randomRecords(random, n*3) {
			x.add(r)
		}
		f.Add(x.body, x.count, x.end)
	}
	f.Fuzz(func(t *testing.T, body []byte, count uint64, end int64) {
		// Given a right checksum, so that the records' decoder is reached.
		x := sideIndex{first: 1, count: count, end: end, body: body}
		y, err := decodeSideIndex(x.encode())
		if err != nil {
			return
		}
		var again sideIndex
		again.reset(1)
		if y.each(func(r record) bool { again.add(r); return true }) != nil {
			return
		}
		if again.count != count || again.end != end {
			t.Fatalf("%d records to %d, were %d to %d", again.count, again.end, count, end)
		}
	})
}

func TestTheIndexAgreesWithAMap(t *testing.T) {
	for seed := range uint64(20) {
		random := newRandom(t, seed)
		x, model := newIndex(), map[uint64]place{}
		span := uint64(1 + random.IntN(2000))
		for range 5000 {
			i := random.Uint64N(span)
			p := place{segment: 1 + random.Uint32N(9), offset: random.Uint32(), size: random.Uint32()}
			old, had := model[i]
			if found := x.find(i); (found != nil) != had || had && *found != old {
				t.Fatalf("find(%d) = %v, want %v", i, found, old)
			}
			switch {
			case had && random.IntN(3) > 0:
				x.remove(i)
				delete(model, i)
			case had:
				*x.find(i) = p
				model[i] = p
			case random.IntN(4) > 0 || random.IntN(50) == 0:
				x.put(i, p)
				model[i] = p
			}
		}
		for i := range span {
			old, had := model[i]
			if found := x.find(i); (found != nil) != had || had && *found != old {
				t.Fatalf("at the end: find(%d) = %v, want %v", i, found, old)
			}
		}
	}
}

func TestTheTermsOfAGroupAgreeWithAList(t *testing.T) {
	for seed := range uint64(50) {
		random := newRandom(t, seed)
		// Terms rise; entries are met in any order, as after compaction.
		terms := []uint64{0}
		for range 60 {
			terms = append(terms, max(1, terms[len(terms)-1]+uint64(random.IntN(6)/5)))
		}
		g := newGroup(1)
		for _, k := range random.Perm(60) {
			g.last = max(g.last, uint64(k+1))
			g.setTerm(uint64(k+1), terms[k+1])
		}
		check := func(from uint64) {
			for i := from; i <= g.last; i++ {
				if term, ok := g.term(i); !ok || term != terms[i] {
					t.Fatalf("term(%d) = %d, %v, want %d: %v", i, term, ok, terms[i], g.terms)
				}
			}
		}
		check(1)
		floor := uint64(random.IntN(60))
		g.floor = entry.Position{Term: terms[floor], Index: floor}
		g.trimTerms()
		check(floor)
	}
}
