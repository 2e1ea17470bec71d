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

func newSimBackbone(n *simNetwork, p *simProcess) *simBackbone {
	b := &simBackbone{simNetwork: n, p: p, out: make(map[simLinkKey]*simOut), in: make(map[simLinkKey]*simIn)}
	for _, other := range n.s.brokers {
		if other == p.of {
			continue
		}
		for _, class := range []backbone.Class{backbone.Replication, backbone.Gateway, backbone.Transfer} {
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
	// Who lives, and did not stand still, is not to blame.
	there, here := b.s.stood(name), b.s.stood(b.p.of.name)
	if there || !here {
		b.s.broker(name).disturbed = b.s.now
	}
	if here || !there && !b.s.died(name) {
		b.p.of.disturbed = b.s.now
	}
	switch {
	case here || there:
		b.s.paused = b.s.now
	case !b.s.died(name):
		b.s.troubled = b.s.now
	}
}

// Send implements carrier.
func (b *simBackbone) Send(_ backbone.Class, to string, payload []byte) error {
	b.enter()
	defer b.s.besides()
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

// enter begins a call, by a loop or beside them: nothing of a process that stands
// still gets out.
func (b *simBackbone) enter() {
	for b.p.paused && !b.p.dead {
		<-b.p.resumed
	}
	b.s.beside()
}

// Leave implements carrier.
func (b *simBackbone) Leave(context.Context) error { return nil }

// Close implements carrier.
func (b *simBackbone) Close() error { return nil }
