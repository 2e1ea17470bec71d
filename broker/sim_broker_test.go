package broker

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/elect"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// simGroup is the group that has the queues.
const simGroup entry.GroupID = 1

// simBroker is a broker with its data, which outlives its processes.
type simBroker struct {
	s           *simulation
	name        string
	incarnation int
	disk        *simDisk
	process     *simProcess // nil while it is down
	// disturbed is when others last had reason to give up what it holds: one of
	// them lost it, it stood still, or ways to it were cut. bumpy is when a link
	// last lost something: that must cost nothing while the leader stays.
	disturbed, bumpy time.Duration
}

// simProcess is one life of a broker: the real thing but for its disk, network
// and clients.
type simProcess struct {
	s        *simulation
	of       *simBroker
	epoch    uint64
	started  time.Duration
	broker   *Broker
	group    *group
	bodies   *simBodies
	backbone *simBackbone
	loops    []*simLoop
	cancel   context.CancelFunc

	gatewayIDs []entry.GroupID
	up         map[string]bool          // peers
	heard      map[string]uint64        // their epochs
	last       map[string]time.Duration // when they were heard

	paused, stopping, dead bool
	since                  time.Duration // when it was paused
	stalled                []func()      // what happens once it is no longer paused
}

// simLoop drives one loop.
type simLoop struct {
	*loop
	scheduled bool
	wake      uint64 // of the elector: a later one replaces it
}

func newSimBroker(s *simulation, name string) *simBroker {
	b := &simBroker{s: s, name: name, incarnation: len(s.brokers) + 1}
	b.disk = newSimDisk(s, b)
	return b
}

func (s *simulation) broker(name string) *simBroker {
	return s.brokers[slices.IndexFunc(s.brokers, func(b *simBroker) bool { return b.name == name })]
}

// died reports whether a broker's process has died lately.
func (s *simulation) died(name string) bool {
	b := s.broker(name)
	return b.process == nil || s.now-b.process.started < 2*simSilence
}

// start begins a process.
func (b *simBroker) start() {
	s := b.s
	if b.process != nil {
		return
	}
	s.next++
	p := &simProcess{
		s: s, of: b, epoch: s.next, started: s.now,
		up: make(map[string]bool), heard: make(map[string]uint64), last: make(map[string]time.Duration),
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
		p.broker.cluster.refuseAgain()
	})
	p.every(simHelloInterval, p.backbone.hello)
	p.every(300*time.Millisecond, p.checkpoint)
	for _, l := range p.loops {
		l.rouse()
		p.every(tickInterval, func() {
			l.tick()
			l.rouse()
		})
	}
	if s.model.declared {
		p.populate()
	}
	p.rouse()
}

// open wires a broker as Start does, with what is played in the place of what is not.
func (p *simProcess) open() error {
	s := p.s
	names := make(map[string]string)
	for _, b := range s.brokers {
		names[b.name] = b.name
	}
	b := &Broker{
		config: Config{Name: p.of.name, Cluster: names, Groups: 1, AckQuorum: "majority", PublishTimeout: s.plan.timeout},
		logger: s.logger.With("broker", p.of.name), session: entry.SessionID(s.random.Uint64() | 1), boot: s.random.Uint64() | 1,
		groups: make(map[entry.GroupID]*group), counts: &counters{},
		gateways: make(map[entry.GroupID]*gateway), elections: make(map[entry.GroupID]*election),
		failedChannel: make(chan struct{}), failed: make(chan error, 1), pending: p.of.disk.pending,
	}
	// What the broker does beside its loops ends at once.
	b.context, p.cancel = context.WithCancel(context.Background())
	p.cancel()
	p.broker = b
	b.members = newMembers(b.config, 0)
	b.cluster = newCluster(b)
	b.cluster.now, b.cluster.jitter = s.clock, s.random.Float64
	for _, other := range s.brokers {
		b.cluster.mu.known[other.name] = uint64(other.incarnation)
	}
	p.backbone = newSimBackbone(s.network, p)
	b.cluster.backbone = p.backbone
	b.openGateways()
	p.gatewayIDs = slices.Sorted(maps.Keys(b.gateways))
	for _, w := range b.gateways {
		w.now = s.clock
	}
	return p.openGroups()
}

func (p *simProcess) openGroups() error {
	b, disk := p.broker, p.of.disk
	state, machine := topology.New(), queue.NewMachine()
	if l := simLogOf(disk.seen, simGroup); l.checkpoint != nil {
		var err error
		if machine, err = queue.Restore(bytes.NewReader(l.checkpoint)); err != nil {
			return err
		}
	}
	var err error
	l := b.makeTopology(state)
	p.drive(l)
	if b.topology.node, b.topology.keep, err = b.join(l, entry.Topology, simGroupLog{disk}, origin{}); err != nil {
		return err
	}
	p.elects(entry.Topology)

	g := b.makeGroup(simGroup, "queues", machine)
	p.group = g
	p.drive(g.loop)
	g.orphaned = func(_ entry.QueueID, then func()) { then() }
	from := origin{at: simLogOf(disk.seen, simGroup).floor}
	if g.node, _, err = b.join(g.loop, simGroup, simGroupLog{disk}, from); err != nil {
		return err
	}
	p.elects(simGroup)
	p.bodies = &simBodies{process: p, group: simGroup, ring: g.node.Ring(), released: make(map[uint64]bool)}
	p.bodies.retain(machine.Live)
	g.bodies = p.bodies
	g.loop.machine = &simMachine{group: g, p: p}
	return nil
}

// drive has a loop run in virtual time.
func (p *simProcess) drive(l *loop) {
	l.now = p.s.clock
	p.loops = append(p.loops, &simLoop{loop: l})
}

// elects has the elector of the last loop wake it in virtual time.
func (p *simProcess) elects(id entry.GroupID) {
	l := p.loops[len(p.loops)-1]
	p.broker.elections[id].rouseIn(time.Hour * 1000)
	p.broker.elections[id].rouseIn = func(d time.Duration) bool {
		l.wake++
		wake := l.wake
		p.later(d, func() {
			if wake == l.wake {
				l.rouse()
			}
		})
		return true
	}
	_, t := p.broker.attendance(id)
	t.transfer = p.broker.elections[id].transferTo
}

// handle does something on this process now, or once it is no longer paused.
func (p *simProcess) handle(do func()) {
	switch {
	case p.dead:
	case p.paused:
		p.stalled = append(p.stalled, do)
	default:
		do()
		p.rouse()
	}
}

// later does something on this process after a time.
func (p *simProcess) later(d time.Duration, do func()) { p.s.after(d, func() { p.handle(do) }) }

// every does something again and again.
func (p *simProcess) every(d time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		p.later(d, again)
	}
	p.later(p.s.between(0, d), again)
}

// rouse schedules a round of each loop that was roused.
func (p *simProcess) rouse() {
	for _, l := range p.loops {
		if l.scheduled {
			continue
		}
		select {
		case <-l.loop.wake:
		default:
			continue
		}
		l.scheduled = true
		p.later(p.s.between(0, 100*time.Microsecond), func() { p.round(l) })
	}
	if !p.dead && isClosed(p.broker.failedChannel) {
		if !p.of.disk.broken {
			p.s.fatalf("%s fails: %v", p.of.name, p.broker.failure)
		}
		p.of.crash()
	}
}

func (p *simProcess) round(l *simLoop) {
	l.scheduled = false
	if l.round() {
		l.rouse()
	}
	p.s.model.watch(p)
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
	p.dead = true
	b.disk.crash()
	b.process = nil
	b.disturbed = s.now
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
	p.paused, p.since = true, p.s.now
	p.s.troubled = p.s.now + d
	p.of.disturbed = p.s.now
	p.s.after(d, func() { p.resume(d) })
}

func (p *simProcess) resume(d time.Duration) {
	if p.dead || !p.paused {
		return
	}
	p.s.tell("resume %s", p.of.name)
	p.paused = false
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

// stop is a planned stop: leadership is handed over first.
func (p *simProcess) stop() {
	s := p.s
	s.tell("stop %s", p.of.name)
	s.counts.stops++
	p.stopping = true
	for _, id := range []entry.GroupID{entry.Topology, simGroup} {
		e := p.broker.elections[id]
		e.loop.call(func() { e.elector.HandOver(s.clock()) })
	}
	deadline := s.now + handOverTime
	var wait func()
	wait = func() {
		for _, id := range []entry.GroupID{entry.Topology, simGroup} {
			e := p.broker.elections[id]
			if s.now < deadline && !e.elector.Handed() && e.elector.HasHeirs() {
				p.later(handOverPoll, wait)
				return
			}
		}
		p.leave()
	}
	p.later(handOverPoll, wait)
}

// leave is the rest of a planned stop: the clients are closed, and what they
// handed in is waited for.
func (p *simProcess) leave() {
	s := p.s
	for _, c := range slices.Clone(s.clients) {
		if c.on() == p {
			c.close()
		}
	}
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		for _, l := range p.loops {
			l.end(errStopping)
		}
		for _, id := range p.gatewayIDs {
			p.broker.gateways[id].stop(errStopping)
		}
		s.tell("stopped %s", p.of.name)
		p.of.end()
	}
	p.broker.gateways[simGroup].submit(&submission{ops: takeOps(), done: func(outcome) { p.later(0, end) }})
	p.later(2*time.Second, end)
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

// checkpoint takes one as far as the mirrors allow.
func (p *simProcess) checkpoint() {
	g := p.group
	if p.s.random.IntN(4) > 0 || g.err != nil || g.node.Err() != nil {
		return
	}
	at := g.node.Status().Applied
	if at.Index != g.state.Applied() || at.Index > g.node.KeepFrom() {
		return
	}
	var b bytes.Buffer
	if err := g.state.Checkpoint(&b); err != nil {
		p.s.fatalf("%s: checkpoint: %v", p.of.name, err)
	}
	p.later(p.s.between(time.Millisecond, 50*time.Millisecond), func() {
		p.of.disk.raise(simGroup, at, b.Bytes())
		p.group.call(func() { g.node.Checkpointed(simLogOf(p.of.disk.seen, simGroup).floor) })
	})
}

// simMachine holds what a group does against the model.
type simMachine struct {
	*group
	p *simProcess
}

func (m *simMachine) apply(term, index uint64, payload []byte) error {
	m.p.s.model.committed(m.p, term, index, payload)
	if err := m.group.apply(term, index, payload); err != nil {
		return err
	}
	m.p.s.model.applied(m.p, index)
	return nil
}

func (m *simMachine) lead(term uint64) {
	m.p.s.model.leads(m.p, term)
	m.group.lead(term)
}
