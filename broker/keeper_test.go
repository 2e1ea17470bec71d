package broker

import (
	"bytes"
	"testing"

	"github.com/mirrormq/mirrormq/internal/topology"
)

// A checkpoint says that it ends at an entry: what is applied while it waits to
// be written must not be in it, or a restart would apply it twice.
func TestASnapshotOfTheTopologyStaysWhatItWas(t *testing.T) {
	b := memoryBroker(t, 1)
	var before uint64
	var write func() *bytes.Buffer
	taken := make(chan struct{})
	b.topology.call(func() {
		before = b.topology.mu.state.Applied()
		snapshot := b.topology.snapshot()
		write = func() *bytes.Buffer {
			var w bytes.Buffer
			if err := snapshot(&w); err != nil {
				t.Error(err)
			}
			return &w
		}
		close(taken)
	})
	<-taken
	if _, err := b.changeTopology(t.Context(), topology.AppendPutVhost(takeOps(), topology.Vhost{Name: "later"})); err != nil {
		t.Fatal(err)
	}
	state, err := topology.Restore(write())
	if err != nil {
		t.Fatal(err)
	}
	if _, there := state.Vhost("later"); there || state.Applied() != before {
		t.Errorf("applied %d of %d, later vhost %v", state.Applied(), before, there)
	}
}
