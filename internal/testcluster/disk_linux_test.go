package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A broker that can't write steps down, says why and ends; the others go on.
func TestADiskIsFull(t *testing.T) {
	dir := directory(t)
	mountMemory(t, dir, 3)
	r := startIn(t, dir, 3, quorum("majority"), "--disk-free-limit", "1")
	for range times(1, 3) {
		for _, victim := range []func() *Broker{r.mirror, func() *Broker { return r.leader() }}[times(1, 0):] {
			b := victim()
			r.play(DiskFull, b, time.Second)
			if said := b.Tail(1 << 20); !strings.Contains(said, "no space left on device") {
				r.fail(fmt.Errorf("%s did not say that its disk is full", b.Name))
			}
		}
	}
	r.judge()
}

// Before a disk is full its broker's publishers are told to wait. Consuming and
// acking go on, and so does everybody at the other brokers.
func TestADiskIsNearlyFull(t *testing.T) {
	const limit = 64 << 20
	onlyLong(t)
	dir := directory(t)
	mountMemory(t, dir, 3)
	r := startIn(t, dir, 3, quorum("majority"), "--disk-free-limit", fmt.Sprint(limit))
	b := r.leader()
	publisher, consumer := r.session(b), r.session(b)
	queue, err := publisher.QueueDeclare("beside", true, false, false, false, quorum("majority"))
	r.must(err)
	r.publish(publisher, queue.Name, []byte("beside"))
	r.publish(publisher, queue.Name, []byte("beside"))

	r.must(leaveFree(b, limit/2))
	if told := r.told(publisher); !told.Active || told.Reason != "low on disk" {
		r.fail(fmt.Errorf("the publisher was told %+v", told))
	}
	r.cluster.Timeline.Note("%s blocks its publishers", b.Name)
	r.wait(settleTime)
	since := r.cluster.Timeline.now()
	r.until("every consumer gets messages", func() bool {
		for _, c := range r.load.consumers {
			if c.meter.newest() <= since {
				return false
			}
		}
		return true
	})
	r.must(r.load.AwaitFlow(r.ctx, since, r.cluster.Mirrors(b)...))
	if at := r.load.LastConfirm(b); at > since {
		r.fail(fmt.Errorf("a publisher that is blocked got a confirm at %.3f", at.Seconds()))
	}
	for range 2 {
		m, ok, err := consumer.Get(queue.Name, false)
		if err != nil || !ok {
			r.fail(fmt.Errorf("a message that waits was not got: %v", err))
		}
		r.must(m.Ack(false))
	}
	r.drained(b, queue.Name)

	r.must(os.Remove(filler(b)))
	if told := r.told(publisher); told.Active {
		r.fail(fmt.Errorf("the publisher was told %+v", told))
	}
	r.publish(publisher, queue.Name, []byte("beside"))
	r.must(r.load.AwaitFlow(r.ctx, r.cluster.Timeline.now(), r.cluster.Brokers...))
	r.judge()
}

// A leader whose disk hangs does not break: its process lives, its connections
// stand, it hears everybody. It has to be replaced, and what it finds written
// in the end confirms nothing.
func TestADiskHangs(t *testing.T) {
	for _, of := range []string{"majority", "leader"}[:times(1, 2)] {
		t.Run(of, func(t *testing.T) {
			dir := directory(t)
			volumes := mountDisks(t, dir, 3)
			r := startIn(t, dir, 3, quorum(of), "--disk-free-limit", "1")
			r.thawAtEnd(volumes)
			for range times(1, 5) {
				r.play(r.hanging(volumes), r.leader(), 4*time.Second)
			}
			r.judge()
		})
	}
}

// A disk that is only slow, a leader's or a mirror's, slows nobody down as long
// as a majority's are not.
func TestADiskIsSlow(t *testing.T) {
	onlyLong(t)
	dir := directory(t)
	volumes := mountDisks(t, dir, 3)
	r := startIn(t, dir, 3, quorum("majority"), "--disk-free-limit", "1")
	r.thawAtEnd(volumes)
	for range 2 {
		r.play(r.slow(volumes), r.leader(), 2*time.Second)
		r.play(r.slow(volumes), r.mirror(), 2*time.Second)
	}
	r.judge()
}

// thawAtEnd lets the brokers end, whatever the test did.
func (r *run) thawAtEnd(volumes []*volume) {
	r.t.Cleanup(func() {
		for _, v := range volumes {
			if err := v.thaw(); err != nil {
				r.t.Error(err)
			}
		}
	})
}

// hanging is a disk that takes nothing. It lasts at least until somebody else
// leads.
func (r *run) hanging(volumes []*volume) Fault {
	return Fault{
		"waiting for its disk, which hangs",
		func(ctx context.Context, c *Cluster, b *Broker) error {
			c.fault("waiting for its disk, which hangs", b)
			struck := c.Timeline.now()
			if err := volumes[b.index].freeze(); err != nil {
				return err
			}
			next, err := c.Leader(ctx, r.load.config.Queue, b)
			if err == nil {
				c.Timeline.Note("%s leads %v after the disk of %s hung", next.Name, c.Timeline.now()-struck, b.Name)
			}
			return err
		},
		func(_ context.Context, c *Cluster, b *Broker) error { return r.mendDisk(volumes, b) },
	}
}

const (
	// slowFor and slowGap are a slow disk: it stands still, takes what waits,
	// and stands still again.
	slowFor = 100 * time.Millisecond
	slowGap = 10 * time.Millisecond
)

// slow is a disk that takes slowFor for a write.
func (r *run) slow(volumes []*volume) Fault {
	stop, stopped := make(chan struct{}), make(chan error, 1)
	return Fault{
		"waiting for its disk, which is slow",
		func(_ context.Context, c *Cluster, b *Broker) error {
			c.fault("waiting for its disk, which is slow", b)
			v := volumes[b.index]
			go func() { stopped <- r.stutter(v, stop) }()
			return nil
		},
		func(_ context.Context, c *Cluster, b *Broker) error {
			close(stop)
			return errors.Join(<-stopped, r.mendDisk(volumes, b))
		},
	}
}

// stutter freezes and thaws a volume until stop.
func (r *run) stutter(v *volume, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		err := v.freeze()
		_ = pause(r.ctx, slowFor) // At the test's end it goes on to thaw.
		if err = errors.Join(err, v.thaw()); err != nil {
			return err
		}
		_ = pause(r.ctx, slowGap)
	}
}

func (r *run) mendDisk(volumes []*volume, b *Broker) error {
	r.cluster.Timeline.Note("the disk of %s writes again", b.Name)
	err := volumes[b.index].thaw()
	r.cluster.Ledger.healed(b.index)
	return err
}

// leaveFree fills a broker's volume up but for some bytes.
func leaveFree(b *Broker, bytes int64) error {
	f, err := os.Create(filler(b))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		var stat unix.Statfs_t
		if err := unix.Statfs(b.Data, &stat); err != nil {
			return err
		}
		if int64(stat.Bavail)*int64(stat.Bsize) <= bytes {
			return nil
		}
		if _, err := f.Write(make([]byte, 256<<10)); err != nil {
			return err
		}
	}
}
