package broker

import (
	"context"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// A group's leader that can't reach the topology's does not know of the newest
// queues: they are no strangers for that, and are not removed with all that was
// confirmed in them.
func TestWhatTheRegistryMayHaveIsNotRemoved(t *testing.T) {
	b := memoryBroker(t, 1)
	g, ctx := b.groups[1], t.Context()
	const stray = entry.QueueID(7)
	if _, err := b.group(g.id).do(ctx, queue.AppendCreate(takeOps(), stray, queue.Settings{})); err != nil {
		t.Fatal(err)
	}
	there := func() bool {
		is, _ := asked(g.loop, func() bool { _, there := g.state.Queue(stray); return there })
		return is
	}
	w, name := b.gateways[entry.Topology], b.config.Name
	way := w.port
	set := func(port func(string) func(*wireMessage) bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.port = port
	}
	set(func(string) func(*wireMessage) bool { return nil })
	w.broken(name)
	soon, cancel := context.WithCancel(ctx)
	cancel()
	strangers := map[entry.QueueID]bool{stray: true}
	left, err := b.reconcile(soon, g, strangers)
	if err == nil || !left[stray] || !there() {
		t.Errorf("%v; left %v, there %v", err, left, there())
	}
	set(way)
	w.again(name)
	if _, err := b.reconcile(ctx, g, strangers); err != nil || there() {
		t.Errorf("%v; there %v", err, there())
	}
}
