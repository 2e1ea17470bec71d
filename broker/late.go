package broker

import (
	"time"

	"github.com/mirrormq/mirrormq/replicate"
)

// late is a committed submission whose quorum asks for more disks.
type late struct {
	sent
	outcome outcome
	since   time.Time
}

// lateQueue is those of one quorum, in the order of their entries.
type lateQueue struct {
	quorum  replicate.Quorum
	waiting []late
}

// lateQueues are those of a group, one for each quorum in use. Owned by the
// loop.
type lateQueues []lateQueue

func (qs *lateQueues) add(w late) {
	for i := range *qs {
		if q := &(*qs)[i]; q.quorum == w.submission.quorum {
			q.waiting = append(q.waiting, w)
			return
		}
	}
	*qs = append(*qs, lateQueue{w.submission.quorum, []late{w}})
}

// confirm ends those whose quorum holds, by the index up to which confirmed says
// that it does. O(quorums in use + ended).
func (qs lateQueues) confirm(confirmed func(replicate.Quorum) uint64) {
	for i := range qs {
		q := &qs[i]
		if len(q.waiting) == 0 {
			continue
		}
		for index := confirmed(q.quorum); len(q.waiting) > 0 && q.waiting[0].index <= index; {
			w := q.take()
			w.submission.finish(w.outcome)
		}
	}
}

// expire refuses those that are late since before a time: whoever submitted
// them has given them up by then.
func (qs lateQueues) expire(before time.Time) {
	for i := range qs {
		for q := &qs[i]; len(q.waiting) > 0 && q.waiting[0].since.Before(before); {
			q.take().submission.finish(outcome{err: errPublishTimeout})
		}
	}
}

// refuse refuses all.
func (qs lateQueues) refuse(err error) {
	for i := range qs {
		for q := &qs[i]; len(q.waiting) > 0; {
			q.take().submission.finish(outcome{err: err})
		}
	}
}

// take takes the first out. REQUIRES: there is one.
func (q *lateQueue) take() late {
	w := q.waiting[0]
	q.waiting[0] = late{}
	if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return w
}
