package broker

import (
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// submission is what is handed to a group at one time: ops that were encoded
// with queue.Append…, in the order in which they must be applied.
type submission struct {
	// ops belongs to the group once submitted. Take the buffer from takeOps;
	// it is given back for you.
	ops []byte
	// quorum says when it is confirmed; weak that this is before its commit.
	quorum replicate.Quorum
	weak   bool
	// done is called once, on a goroutine of the broker, when the ops are
	// committed and applied and their ack quorum holds, or when they are refused;
	// where the quorum is weak, when it holds. It must not block.
	done func(outcome)
	// early, between a loop and a gateway, is told in place of done that a weak
	// quorum holds: at most once, and done follows.
	early func()

	// lasting says that it holds acks, or that nobody is told of its end: it
	// waits for a leader as long as it takes. awaited says that its publishes
	// are confirmed.
	lasting, awaited bool

	// settled are the messages that its ops settle or return, and who has them:
	// the gateway passes them on together, so that whatever happens between, a
	// leader knows of the one or of the other.
	settled []settledNote

	// session and seq make it idempotent: set by the gateway.
	session entry.SessionID
	seq     uint64
	// kept says that the gateway keeps ops, for the next leader.
	kept bool
	// after is the loop's: what waits for the end of this.
	after []func()
}

// settledNote says that a holder is done with messages.
type settledNote struct {
	holder queue.HolderID
	queue  entry.QueueID
	ranges []entry.Range
}

// proposed is told when the ops are copied into an entry.
func (s *submission) proposed() {
	if !s.kept {
		giveOps(s.ops)
	}
	s.ops = nil
}

// finish tells the submitter and whoever waits for the submission's end.
func (s *submission) finish(o outcome) {
	if s.done != nil {
		s.done(o)
	}
	s.runAfter()
}

func (s *submission) runAfter() {
	after := s.after
	s.after = nil
	for _, f := range after {
		f()
	}
}

// outcome is what became of a submission.
type outcome struct {
	// err is set when the submission was refused as a whole: the broker
	// stops, or the log failed. Its publishes are to be nacked.
	err error
	// ops lists only those ops that have something to say. It is valid during
	// the call.
	ops []queue.OpResult
	// topology is the same for a submission to the topology group.
	topology []topology.OpResult
	// index is the entry that it was applied with; 0 if it was not.
	index uint64
}

func (o outcome) clone() outcome {
	o.ops, o.topology = slices.Clone(o.ops), slices.Clone(o.topology)
	return o
}
