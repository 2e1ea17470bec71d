package broker

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
)

func TestUnackedAgainstATwin(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		var u unacked
		twin := map[uint64]entry.MessageID{}
		taken := map[uint64]unackedEntry{} // could be put back by a rollback
		var last uint64
		for range 2000 {
			switch n := random.IntN(20); {
			case n < 9:
				message := entry.MessageID(random.Uint64())
				last++
				if tag := u.add(nil, message); tag != last {
					t.Fatalf("seed %d: tag %d, want %d", seed, tag, last)
				}
				twin[last] = message
			case n < 10:
				last++
				if tag := u.skip(); tag != last {
					t.Fatalf("seed %d: tag %d, want %d", seed, tag, last)
				}
			case n < 17:
				tag := last - min(last, uint64(random.IntN(200)))
				e, ok := u.take(tag)
				message, want := twin[tag]
				if ok != want || ok && e.message != message {
					t.Fatalf("seed %d: take %d is %v, %v", seed, tag, e, ok)
				}
				if ok {
					delete(twin, tag)
					taken[tag] = e
				}
			case n < 19:
				for tag, e := range taken {
					u.restore(tag, e)
					twin[tag] = e.message
					delete(taken, tag)
					break
				}
			default:
				takeUpTo(t, seed, &u, twin, last-min(last, uint64(random.IntN(300))))
				clear(taken)
			}
			if u.len() != len(twin) {
				t.Fatalf("seed %d: %d entries, want %d", seed, u.len(), len(twin))
			}
		}
		takeUpTo(t, seed, &u, twin, 0)
		if len(u.mu.chunks) > 0 || len(twin) > 0 {
			t.Fatalf("seed %d: %d chunks and %d entries are left", seed, len(u.mu.chunks), len(twin))
		}
	}
}

func takeUpTo(t *testing.T, seed uint64, u *unacked, twin map[uint64]entry.MessageID, tag uint64) {
	t.Helper()
	var want, got []uint64
	_, there := twin[tag]
	for each := range twin {
		if tag == 0 || there && each <= tag {
			want = append(want, each)
		}
	}
	slices.Sort(want)
	ok := u.takeUpTo(tag, func(each uint64, e unackedEntry) {
		got = append(got, each)
		if e.message != twin[each] {
			t.Fatalf("seed %d: tag %d is message %d", seed, each, e.message)
		}
		delete(twin, each)
	})
	if ok != (there || tag == 0) || !slices.Equal(got, want) {
		t.Fatalf("seed %d: up to %d: %v, %v, want %v", seed, tag, ok, got, want)
	}
}

func TestOneUnackedDeliveryPinsLittle(t *testing.T) {
	var u unacked
	u.add(nil, 1)
	for i := range entry.MessageID(1_000_000) {
		tag := u.add(nil, i+2)
		u.take(tag)
	}
	chunks := 0
	for _, c := range u.mu.chunks {
		if c != nil {
			chunks++
		}
	}
	if u.len() != 1 || chunks > 1 || len(u.mu.chunks) > 1_000_000/unackedChunk+2 {
		t.Errorf("%d entries, %d chunks in %d places", u.len(), chunks, len(u.mu.chunks))
	}
}

func BenchmarkUnackedAddTake(b *testing.B) {
	var u unacked
	b.ReportAllocs()
	for b.Loop() {
		u.take(u.add(nil, 1))
	}
}
