package broker

import (
	"cmp"
	"io"
	"log/slog"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/replicate"
)

// minCheckpointBytes is how much a group's log grows at least between two
// checkpoints: what a restart replays.
const minCheckpointBytes = 48 << 20

// checkpointLog is what checkpoints, written here or sent by another broker, need
// of the log.
type checkpointLog interface {
	Checkpoint(g entry.GroupID, at entry.Position, write func(io.Writer) error) error
	Refill(g entry.GroupID, entries []log.Entry, done func(error))
	LiveEntries(g entry.GroupID, after, upto uint64, fn func(index uint64) bool)
	ReadEntry(g entry.GroupID, index uint64, dst []byte) (log.Entry, error)
	Bounds(g entry.GroupID) (first, last entry.Position, ok bool)
	Floor(g entry.GroupID) entry.Position
	HardState(g entry.GroupID) (log.HardState, bool)
}

// keeper writes a durable group's checkpoints: when its log has grown by
// minCheckpointBytes and by four times the last checkpoint's size, so that
// checkpoints of a large backlog cost at most a quarter of the log's writes.
type keeper struct {
	log    checkpointLog
	group  entry.GroupID
	node   *replicate.Node
	logger *slog.Logger
	// snapshot returns a writer of the state as it is now, to be used on
	// another goroutine while the state goes on.
	snapshot func() func(io.Writer) error
	// restore reads a state at a position on another goroutine; adopt then puts
	// it in the place of the state machine.
	restore func(at entry.Position, r io.Reader) (adopt func(), err error)
	// installed is told when the log has taken what was adopted.
	installed func()
	// pace, if set, is told what is committed here.
	pace *pace
	// minBytes replaces minCheckpointBytes, in tests.
	minBytes int64

	// Owned by the loop.
	ready    *readyCheckpoint
	urged    bool  // a checkpoint is due whatever came since the last: the disk is full
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
	if k.pace != nil && k.node.Status().Role == replicate.Leader {
		k.pace.committed(size)
	}
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
	if k.ready == nil && !k.busy() && k.due() {
		k.urged = false
		k.ready = &readyCheckpoint{k.applied, k.state()}
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

// state returns a writer of a checkpoint of all that is applied.
func (k *keeper) state() func(io.Writer) error { return withMembers(k.node.Members(), k.snapshot()) }

// adopt follows raft to a checkpoint that another broker has sent. When it
// reports true, the state machine is the checkpoint's, and the caller writes it
// to the log and then closes written. Called on the loop l that owns k.
//
// Errors: replicate.ErrInstalling to try again soon; those of Node.Install.
func (k *keeper) adopt(l *loop, at entry.Position, members replicate.Members, adopt func(), written chan struct{}) (bool, error) {
	if l.err != nil {
		return false, l.err
	}
	if l.term != 0 || k.node.Status().Role == replicate.Leader || k.busy() {
		return false, replicate.ErrInstalling
	}
	adopted, err := k.node.Install(at, members)
	l.rouse()
	if adopted {
		adopt()
		k.applied, k.since, k.ready, k.finished = at, 0, nil, written
	}
	return adopted, err
}

func (k *keeper) due() bool {
	return k.urged && k.since > 0 || k.since >= max(cmp.Or(k.minBytes, minCheckpointBytes), 4*k.size)
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
	_, err := k.write(k.applied, k.state())
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
