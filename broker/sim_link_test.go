package broker

import (
	"bytes"
	"fmt"
	"time"

	"github.com/mirrormq/mirrormq/internal/backbone"
)

// simLinkKey is a class of links to, or from, a broker.
type simLinkKey struct {
	class backbone.Class
	name  string
}

// simOut is the sending end of a link.
type simOut struct {
	to                      *simBroker
	life, written, received uint64
	used, held, down, open  bool
	progress                time.Duration
	arrives                 time.Duration // of the frame before
	fullUntil               time.Duration
	// consumed is how many of written were given back, of the Transfer class;
	// refused says that there was no room.
	consumed, queued uint64
	refused          bool
}

// simIn is the receiving end.
type simIn struct {
	epoch, life, next uint64
	broken            bool
	consumed          uint64
}

// renew ends a link's life.
func (b *simBackbone) renew(key simLinkKey, down bool) {
	l := b.out[key]
	tell := l.used
	l.life++
	l.written, l.received, l.used, l.open, l.down, l.progress = 0, 0, false, false, down, b.s.now
	l.consumed, l.queued, l.refused = 0, 0, false
	l.held = l.held || tell && key.class == backbone.Gateway
	if !down {
		b.frame(key, l, l.life, 0, nil)
	}
	if tell {
		b.s.tell("%s: link %v to %s is broken", b.p.of.name, key.class, key.name)
		b.bump(key.name)
		b.p.broker.cluster.LinkBroken(key.class, key.name)
	}
}

// tend asks after what was sent and did not arrive.
func (b *simBackbone) tend(key simLinkKey, l *simOut) {
	b.credited(key, l, l.consumed)
	owed := key.class == backbone.Transfer && l.consumed < l.written
	if l.down || l.received >= l.written && l.open && !owed {
		return
	}
	s := b.s
	if s.now-l.progress > simLost && (l.received < l.written || !l.open) {
		b.renew(key, false)
		return
	}
	if s.now-l.progress < 60*time.Millisecond {
		return
	}
	if !l.open {
		b.frame(key, l, l.life, 0, nil)
		return
	}
	life, written, epoch := l.life, l.written, b.p.epoch
	at := max(l.arrives-s.now, 0)
	s.after(at, func() { // behind the data
		b.gram(b.p, l.to, func(to *simProcess) {
			in := to.backbone.in[simLinkKey{key.class, b.p.of.name}]
			switch {
			case in.epoch != epoch || in.life < life || in.life == life && (in.broken || written >= in.next):
				if in.epoch == epoch && in.life == life {
					in.broken = true
				}
				to.backbone.gap(key.class, b.p, life)
			case in.life == life:
				to.backbone.ack(key.class, b.p, life, in.next-1)
			}
		})
	})
}

// frame sends message number of a life, or opens the life where that is 0.
func (b *simBackbone) frame(key simLinkKey, l *simOut, life, number uint64, payload []byte) {
	s := b.s
	p, to := b.p, l.to
	l.arrives = max(l.arrives+1, s.now+b.delay())
	lost := b.cut[[2]string{p.of.name, to.name}]
	if number > 0 && !s.calm && s.chance(s.plan.lose) {
		s.tell("a frame from %s to %s is lost", p.of.name, to.name)
		s.counts.lost++
		lost = true
	}
	if lost {
		return
	}
	arrive := l.arrives
	s.after(arrive-s.now, func() {
		if q := to.process; q != nil && !b.cut[[2]string{p.of.name, to.name}] {
			q.handle(func() { q.backbone.arrives(p, key.class, life, number, payload) })
		}
	})
}

// arrives takes a frame.
func (b *simBackbone) arrives(from *simProcess, class backbone.Class, life, number uint64, payload []byte) {
	l := b.in[simLinkKey{class, from.of.name}]
	if number == 0 {
		if l.epoch > from.epoch || l.epoch == from.epoch && life < l.life {
			return
		}
		reset := false
		if l.epoch != from.epoch || l.life != life {
			reset = l.life != 0
			*l = simIn{epoch: from.epoch, life: life, next: 1}
		}
		b.ack(class, from, life, l.next-1)
		if reset {
			b.s.tell("%s: link %v from %s is reset", b.p.of.name, class, from.of.name)
			b.bump(from.of.name)
			b.p.broker.cluster.LinkReset(class, from.of.name)
		}
		return
	}
	switch {
	case l.epoch != from.epoch || l.life < life:
		b.gap(class, from, life)
		return
	case l.life > life || l.broken:
		return
	case l.next != number:
		l.broken = true
		b.gap(class, from, life)
		return
	}
	l.next++
	b.ack(class, from, life, number)
	b.p.broker.cluster.Message(class, from.of.name, payload)
}

// ack tells the sender how much has arrived.
func (b *simBackbone) ack(class backbone.Class, to *simProcess, life, number uint64) {
	key := simLinkKey{class, b.p.of.name}
	consumed := b.in[simLinkKey{class, to.of.name}].consumed
	b.gram(b.p, to.of, func(p *simProcess) {
		if l := p.backbone.out[key]; p == to && l.life == life && !l.down {
			if number > l.received || !l.open {
				l.received, l.progress, l.open = max(number, l.received), b.s.now, true
			}
			p.backbone.credited(key, l, consumed)
		}
	})
}

// gap tells the sender that a life is over.
func (b *simBackbone) gap(class backbone.Class, to *simProcess, life uint64) {
	key := simLinkKey{class, b.p.of.name}
	b.gram(b.p, to.of, func(p *simProcess) {
		if l := p.backbone.out[key]; p == to && l.life == life && !l.down && l.open {
			p.backbone.renew(key, false)
		}
	})
}

// SendLink implements carrier.
func (b *simBackbone) SendLink(c backbone.Class, to []string, payload ...[]byte) error {
	b.enter()
	defer b.s.besides()
	joined := bytes.Join(payload, nil)
	var failed backbone.SendError
	if b.p.dead {
		to = nil
		failed.Refusals = append(failed.Refusals, backbone.Refusal{Err: backbone.ErrDown})
	}
	for _, name := range to {
		key := simLinkKey{c, name}
		if err := b.admit(key); err != nil {
			failed.Refusals = append(failed.Refusals, backbone.Refusal{To: name, Err: err})
			continue
		}
		l := b.out[key]
		if c == backbone.Transfer {
			b.post(key, l, bytes.Clone(joined))
			continue
		}
		if l.received == l.written {
			l.progress = b.s.now
		}
		l.used = true
		l.written++
		b.frame(key, l, l.life, l.written, bytes.Clone(joined))
	}
	if len(failed.Refusals) > 0 {
		return &failed
	}
	return nil
}

// post sends a message of a transfer before the next event.
func (b *simBackbone) post(key simLinkKey, l *simOut, payload []byte) {
	life := l.life
	l.queued++
	b.s.posted.post(fmt.Sprint(b.p.of.name, payload[:min(10, len(payload))]), func() {
		if b.p.dead || l.down || l.life != life {
			return
		}
		if l.received == l.written {
			l.progress = b.s.now
		}
		l.queued--
		l.used = true
		l.written++
		b.frame(key, l, life, l.written, payload)
	})
}

// simWindow is how many messages of a transfer may be on their way.
const simWindow = 3

func (b *simBackbone) admit(key simLinkKey) error {
	s, l := b.s, b.out[key]
	switch {
	case l.down:
		return backbone.ErrDown
	case l.held:
		return backbone.ErrHeld
	case !l.open, key.class == backbone.Transfer && l.written+l.queued-l.consumed >= simWindow:
		l.refused = true
		return backbone.ErrFull
	}
	if !s.calm && key.class != backbone.Transfer && s.now >= l.fullUntil && s.chance(s.plan.full) {
		s.counts.full++
		l.fullUntil = s.now + s.between(0, 100*time.Millisecond)
		s.tell("link from %s to %s is full", b.p.of.name, l.to.name)
		b.bump(l.to.name)
		s.after(l.fullUntil-s.now, func() { b.p.handle(func() { b.credited(key, l, 0) }) })
	}
	if s.now < l.fullUntil && !s.calm {
		l.refused = true
		return backbone.ErrFull
	}
	return nil
}

// Consumed implements carrier. Where there are no transfers credit is only played
// by refusals.
func (b *simBackbone) Consumed(c backbone.Class, from string, _ int) {
	if c != backbone.Transfer {
		return
	}
	b.s.posted.post(b.p.of.name+from, func() {
		if sender := b.s.broker(from).process; sender != nil && !b.p.dead {
			l := b.in[simLinkKey{c, from}]
			l.consumed++
			if l.epoch == sender.epoch {
				b.ack(c, sender, l.life, l.next-1)
			}
		}
	})
}

// credited takes what has been given back.
func (b *simBackbone) credited(key simLinkKey, l *simOut, consumed uint64) {
	l.consumed = max(l.consumed, min(consumed, l.written))
	room := key.class != backbone.Transfer || l.written+l.queued-l.consumed < simWindow
	if l.refused && l.open && room && b.s.now >= l.fullUntil {
		l.refused = false
		b.p.broker.cluster.LinkWritable(key.class, key.name)
	}
}

// Reopen implements carrier.
func (b *simBackbone) Reopen(c backbone.Class, to string) { b.out[simLinkKey{c, to}].held = false }

// Writable implements carrier.
func (b *simBackbone) Writable(c backbone.Class, to string, _ int) bool {
	b.enter()
	defer b.s.besides()
	return !b.p.dead && b.admit(simLinkKey{c, to}) == nil
}
