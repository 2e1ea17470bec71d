package queue

import (
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// check holds a table's structure against its invariants.
func (t *table[V]) check(fail func(string, ...any)) {
	var zero V
	total := 0
	previous, started := uint64(0), false
	for i, c := range t.chunks {
		live := 0
		if len(c.keys) != len(c.vals) || c.live <= 0 || cap(c.keys) != minChunk<<classOf(cap(c.keys)) || cap(c.keys) > maxChunk || cap(c.vals) != cap(c.keys) {
			fail("chunk %d: %d keys, %d values, %d live, room %d", i, len(c.keys), len(c.vals), c.live, cap(c.keys))
		}
		if started && c.base <= previous {
			fail("chunk %d: base %d is not above %d", i, c.base, previous)
		}
		for slot := range c.keys {
			if key := c.key(slot); started && key <= previous {
				fail("chunk %d: key %d is not above %d", i, key, previous)
			} else {
				previous, started = key, true
			}
			if c.vals[slot] != zero {
				live++
			}
		}
		if live != c.live || c.vals[c.first] == zero {
			fail("chunk %d: %d live, not %d; first %d", i, live, c.live, c.first)
		}
		for slot := range c.first {
			if c.vals[slot] != zero {
				fail("chunk %d: slot %d is live, first is %d", i, slot, c.first)
			}
		}
		total += live
	}
	if total != t.live {
		fail("%d live, not %d", total, t.live)
	}
}

func chunkContent(chunks []*chunk[uint32]) map[uint64]uint32 {
	all := map[uint64]uint32{}
	for _, c := range chunks {
		for slot := range c.keys {
			if c.vals[slot] != 0 {
				all[c.key(slot)] = c.vals[slot]
			}
		}
	}
	return all
}

// A table is held against a map, with snapshots taken on the way that must
// stay what they were.
func TestTableIsASortedMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spread := rapid.SampledFrom([]uint64{1, 1, 3, 1000, 1 << 31, 1 << 40}).Draw(t, "spread")
		key := rapid.Custom(func(t *rapid.T) uint64 { return rapid.Uint64Range(0, 2000).Draw(t, "key") * spread })
		var spare pool[uint32]
		tab := table[uint32]{pool: &spare}
		twin := map[uint64]uint32{}
		type image struct {
			chunks []*chunk[uint32]
			want   map[uint64]uint32
		}
		var images []image
		newest := uint64(0)
		del := func(first, last uint64) {
			tab.deleteRange(first, last, func(k uint64, v uint32) {
				if twin[k] != v || k < first || k > last {
					t.Fatalf("deleted %d=%d, want %d", k, v, twin[k])
				}
				delete(twin, k)
			})
			for k := range twin {
				if k >= first && k <= last {
					t.Fatalf("%d is left of %d…%d", k, first, last)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				for range rapid.IntRange(1, 400).Draw(t, "n") {
					newest += spread
					tab.put(newest, uint32(newest)|1)
					twin[newest] = uint32(newest) | 1
				}
			},
			"put": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), rapid.Uint32Range(1, 9).Draw(t, "v")
				tab.put(k, v)
				twin[k] = v
				newest = max(newest, k)
			},
			"putRun": func(t *rapid.T) {
				k := key.Draw(t, "k")
				for i := range uint64(rapid.IntRange(1, 300).Draw(t, "n")) {
					tab.put(k+i*7, 5)
					twin[k+i*7] = 5
					newest = max(newest, k+i*7)
				}
			},
			"delete": func(t *rapid.T) { k := key.Draw(t, "k"); del(k, k) },
			"deleteRange": func(t *rapid.T) {
				a, b := key.Draw(t, "a"), key.Draw(t, "b")
				del(min(a, b), max(a, b))
			},
			"deleteMost": func(t *rapid.T) {
				keep := rapid.Uint64Range(2, 300).Draw(t, "keep")
				for i, k := range slices.Sorted(maps.Keys(twin)) {
					if uint64(i)%keep != 0 {
						del(k, k)
					}
				}
			},
			"front": func(t *rapid.T) {
				for range rapid.IntRange(1, 200).Draw(t, "n") {
					if k, _, ok := tab.next(0); ok {
						del(k, k)
					}
				}
			},
			"update": func(t *rapid.T) {
				a, b := key.Draw(t, "a"), key.Draw(t, "b")
				tab.update(min(a, b), max(a, b), func(k uint64, v *uint32) bool {
					if twin[k] != *v {
						t.Fatalf("update of %d=%d, want %d", k, *v, twin[k])
					}
					*v += 2
					twin[k] += 2
					return true
				})
			},
			"snapshot": func(t *rapid.T) {
				images = append(images, image{tab.snapshot(), maps.Clone(twin)})
			},
			"drop": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
					tab.drop()
					clear(twin)
				}
			},
			"": func(t *rapid.T) {
				tab.check(t.Fatalf)
				k := key.Draw(t, "look")
				if v, ok := tab.get(k); v != twin[k] || ok != (twin[k] != 0) {
					t.Fatalf("get %d: %d %v, want %d", k, v, ok, twin[k])
				}
				if p := tab.ref(k); (p != nil) != (twin[k] != 0) {
					t.Fatalf("ref %d: %v", k, p)
				}
				want, found := uint64(math.MaxUint64), false
				for have := range twin {
					if have >= k && have <= want {
						want, found = have, true
					}
				}
				if got, v, ok := tab.next(k); ok != found || ok && (got != want || v != twin[want]) {
					t.Fatalf("next %d: %d %v, want %d %v", k, got, ok, want, found)
				}
				n := 0
				last := uint64(0)
				tab.each(0, func(k uint64, v uint32) bool {
					if twin[k] != v || n > 0 && k <= last {
						t.Fatalf("each: %d=%d after %d, want %d", k, v, last, twin[k])
					}
					last = k
					n++
					return true
				})
				if n != len(twin) || n != tab.live || n > 0 && tab.bound() < last {
					t.Fatalf("%d keys, bound %d, want %d", n, tab.bound(), len(twin))
				}
			},
		})
		for i, im := range images {
			if !maps.Equal(chunkContent(im.chunks), im.want) {
				t.Fatalf("snapshot %d changed", i)
			}
		}
	})
}
