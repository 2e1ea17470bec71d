package broker

import (
	"fmt"
	"sync"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

func TestQueuesAreSpreadEvenlyOverTheGroups(t *testing.T) {
	const groups, queues = 4, 40
	b := memoryBroker(t, groups)
	declare := func(name string) {
		if _, _, err := b.declareQueue(t.Context(), topology.Queue{Vhost: "/", Name: name, Durable: true}); err != nil {
			t.Error(err)
		}
	}
	var wait sync.WaitGroup
	for i := range queues {
		wait.Go(func() { declare(fmt.Sprint("q", i)) })
	}
	wait.Wait()
	even := func(want int) {
		t.Helper()
		b.view(func(s *topology.State) {
			for id := entry.GroupID(1); id <= groups; id++ {
				if n := s.QueuesIn(id); n != want {
					t.Errorf("group %d has %d queues, want %d", id, n, want)
				}
			}
		})
	}
	even(queues / groups)

	// What is deleted makes room where it was.
	emptied := b.findQueue("/", "q0").Group
	deleted := 0
	for i := range queues {
		if q := b.findQueue("/", fmt.Sprint("q", i)); q.Group == emptied {
			if _, err := b.deleteQueue(t.Context(), q, false, false); err != nil {
				t.Fatal(err)
			}
			deleted++
		}
	}
	for i := range deleted {
		name := fmt.Sprint("new", i)
		declare(name)
		if q := b.findQueue("/", name); q.Group != emptied {
			t.Errorf("%s is in group %d, though %d has fewer queues", name, q.Group, emptied)
		}
	}
	even(queues / groups)
}
