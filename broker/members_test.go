package broker

import "testing"

// A leader tells the channels and consumers of all brokers apart by number: two
// brokers' first consumers were the same to it once.
func TestNoTwoBrokersGiveTheSameNumber(t *testing.T) {
	names := []string{"b1", "b2", "b3"}
	by := make(map[uint64]string)
	for _, name := range names {
		m := &members{self: name, names: names}
		for n := range uint64(100) {
			id := m.unique(n + 1)
			if other, used := by[id]; used || id == 0 {
				t.Fatalf("number %d of %s is %d, as is one of %q", n+1, name, id, other)
			}
			by[id] = name
		}
	}
}
