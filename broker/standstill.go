package broker

import "time"

// standstill is how long a loop, which ticks more often, stands still when
// others may have elected a leader meanwhile: raft's election timeout.
const standstill = time.Second

// stoodStill reports whether the loop stood still until now for so long that
// this broker may be deposed without knowing, as after a SIGSTOP: then what waits
// is older than it looks.
func (l *loop) stoodStill(now time.Time) bool {
	stood := now.Sub(l.looked)
	if l.looked.IsZero() {
		stood = 0
	}
	if stood > maxStill && l.doubts && l.term != 0 {
		l.prove()
	}
	still := stood > standstill
	if still {
		l.logger.Warn("the group stood still", "group", l.name, "for", now.Sub(l.looked))
		l.order.paused()
	}
	l.looked = now
	return still
}

// prove has nothing given out, and nothing confirmed before its commit, until an
// entry is committed that was proposed after all that came before: so a majority
// still follows this leader.
func (l *loop) prove() {
	proof := &submission{ops: takeOps()}
	proof.done = func(o outcome) {
		if o.err == nil && l.proof == proof {
			l.proof = nil
			l.rouse()
		}
	}
	l.proof = proof
	l.submitOwn(proof)
}
