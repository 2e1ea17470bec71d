package broker

import (
	"bytes"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// A mirror that was a leader may hold an entry that nobody committed where the
// checkpoint has another: until the log has taken the checkpoint, a consumer that
// waited for the entry got some other message's bytes.
func TestNoEntryOfACheckpointIsReadBeforeItIsInTheLog(t *testing.T) {
	leader := queue.NewMachine()
	var fx queue.Effects
	if err := leader.Apply(1, queue.AppendBatch(nil, 1), &fx); err != nil {
		t.Fatal(err)
	}
	var checkpoint bytes.Buffer
	if err := leader.Checkpoint(&checkpoint); err != nil {
		t.Fatal(err)
	}
	mirror := newSettleTest(t).group
	adopt, err := mirror.restore(entry.Position{Term: 1, Index: 1}, &checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	adopt()
	if applied := mirror.applied.Load(); applied != 0 {
		t.Errorf("entries up to %d can be read before the log has the checkpoint", applied)
	}
	mirror.installed()
	if applied := mirror.applied.Load(); applied != 1 {
		t.Errorf("entries up to %d can be read, not 1", applied)
	}
}
