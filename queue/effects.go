package queue

import "github.com/mirrormq/mirrormq/internal/entry"

// Effects is what one entry did, for the broker to act upon. Apply fills it
// from empty; its memory is reused by the next Apply, and so is all that its
// slices point to.
type Effects struct {
	// Results has one Result per submission, in order.
	Results []Result
	// Touched names each queue once whose messages changed, in order of the
	// first change. A deleted queue may be among them.
	Touched []entry.QueueID
	// Expiring names each queue once that got messages that expire.
	Expiring []entry.QueueID
	// Created and Deleted name queues that were made or removed.
	Created, Deleted []entry.QueueID
	// Released has the indexes of entries that no message needs any more,
	// possibly the applied one itself.
	Released []uint64
	// Settled and Returned are the ops as they came: ids that were gone
	// before are among them.
	Settled, Returned []Change
	// Purged has the purges.
	Purged []Purged
	// Dropped counts the publishes that were there already, by their producer's
	// numbers, and TooOld has those that were refused for being too far down.
	Dropped int
	TooOld  []Numbered

	ops    []OpResult
	ranges []entry.Range
}

// Result is the outcome of one submission.
type Result struct {
	Session   entry.SessionID
	Seq       uint64
	Duplicate bool       // seen before, nothing was done; Ops has only what is too old
	Ops       []OpResult // only of ops that have something to say
}

// OpResult is the outcome of one op that has something to say.
type OpResult struct {
	Op   int  // which of the submission's ops, from 0
	Kind Kind // its kind
	Code Code
	N    uint64 // messages purged or deleted; with NotEmpty, those there are; with TooOld, the highest sequence
}

// Code is the outcome of a Create, Delete or Purge, or of a publish that is
// refused.
type Code uint8

// The outcomes. A Create that is OK has no OpResult, nor has an enqueue.
const (
	OK       Code = iota
	Exists        // Create: the queue is there, and stays as it is
	NoQueue       // Delete, Purge: there is no such queue
	NotEmpty      // Delete if empty: it is not
	TooOld        // Enqueue of a producer: too far below its highest sequence to tell
)

// String is the code's name.
func (c Code) String() string {
	names := [...]string{"ok", "exists", "no-queue", "not-empty", "too-old"}
	if int(c) < len(names) {
		return names[c]
	}
	return "invalid"
}

// Change is messages of one queue.
type Change struct {
	Queue  entry.QueueID
	Ranges []entry.Range
}

// Purged is a purge: all messages up to UpTo but Except.
type Purged struct {
	Queue  entry.QueueID
	UpTo   entry.MessageID
	Except []entry.Range
}

// Numbered is a publish that its producer numbered, and the highest number that
// the producer has come to.
type Numbered struct {
	Vhost, Producer   string
	Sequence, Highest uint64
}

// Reset empties it and keeps its memory, unless one large entry made it so
// large that keeping it would cost more than making it again.
func (fx *Effects) Reset() {
	const keep = 1 << 16
	if cap(fx.ranges) > keep || cap(fx.Released) > keep || cap(fx.Results) > keep || cap(fx.TooOld) > keep {
		*fx = Effects{}
		return
	}
	fx.Results, fx.Touched = fx.Results[:0], fx.Touched[:0]
	fx.Expiring, fx.Created, fx.Deleted = fx.Expiring[:0], fx.Created[:0], fx.Deleted[:0]
	fx.Released = fx.Released[:0]
	fx.Settled, fx.Returned, fx.Purged = fx.Settled[:0], fx.Returned[:0], fx.Purged[:0]
	fx.Dropped, fx.TooOld = 0, fx.TooOld[:0]
	fx.ops, fx.ranges = fx.ops[:0], fx.ranges[:0]
}

// keep copies ranges, which live in the decoder's buffer. An append that moves
// fx.ranges leaves earlier copies where they were, intact.
func (fx *Effects) keep(ranges []entry.Range) []entry.Range {
	start := len(fx.ranges)
	fx.ranges = append(fx.ranges, ranges...)
	return fx.ranges[start:len(fx.ranges):len(fx.ranges)]
}
