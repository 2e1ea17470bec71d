package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// recoverTime bounds how long clients may stand still before a test gives up.
// It is no promise, only far above what a loaded machine takes.
const recoverTime = 60 * time.Second

// Fault is something that goes wrong with one broker, and how it ends.
type Fault struct {
	Name string
	// Strike begins it, Mend ends it. A mended broker serves clients again.
	Strike func(context.Context, *Cluster, *Broker) error
	Mend   func(context.Context, *Cluster, *Broker) error
}

// The faults that a Cluster knows.
var (
	Killed = Fault{
		"killed",
		func(_ context.Context, c *Cluster, b *Broker) error { c.Kill(b); return nil },
		restart,
	}
	Stopped = Fault{
		"stopped",
		func(ctx context.Context, c *Cluster, b *Broker) error { return c.Stop(ctx, b) },
		restart,
	}
	Paused = Fault{
		"paused",
		func(_ context.Context, c *Cluster, b *Broker) error { return c.Pause(b) },
		func(_ context.Context, c *Cluster, b *Broker) error { return c.Resume(b) },
	}
	// CutOff has all connections to the others break.
	CutOff = cut("cut off", Broken, Broken)
	// Unheard has nothing arrive in either direction, Mute nothing from the
	// broker, Deaf nothing at it.
	Unheard = cut("in a black hole", Silent, Silent)
	Mute    = cut("mute", Silent, Passes)
	Deaf    = cut("deaf", Passes, Silent)
)

// Nothing goes wrong: what a stand-still is to be compared with.
var Nothing = Fault{
	"left alone",
	func(context.Context, *Cluster, *Broker) error { return nil },
	func(context.Context, *Cluster, *Broker) error { return nil },
}

// DiskFull is a fault of brokers whose data directory is a small file system of
// its own: it fills it up, and expects the broker to end by itself.
var DiskFull = Fault{"out of disk", fillDisk, func(ctx context.Context, c *Cluster, b *Broker) error {
	return errors.Join(os.Remove(filler(b)), restart(ctx, c, b))
}}

func filler(b *Broker) string { return filepath.Join(b.Data, "filler") }

func fillDisk(ctx context.Context, c *Cluster, b *Broker) error {
	c.fault("out of disk", b)
	ended := b.expectEnd()
	f, err := os.Create(filler(b))
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 64<<10); ; {
		if _, err := f.Write(block); err != nil {
			break // What the broker frees by compaction is taken too, until it ends.
		}
	}
	for {
		select {
		case <-ended:
			c.Timeline.Note("%s has ended", b.Name)
			return nil
		case <-ctx.Done():
			return fmt.Errorf("testcluster: %s goes on with its disk full", b.Name)
		case <-time.After(poll):
			_, _ = f.Write(make([]byte, 4<<10))
		}
	}
}

func restart(ctx context.Context, c *Cluster, b *Broker) error { return c.Restart(ctx, b) }

func cut(name string, out, in Mode) Fault {
	return Fault{
		name,
		func(_ context.Context, c *Cluster, b *Broker) error { c.Cut(b, out, in); return nil },
		func(_ context.Context, c *Cluster, b *Broker) error { c.Heal(b); return nil },
	}
}

// Outcome is what a fault did to the clients of the other brokers.
type Outcome struct {
	During StandStill
	// Mending is from the fault's end until the broker's own clients flow again.
	Mending StandStill
	// LastConfirm is how long after the strike the broker's own publisher still
	// got confirms.
	LastConfirm time.Duration
}

// Play has a fault strike a broker, last, and end, and returns when the clients
// of all brokers flow again.
func (l *Load) Play(ctx context.Context, f Fault, victim *Broker, lasts time.Duration) (Outcome, error) {
	c := l.cluster
	ctx, cancel := context.WithTimeoutCause(ctx, lasts+2*recoverTime, fmt.Errorf("%s %s: clients did not recover", victim.Name, f.Name))
	defer cancel()
	living := c.Mirrors(victim)
	l.Begin()
	struck := c.Timeline.now()
	if err := f.Strike(ctx, c, victim); err != nil {
		return Outcome{}, err
	}
	if err := pause(ctx, struck+lasts-c.Timeline.now()); err != nil {
		return Outcome{}, err
	}
	if err := l.AwaitFlow(ctx, struck+lasts/2, living...); err != nil {
		return Outcome{}, err
	}
	o := Outcome{During: l.End(living...), LastConfirm: l.LastConfirm(victim) - struck}
	l.Begin()
	if err := f.Mend(ctx, c, victim); err != nil {
		return o, err
	}
	if err := l.AwaitFlow(ctx, c.Timeline.now(), c.Brokers...); err != nil {
		return o, err
	}
	if err := pause(ctx, settleTime); err != nil {
		return o, err
	}
	o.Mending = l.End(living...)
	return o, nil
}
