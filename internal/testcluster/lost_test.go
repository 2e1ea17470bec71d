package testcluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Lost is a broker whose data are gone: it comes back with an empty directory,
// and an operator has it replaced.
var Lost = Fault{
	"without its data",
	func(_ context.Context, c *Cluster, b *Broker) error {
		c.Kill(b)
		return os.RemoveAll(b.Data)
	},
	func(ctx context.Context, c *Cluster, b *Broker) error {
		if err := b.Launch(); err != nil {
			return err
		}
		if err := c.replace(ctx, b); err != nil {
			return err
		}
		if err := b.AwaitReady(ctx); err != nil {
			return err
		}
		c.Ledger.healed(b.index)
		return nil
	},
}

// replace has another broker take b in as a new member, as soon as it is there.
func (c *Cluster) replace(ctx context.Context, b *Broker) error {
	for {
		out, err := exec.CommandContext(ctx, b.binary, "replace", b.Name, "--api", "http://guest:guest@"+c.Mirrors(b)[0].HTTP).CombinedOutput()
		if err == nil {
			c.Timeline.Note("%s is replaced: %s", b.Name, out)
			return nil
		}
		if pause(ctx, 20*poll) != nil {
			return fmt.Errorf("replace %s: %w: %s", b.Name, err, out)
		}
	}
}

// A broker that has lost its data gets them from the others, and counts again as
// any: then the others may be lost, one at a time.
func TestABrokerLosesItsData(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	victims := []*Broker{r.leader(), r.mirror()}
	for _, b := range victims[:times(1, 2)] {
		r.play(Lost, b, time.Second)
		for _, other := range r.cluster.Mirrors(b)[:times(1, 2)] {
			r.play(Killed, other, time.Second)
		}
	}
	r.judge()
}
