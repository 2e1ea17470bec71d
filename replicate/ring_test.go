package replicate

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func ringEntry(index uint64, size int) Entry {
	return Entry{Term: 1, Index: index, Payload: make([]byte, size)}
}

func TestTheRingIsBoundedAndDropsTheOldest(t *testing.T) {
	ring := newRing(10 * (entryOverhead + 100))
	for i := range uint64(1000) {
		ring.put(fromLog(ringEntry(i+1, 100)))
		if ring.Bytes() > 10*(entryOverhead+100) {
			t.Fatalf("%d bytes held", ring.Bytes())
		}
	}
	for i := range uint64(1001) {
		if _, ok := ring.Get(i); ok != (i > 990) {
			t.Errorf("entry %d held: %v", i, ok)
		}
	}
}

// TestTheRingHoldsWhatAListOfNewestEntriesWould puts entries at random indexes,
// as conflicts and restarts do, and compares with a slice.
func TestTheRingHoldsWhatAListOfNewestEntriesWould(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	limit := int64(100 * entryOverhead)
	ring := newRing(limit)
	var twin []Entry
	for range 20000 {
		next := uint64(1)
		if n := len(twin); n > 0 {
			next = twin[n-1].Index + 1
		}
		switch n := random.IntN(100); {
		case n == 0:
			next += uint64(random.IntN(5))
		case n < 4:
			next -= min(next-1, uint64(random.IntN(130)))
		}
		e := ringEntry(next, 0)
		if random.IntN(50) == 0 {
			e.Payload = make([]byte, random.IntN(int(limit)*11/10))
		}
		ring.put(fromLog(e))
		twin = putTwin(twin, e, limit)
		var bytes int64
		for _, e := range twin {
			bytes += int64(len(e.Payload)) + entryOverhead
		}
		if ring.Bytes() != bytes {
			t.Fatalf("seed %d: %d bytes, want %d", seed, ring.Bytes(), bytes)
		}
		for index := next - min(next, 140); index < next+3; index++ {
			payload, ok := ring.Get(index)
			held := len(twin) > 0 && index >= twin[0].Index && index <= twin[len(twin)-1].Index
			if ok != held || held && len(payload) != len(twin[index-twin[0].Index].Payload) {
				t.Fatalf("seed %d: entry %d: %v, want %v", seed, index, ok, held)
			}
		}
	}
}

func putTwin(twin []Entry, e Entry, limit int64) []Entry {
	if n := len(twin); n > 0 && (e.Index < twin[0].Index || e.Index > twin[n-1].Index+1) {
		twin = nil
	}
	for len(twin) > 0 && twin[len(twin)-1].Index >= e.Index {
		twin = twin[:len(twin)-1]
	}
	twin = append(twin, e)
	for {
		var bytes int64
		for _, e := range twin {
			bytes += int64(len(e.Payload)) + entryOverhead
		}
		if bytes <= limit || len(twin) == 1 {
			return twin
		}
		twin = twin[1:]
	}
}

func TestTheRingIsReadWhileItChanges(t *testing.T) {
	ring := newRing(1 << 16)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if payload, ok := ring.Get(i % 2000); ok && string(payload) != fmt.Sprint(i%2000) {
					t.Errorf("entry %d: %q", i%2000, payload)
					return
				}
			}
		})
	}
	for range 20 {
		for i := range uint64(2000) {
			ring.put(fromLog(Entry{Term: 1, Index: i, Payload: fmt.Append(nil, i)}))
		}
	}
	close(done)
	readers.Wait()
}
