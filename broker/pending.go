package broker

import "time"

const (
	// maxBatchBytes bounds one entry, unless a single submission is larger. A
	// cold read of one message reads its whole entry, so larger is not better.
	maxBatchBytes = 512 << 10
	// maxInFlight is how many entries may wait for their fsync. While they do,
	// what arrives gathers for the next batch: two keep the disk busy, more
	// would only make the batches smaller.
	maxInFlight = 2
	// ackPatience is how long acks alone wait for others to share an entry, and its
	// fsyncs on all mirrors, with; maxPatient is how many submissions of them do.
	ackPatience = 5 * time.Millisecond
	maxPatient  = 64
)

// submit takes a submission. Called on the loop's goroutine.
func (l *loop) submit(s *submission) {
	switch {
	case l.err != nil:
		s.finish(outcome{err: l.err})
	case l.term == 0:
		s.finish(outcome{err: errNotLeader})
	default:
		l.urgent = l.urgent || !s.patient
		if len(l.pending) == 0 && s.patient {
			l.patientSince = l.now()
			l.rouseIn(ackPatience)
		}
		l.pending = append(l.pending, s)
	}
}

// waits reports whether all that is pending can wait for company.
func (l *loop) waits() bool {
	return !l.urgent && len(l.pending) < maxPatient && l.now().Sub(l.patientSince) < ackPatience
}

// submitOwn takes ops of the group itself, which belong to no session.
func (l *loop) submitOwn(s *submission) {
	l.ownSeq++
	s.session, s.seq = 0, l.ownSeq
	l.submit(s)
	l.rouse()
}

// propose makes batches of what is pending while the order takes them, and
// reports whether it made one.
func (l *loop) propose() bool {
	proposed := false
	if l.waits() {
		return false
	}
	for l.term != 0 && len(l.pending) > 0 && l.order.inFlight() < maxInFlight {
		count, size := 0, 64
		for _, s := range l.pending {
			if count > 0 && size+len(s.ops)+32 > maxBatchBytes {
				break
			}
			count, size = count+1, size+len(s.ops)+32
		}
		payload := l.machine.appendBatch(l.batch(size), l.now().UnixNano())
		for _, s := range l.pending[:count] {
			payload = l.machine.appendSubmission(payload, s.session, s.seq, s.ops)
		}
		index, err := l.order.propose(payload)
		if err != nil {
			// Not leader any more, or too much is uncommitted: tried again at the
			// next tick or completion.
			return proposed
		}
		l.machine.proposed()
		for _, s := range l.pending[:count] {
			s.proposed()
			l.sent = append(l.sent, sent{index, s})
		}
		rest := copy(l.pending, l.pending[count:])
		clear(l.pending[rest:])
		l.pending = l.pending[:rest]
		l.urgent = rest > 0
		proposed = true
	}
	return proposed
}

// batch returns an empty buffer of a capacity, reused unless it is large.
func (l *loop) batch(size int) []byte {
	if size > maxBatchBytes {
		return make([]byte, 0, size)
	}
	if cap(l.spareBatch) < size {
		l.spareBatch = make([]byte, 0, max(size, 4<<10))
	}
	return l.spareBatch[:0]
}

// after runs f when all that was handed in before is applied or refused: at
// once when nothing is on its way. A client that publishes and then asks finds
// what it published. Called on the loop's goroutine.
func (l *loop) after(f func()) {
	var last *submission
	switch {
	case len(l.pending) > 0:
		last = l.pending[len(l.pending)-1]
		l.urgent = true
		l.rouse()
	case l.sentHead < len(l.sent):
		last = l.sent[len(l.sent)-1].submission
	default:
		f()
		return
	}
	last.after = append(last.after, f)
}
