package testcluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// Lost is a broker whose data are gone: it comes back with an empty directory,
// and an operator has it replaced.
var Lost = lost("without its data", nil)

// lost is Lost with something else that goes wrong as soon as the broker is a
// member again, before it has its data.
func lost(name string, then func(ctx context.Context, c *Cluster, b *Broker) error) Fault {
	return Fault{
		name,
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
			if then != nil {
				if err := then(ctx, c, b); err != nil {
					return err
				}
			}
			if err := b.AwaitReady(ctx); err != nil {
				return err
			}
			c.Ledger.healed(b.index)
			return nil
		},
	}
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
// any: then the others may be lost, one at a time, and it delivers what waited.
func TestABrokerLosesItsData(t *testing.T) {
	r := start(t, 3, quorum("majority"))
	bodies := numbered(times(600, 6000), 16<<10)
	got := make([]bool, len(bodies))
	victims := []*Broker{r.leader(), r.mirror()}[:times(1, 2)]
	faults := []Fault{Lost}
	if *long {
		faults = append(faults, lost("without its data, and killed while it gets them", func(_ context.Context, c *Cluster, b *Broker) error {
			c.Kill(b)
			return b.Launch()
		}), lost("without its data, and the leader is killed that sends them", func(ctx context.Context, c *Cluster, b *Broker) error {
			leader, err := c.Leader(ctx, "beside", b)
			if err != nil {
				return err
			}
			c.Kill(leader)
			return c.Restart(ctx, leader)
		}))
	}
	publisher := r.session(victims[0])
	queue, err := publisher.QueueDeclare("beside", true, false, false, false, quorum("majority"))
	r.must(err)
	for window := range slices.Chunk(bodies, 200) {
		r.publish(publisher, queue.Name, window...)
	}
	for _, b := range victims {
		for _, f := range faults {
			r.play(f, b, time.Second)
		}
		for _, other := range r.cluster.Mirrors(b)[:times(1, 2)] {
			r.play(Killed, other, time.Second)
		}
	}
	r.take(r.session(victims[len(victims)-1]), queue.Name, bodies, got)
	if slices.Contains(got, false) {
		r.fail(fmt.Errorf("message %d is lost", slices.Index(got, false)))
	}
	r.judge()
}
