package broker

import (
	"io"
	"log/slog"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/replicate"
)

// minCheckpointBytes is how much a group's log grows at least between two
// checkpoints: what a restart replays.
const minCheckpointBytes = 48 << 20

// keeper writes a durable group's checkpoints: when its log has grown by
// minCheckpointBytes and by four times the last checkpoint's size, so that
// checkpoints of a large backlog cost at most a quarter of the log's writes.
type keeper struct {
	log    *log.Log
	group  entry.GroupID
	node   *replicate.Node
	logger *slog.Logger
	// snapshot returns a writer of the state as it is now, to be used on
	// another goroutine while the state goes on.
	snapshot func() func(io.Writer) error

	// Owned by the loop.
	ready    *readyCheckpoint
	since    int64 // payload bytes applied since the last checkpoint
	size     int64 // of the last checkpoint
	at       entry.Position
	applied  entry.Position
	finished chan struct{} // closed when none is being written; nil before the first
}

// note counts an applied entry.
func (k *keeper) note(term, index uint64, size int) {
	k.applied = entry.Position{Term: term, Index: index}
	k.since += int64(size) + 64
}

// readyCheckpoint is a state that is to be written.
type readyCheckpoint struct {
	at    entry.Position
	write func(io.Writer) error
}

// turn takes a checkpoint when one is due, and writes it as soon as no mirror
// needs the log below it any more, within the bounds of KeepFrom: a mirror that
// lags is served from the log. l is the loop that owns k.
func (k *keeper) turn(l *loop) {
	if k.ready == nil && !k.busy() && k.since >= max(minCheckpointBytes, 4*k.size) {
		k.ready = &readyCheckpoint{k.applied, k.snapshot()}
		k.since = 0
	}
	if k.ready == nil || k.node.KeepFrom() < k.ready.at.Index {
		return
	}
	at, write := k.ready.at, k.ready.write
	k.ready = nil
	finished := make(chan struct{})
	k.finished = finished
	go func() {
		defer close(finished)
		size, err := k.write(at, write)
		if err != nil {
			k.logger.Error("checkpoint failed", "group", k.group, "at", at.String(), "err", err)
			return
		}
		l.call(func() {
			k.size, k.at = size, at
			k.node.Checkpointed(at)
		})
	}()
}

func (k *keeper) busy() bool {
	return k.finished != nil && !isClosed(k.finished)
}

// last writes a checkpoint of all that is applied, when there is something new.
// It is called after the loop has ended.
func (k *keeper) last() error {
	if k.finished != nil {
		<-k.finished
	}
	if k.since == 0 || k.applied == k.at {
		return nil
	}
	_, err := k.write(k.applied, k.snapshot())
	return err
}

func (k *keeper) write(at entry.Position, write func(io.Writer) error) (int64, error) {
	var count countingWriter
	err := k.log.Checkpoint(k.group, at, func(w io.Writer) error {
		count.w = w
		return write(&count)
	})
	return count.n, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
