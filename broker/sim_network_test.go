package broker

import (
	"bytes"
	"context"
	"time"

	"github.com/mirrormq/mirrormq/internal/backbone"
)

// simNetwork is the backbone of all brokers: what Handler and the documentation
// of internal/backbone promise, and nothing more.
type simNetwork struct {
	s   *simulation
	cut map[[2]string]bool // from, to
}

func newSimNetwork(s *simulation) *simNetwork {
	return &simNetwork{s: s, cut: make(map[[2]string]bool)}
}

const (
	simHelloInterval = 100 * time.Millisecond
	simSilence       = time.Second
	simLost          = 2 * time.Second // of probing in vain
)

func (n *simNetwork) heal() { clear(n.cut) }

// trouble cuts a broker off, some ways between it and others, or heals all.
func (n *simNetwork) trouble(b *simBroker) {
	s := n.s
	if len(n.cut) > 0 && s.chance(2) {
		s.tell("network heals")
		n.heal()
		return
	}
	s.counts.cuts++
	kind := s.random.IntN(4)
	s.tell("cut %s %d", b.name, kind)
	for _, other := range s.brokers {
		if other == b {
			continue
		}
		if kind < 2 || s.chance(2) {
			if kind != 1 {
				n.cut[[2]string{b.name, other.name}] = true
			}
			if kind != 2 {
				n.cut[[2]string{other.name, b.name}] = true
			}
		}
	}
	for _, other := range s.brokers {
		other.disturbed = s.now
	}
	s.troubled = s.now
}

func (n *simNetwork) delay() time.Duration {
	d := n.s.between(50*time.Microsecond, n.s.plan.slow)
	if !n.s.calm && n.s.chance(500) {
		d += n.s.between(0, 100*time.Millisecond)
	}
	return d
}

// gram carries something that may be lost.
func (n *simNetwork) gram(from *simProcess, to *simBroker, do func(*simProcess)) {
	s := n.s
	lost := n.cut[[2]string{from.of.name, to.name}] || !s.calm && s.chance(s.plan.drop)
	if lost {
		return
	}
	s.after(n.delay(), func() {
		if p := to.process; p != nil && !n.cut[[2]string{from.of.name, to.name}] {
			p.handle(func() { do(p) })
		}
	})
}

// simBackbone is the backbone of one process. It implements carrier.
type simBackbone struct {
	*simNetwork
	p    *simProcess
	out  map[simLinkKey]*simOut
	in   map[simLinkKey]*simIn
	keys []simLinkKey
}

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
}

// simIn is the receiving end.
type simIn struct {
	epoch, life, next uint64
	broken            bool
}

func newSimBackbone(n *simNetwork, p *simProcess) *simBackbone {
	b := &simBackbone{simNetwork: n, p: p, out: make(map[simLinkKey]*simOut), in: make(map[simLinkKey]*simIn)}
	for _, other := range n.s.brokers {
		if other == p.of {
			continue
		}
		for _, class := range []backbone.Class{backbone.Replication, backbone.Gateway} {
			key := simLinkKey{class, other.name}
			b.keys = append(b.keys, key)
			b.out[key] = &simOut{to: other, down: true}
			b.in[key] = &simIn{}
		}
	}
	return b
}

// hello tells the others that this process is there, and looks after the links.
func (b *simBackbone) hello() {
	s, p := b.s, b.p
	for _, other := range s.brokers {
		if other == p.of {
			continue
		}
		heard := p.heard[other.name]
		b.gram(p, other, func(to *simProcess) { to.backbone.hearsHello(p, heard) })
		if p.up[other.name] && s.now-p.last[other.name] > simSilence {
			b.down(other.name, "silence")
		}
	}
	for _, key := range b.keys {
		b.tend(key, b.out[key])
	}
}

// hearsHello takes a hello of a process that has heard of one with that epoch.
func (b *simBackbone) hearsHello(from *simProcess, heard uint64) {
	p, name := b.p, from.of.name
	if p.heard[name] > from.epoch {
		return
	}
	known := p.heard[name] == from.epoch
	if !known && p.up[name] {
		b.down(name, "it was restarted")
	}
	p.heard[name], p.last[name] = from.epoch, b.s.now
	switch {
	case heard == p.epoch && !p.up[name]:
		b.up(from)
	case heard != p.epoch && p.up[name]:
		b.down(name, "it lost us")
	}
}

func (b *simBackbone) up(from *simProcess) {
	name := from.of.name
	b.s.tell("%s sees %s", b.p.of.name, name)
	b.p.up[name] = true
	for _, key := range b.keys {
		if key.name == name {
			b.renew(key, false)
		}
	}
	b.p.broker.cluster.PeerUp(name, uint64(from.of.incarnation))
}

func (b *simBackbone) down(name, why string) {
	b.s.tell("%s loses %s: %s", b.p.of.name, name, why)
	b.p.up[name], b.p.heard[name] = false, 0
	b.disturb(name)
	for _, key := range b.keys {
		if key.name == name {
			b.renew(key, true)
		}
	}
	b.p.broker.cluster.PeerDown(name)
}

// bump notes that a link to or from another broker, which may live, lost something.
func (b *simBackbone) bump(name string) {
	b.s.broker(name).bumpy, b.p.of.bumpy, b.s.bumpy = b.s.now, b.s.now, b.s.now
}

// disturb notes that one broker lost another.
func (b *simBackbone) disturb(name string) {
	b.s.broker(name).disturbed = b.s.now
	if !b.s.died(name) { // else who lives is not to blame
		b.p.of.disturbed, b.s.troubled = b.s.now, b.s.now
	}
}

// renew ends a link's life.
func (b *simBackbone) renew(key simLinkKey, down bool) {
	l := b.out[key]
	tell := l.used
	l.life++
	l.written, l.received, l.used, l.open, l.down, l.progress = 0, 0, false, false, down, b.s.now
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
	if l.down || l.received >= l.written && l.open {
		return
	}
	s := b.s
	if s.now-l.progress > simLost {
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
	b.gram(b.p, to.of, func(p *simProcess) {
		if l := p.backbone.out[key]; p == to && l.life == life && !l.down {
			opens := !l.open
			if number > l.received || opens {
				l.received, l.progress, l.open = max(number, l.received), b.s.now, true
			}
			if opens {
				p.broker.cluster.LinkWritable(class, key.name)
			}
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

// Send implements carrier.
func (b *simBackbone) Send(_ backbone.Class, to string, payload []byte) error {
	if !b.p.up[to] {
		return backbone.ErrDown
	}
	payload = bytes.Clone(payload)
	from := b.p.of.name
	b.gram(b.p, b.s.broker(to), func(p *simProcess) { p.broker.cluster.Datagram(backbone.Beats, from, bytes.Clone(payload)) })
	return nil
}

// Broadcast implements carrier.
func (b *simBackbone) Broadcast(c backbone.Class, payload []byte) error {
	for _, other := range b.s.brokers {
		if b.p.up[other.name] {
			_ = b.Send(c, other.name, payload)
		}
	}
	return nil
}

// SendLink implements carrier.
func (b *simBackbone) SendLink(c backbone.Class, to []string, payload ...[]byte) error {
	joined := bytes.Join(payload, nil)
	var failed backbone.SendError
	for _, name := range to {
		key := simLinkKey{c, name}
		if err := b.admit(key); err != nil {
			failed.Refusals = append(failed.Refusals, backbone.Refusal{To: name, Err: err})
			continue
		}
		l := b.out[key]
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

func (b *simBackbone) admit(key simLinkKey) error {
	s, l := b.s, b.out[key]
	switch {
	case l.down:
		return backbone.ErrDown
	case l.held:
		return backbone.ErrHeld
	case !l.open:
		return backbone.ErrFull
	}
	if !s.calm && s.now >= l.fullUntil && s.chance(s.plan.full) {
		s.counts.full++
		l.fullUntil = s.now + s.between(0, 100*time.Millisecond)
		s.tell("link from %s to %s is full", b.p.of.name, l.to.name)
		b.bump(l.to.name)
		s.after(l.fullUntil-s.now, func() { b.p.handle(func() { b.p.broker.cluster.LinkWritable(key.class, key.name) }) })
	}
	if s.now < l.fullUntil && !s.calm {
		return backbone.ErrFull
	}
	return nil
}

// Consumed implements carrier.
func (b *simBackbone) Consumed(backbone.Class, string, int) {}

// Reopen implements carrier.
func (b *simBackbone) Reopen(c backbone.Class, to string) { b.out[simLinkKey{c, to}].held = false }

// Writable is always so: credit is only played by refusals.
func (b *simBackbone) Writable(backbone.Class, string, int) bool { return true }

// Leave implements carrier.
func (b *simBackbone) Leave(context.Context) error { return nil }

// Close implements carrier.
func (b *simBackbone) Close() error { return nil }
