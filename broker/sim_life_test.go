package broker

import (
	"context"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/elect"
)

// start begins a process.
func (b *simBroker) start() {
	s := b.s
	if b.process != nil {
		return
	}
	s.next++
	p := &simProcess{
		s: s, of: b, epoch: s.next, started: s.now,
		files: make(map[chan error]struct{}), up: make(map[string]bool), heard: make(map[string]uint64), last: make(map[string]time.Duration),
	}
	b.process = p
	b.disk.open()
	s.tell("start %s", b.name)
	if err := p.open(); err != nil {
		s.fatalf("%s does not start: %v", b.name, err)
	}
	p.every(tickInterval, func() {
		for _, id := range p.gatewayIDs {
			p.broker.gateways[id].tick()
		}
	})
	p.every(elect.BeatInterval, func() {
		p.broker.cluster.beat()
		p.broker.doubt.beat()
		p.broker.cluster.refuseAgain()
	})
	p.every(simHelloInterval, p.backbone.hello)
	for _, l := range p.loops {
		l.rouse()
		p.every(tickInterval, func() {
			l.tick()
			l.rouse()
		})
	}
	p.beside()
	p.rouse()
}

// beside begins what the broker does beside its loops.
func (p *simProcess) beside() {
	b := p.broker
	b.background.Go(func() { b.deadLetters.run(b.context) })
	b.background.Go(func() {
		if b.settle(b.context) != nil {
			return // It has died, or stops.
		}
		p.s.beside()
		defer p.s.besides()
		if p.dead || p.stopping {
			return
		}
		p.s.tell("%s serves", p.of.name)
		p.ready = true
		if p.s.populated {
			p.handle(p.populate)
		}
	})
}

// crash ends the process as kill -9 or a power failure does.
func (b *simBroker) crash() {
	p := b.process
	if p == nil {
		return
	}
	b.s.tell("crash %s", b.name)
	b.s.counts.crashes++
	b.end()
}

// end ends the process and lets the others know, as far as they can.
func (b *simBroker) end() {
	s, p := b.s, b.process
	p.die()
	b.process = nil
	b.disturbed, s.bumpy = s.now, s.now
	for _, c := range s.clients {
		if c.on() == p {
			c.died()
		}
	}
	s.clients = slices.DeleteFunc(s.clients, func(c simClient) bool { return c.on() == p })
	for _, other := range s.brokers {
		q := other.process
		if q == nil || s.network.cut[[2]string{b.name, other.name}] {
			continue // It finds out by the silence.
		}
		q.later(s.between(time.Millisecond, 30*time.Millisecond), func() {
			if q.heard[b.name] == p.epoch && q.up[b.name] {
				q.backbone.down(b.name, "the route is lost")
			}
		})
	}
	if s.calm {
		s.after(100*time.Millisecond, b.start)
	} else {
		s.after(s.between(50*time.Millisecond, s.between(100*time.Millisecond, 5*time.Second)), b.start)
	}
}

// pause is SIGSTOP and, later, SIGCONT.
func (p *simProcess) pause(d time.Duration) {
	p.s.tell("pause %s for %v", p.of.name, d)
	p.s.counts.pauses++
	p.paused, p.since, p.resumed = true, p.s.now, make(chan struct{})
	p.s.paused = p.s.now + d
	p.of.disturbed = p.s.now
	p.s.after(d, func() { p.resume(d) })
}

func (p *simProcess) resume(d time.Duration) {
	if p.dead || !p.paused {
		return
	}
	p.s.tell("resume %s", p.of.name)
	p.paused, p.went = false, p.s.now
	close(p.resumed)
	p.of.disturbed = p.s.now
	stalled := p.stalled
	p.stalled = nil
	// Nobody else is to blame for that time.
	for name := range p.last {
		p.last[name] += d
	}
	for _, key := range p.backbone.keys {
		p.backbone.out[key].progress += d
	}
	for i, do := range stalled {
		p.later(time.Duration(i)*time.Microsecond, do)
	}
}

// die ends all that the process does.
func (p *simProcess) die() {
	_, unclean := p.broker.cluster.history.Counts()
	p.s.counts.unclean += int(unclean)
	p.dead = true
	if p.paused {
		close(p.resumed)
	}
	p.of.disk.crash()
	for done := range p.files {
		done <- errSimDead
	}
	clear(p.files)
	p.broker.cancel()
	p.broker.cluster.catchup.cancel()
	for _, l := range p.loops {
		if !isClosed(l.done) {
			close(l.done)
		}
	}
}

// stopTime bounds a planned stop.
const stopTime = 4 * time.Second

// stop is a planned stop: leadership is handed over first, then the clients are
// closed, and what they handed in is waited for.
func (p *simProcess) stop() {
	s, b := p.s, p.broker
	s.tell("stop %s", p.of.name)
	s.counts.stops++
	p.stopping, s.bumpy = true, s.now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		context.AfterFunc(b.context, cancel)
		b.handOver(ctx)
		p.leave()
		if err := b.stop(ctx); err != nil && b.failure == nil && !p.dead && !p.of.disk.broken {
			s.t.Errorf("stop of %s: %v", p.of.name, err)
		}
		s.beside()
		defer s.besides()
		if !p.dead {
			s.tell("stopped %s", p.of.name)
			p.of.end()
		}
	}()
}

// leave closes the clients.
func (p *simProcess) leave() {
	p.s.beside()
	defer p.s.besides()
	for _, c := range slices.Clone(p.s.clients) {
		if c.on() == p {
			c.close()
		}
	}
}

// heal brings a broker back.
func (b *simBroker) heal() {
	b.disk.stalled = 0
	if p := b.process; p != nil {
		if p.paused {
			p.resume(b.s.now - p.since)
		}
		if b.disk.broken {
			b.crash()
		}
	}
	b.s.after(100*time.Millisecond, b.start)
}
