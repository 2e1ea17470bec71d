package backbone

import "time"

// retireFor is how long an epoch that is over is not believed again. Frames of
// a dead process may still come out of a buffer after its successor was heard;
// it ends so that a mistake does not last.
const retireFor = 5 * time.Second

// peer is what we know of another broker's life. It is pure: time is an
// argument, and it answers what changed.
type peer struct {
	up          bool
	epoch       uint64 // while up: the one that hears us
	incarnation uint64
	heardAt     time.Time // the last hello of epoch (while up) or of seen

	seen    uint64 // epoch of the last hello that we believed
	seenAt  time.Time
	retired []retirement
}

type retirement struct {
	epoch uint64
	until time.Time
}

// change is what a peer's event leads to, in this order.
type change struct{ down, up, answer bool }

func (p *peer) isRetired(epoch uint64, now time.Time) bool {
	for _, r := range p.retired {
		if r.epoch == epoch && now.Before(r.until) {
			return true
		}
	}
	return false
}

func (p *peer) retire(epoch uint64, now time.Time) {
	kept := p.retired[:0]
	for _, r := range p.retired {
		if now.Before(r.until) && len(kept) < 8 {
			kept = append(kept, r)
		}
	}
	p.retired = append(kept, retirement{epoch, now.Add(retireFor)})
}

// hello takes a hello of the peer. hearsUs: it has heard our epoch.
func (p *peer) hello(now time.Time, epoch, incarnation uint64, hearsUs bool) change {
	if p.isRetired(epoch, now) {
		return change{}
	}
	p.seen, p.seenAt = epoch, now
	switch {
	case hearsUs && p.up && epoch == p.epoch:
		p.heardAt = now
		return change{}
	case hearsUs:
		// Only a process that has heard us proves that it lives now; the hello
		// of another epoch alone may be a dead one's.
		replaced := p.up
		if replaced {
			p.retire(p.epoch, now)
		}
		p.up, p.epoch, p.incarnation, p.heardAt = true, epoch, incarnation, now
		return change{down: replaced, up: true, answer: true}
	case p.up && epoch == p.epoch:
		// It has lost us: what it sent since may be lost, and its links are new.
		p.up = false
		return change{down: true, answer: true}
	}
	return change{answer: true}
}

// leave takes an announced leave.
func (p *peer) leave(now time.Time, epoch uint64) change {
	p.retire(epoch, now)
	if p.seen == epoch {
		p.seen = 0
	}
	if !p.up || p.epoch != epoch {
		return change{}
	}
	p.up = false
	return change{down: true}
}

// unreachable takes the news that nobody gets what we send to the peer.
func (p *peer) unreachable() change {
	down := p.up
	p.up, p.seen = false, 0
	return change{down: down}
}

// tick checks for silence. late is how long we did not run ourselves.
func (p *peer) tick(now time.Time, late, silence time.Duration) change {
	p.heardAt, p.seenAt = p.heardAt.Add(late), p.seenAt.Add(late)
	if now.Sub(p.seenAt) > silence {
		p.seen = 0
	}
	if p.up && now.Sub(p.heardAt) > silence {
		p.up, p.seen = false, 0
		return change{down: true}
	}
	return change{}
}

// heard is what our hellos tell the peer: the epoch that we hear, or 0.
func (p *peer) heard() uint64 {
	if p.up {
		return p.epoch
	}
	return p.seen
}
