package broker

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"time"

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
	data        string // directory, for the files of checkpoints that come
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

	gatewayIDs []entry.GroupID
	up         map[string]bool          // peers
	heard      map[string]uint64        // their epochs
	last       map[string]time.Duration // when they were heard

	paused, stopping, ready, dead bool
	since, went                   time.Duration // when it was last paused, and went on
	stalled                       []func()      // what happens once it is no longer paused
	resumed                       chan struct{} // closed then
	// files are the checkpoints that are being written.
	files map[chan error]struct{}
}

// simLoop drives one loop.
type simLoop struct {
	*loop
	scheduled bool
	wake      uint64 // of the elector: a later one replaces it
}

func newSimBroker(s *simulation, name string) *simBroker {
	b := &simBroker{s: s, name: name, incarnation: len(s.brokers) + 1}
	if s.plan.checkpoint > 0 {
		b.data = s.t.TempDir()
	}
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

// stood reports whether a broker's process stands still, or did lately.
func (s *simulation) stood(name string) bool {
	p := s.broker(name).process
	return p != nil && (p.paused || p.went > 0 && s.now-p.went < 2*simSilence)
}

// open wires a broker as Start does, with what is played in the place of what is not.
func (p *simProcess) open() error {
	s := p.s
	names := make(map[string]string)
	for _, b := range s.brokers {
		names[b.name] = b.name
	}
	b := &Broker{
		config: Config{Name: p.of.name, Data: p.of.data, Cluster: names, Groups: 1, Copies: len(names), AckQuorum: s.plan.usual, PublishTimeout: s.plan.timeout},
		logger: s.logger.With("broker", p.of.name), session: entry.SessionID(randomID()), boot: randomID(),
		groups: make(map[entry.GroupID]*group), counts: &counters{},
		gateways: make(map[entry.GroupID]*gateway), elections: make(map[entry.GroupID]*election),
		failedChannel: make(chan struct{}), failed: make(chan error, 1), pending: p.of.disk.pending,
	}
	b.context, b.cancel = context.WithCancel(context.Background())
	b.keeps.live, b.keeps.absent, b.keeps.tail = s.plan.keep, s.plan.keep, s.plan.keep
	b.deadLetters = newDeadLetters(b)
	p.broker = b
	b.members = newMembers(b.config, 0)
	b.cluster, b.doubt = newCluster(b), newDoubt(time.Now)
	b.cluster.jitter = s.random.Float64
	for _, other := range s.brokers {
		b.cluster.mu.known[other.name] = uint64(other.incarnation)
	}
	p.backbone = newSimBackbone(s.network, p)
	b.cluster.backbone = p.backbone
	b.openGateways()
	p.gatewayIDs = slices.Sorted(maps.Keys(b.gateways))
	var err error
	if b.cluster.catchup, err = newCatchup(b.cluster); err != nil {
		return err
	}
	return p.openGroups()
}

func (p *simProcess) openGroups() error {
	b, log := p.broker, simGroupLog{p.of.disk}
	state, from, err := restoreSim(p, entry.Topology, topology.New, topology.Restore)
	if err != nil {
		return err
	}
	l := b.makeTopology(state)
	p.drive(l)
	if b.topology.node, b.topology.keep, err = b.join(l, entry.Topology, log, from); err != nil {
		return err
	}
	b.topology.keep.snapshot, b.topology.keep.restore = b.topology.snapshot, b.topology.restore
	p.elects(entry.Topology, b.topology.keep)

	machine, from, err := restoreSim(p, simGroup, queue.NewMachine, queue.Restore)
	if err != nil {
		return err
	}
	g := b.makeGroup(simGroup, "queues", machine)
	p.group = g
	p.drive(g.loop)
	if g.node, g.keep, err = b.join(g.loop, simGroup, log, from); err != nil {
		return err
	}
	p.bodies = &simBodies{process: p, group: simGroup, ring: g.node.Ring()}
	g.bodies = p.bodies
	g.keepWith(b)
	p.elects(simGroup, g.keep)
	g.loop.machine = &simMachine{group: g, p: p}

	b.openVolatile()
	p.drive(b.groups[b.members.volatileGroup(p.of.name)].loop)
	return nil
}

// restoreSim is restore.
func restoreSim[T any](p *simProcess, g entry.GroupID, fresh func() T, read func(io.Reader) (T, error)) (T, origin, error) {
	l := simLogOf(p.of.disk.seen, g)
	if l.checkpoint == nil {
		return fresh(), origin{}, nil
	}
	var none T
	members, in, err := readMembers(bytes.NewReader(l.checkpoint))
	if err != nil {
		return none, origin{}, err
	}
	state, err := read(in)
	return state, origin{l.floor, members}, err
}

// drive has a loop run in virtual time.
func (p *simProcess) drive(l *loop) {
	p.loops = append(p.loops, &simLoop{loop: l})
}

// elects has the elector of the last loop wake it as an event, and its
// checkpoints go to the played log.
func (p *simProcess) elects(id entry.GroupID, keep *keeper) {
	keep.log, keep.minBytes = simCheckpoints{p}, p.s.plan.checkpoint
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
		if isClosed(l.quit) && !isClosed(l.done) {
			l.end(errStopping)
			close(l.done)
		}
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
