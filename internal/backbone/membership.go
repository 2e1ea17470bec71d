package backbone

import (
	"time"
)

const (
	tickEvery  = 50 * time.Millisecond
	helloEvery = 2                      // ticks
	lateAfter  = 250 * time.Millisecond // between ticks: this process was stopped
)

// event is news about a peer for the membership's goroutine.
type event struct {
	kind        eventKind
	peer        uint8
	epoch       uint64
	incarnation uint64
	heard       uint64
}

type eventKind uint8

const (
	eventHello eventKind = iota
	eventLeave
	eventLeft
	eventUnreachable
	eventRouteLost
)

// membership knows which peers are up. Its one goroutine owns the peers and
// calls PeerUp and PeerDown.
type membership struct {
	b      *Backbone
	events chan event
	leave  chan chan struct{} // each is closed when all living peers know
	stop   chan struct{}
	done   chan struct{}

	peers   []peer // by broker number; ours is unused
	leaving chan struct{}
	unaware map[uint8]bool // who has not answered our leave
	ticks   int
}

func newMembership(b *Backbone) *membership {
	return &membership{
		b: b, peers: make([]peer, len(b.names)),
		events: make(chan event, 1024), leave: make(chan chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// post hands an event over. It drops it rather than wait: each is repeated by
// its sender or made good by silence.
func (m *membership) post(e event) {
	select {
	case m.events <- e:
	default:
	}
}

func (m *membership) run() {
	defer close(m.done)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	last := time.Now()
	m.helloAll()
	for {
		select {
		case <-m.stop:
			return
		case e := <-m.events:
			m.handle(e, time.Now())
		case known := <-m.leave:
			m.startLeave(known)
		case <-ticker.C:
			// Not the ticker's time, which is when it fired: after a pause of
			// the whole process that is long ago.
			now := time.Now()
			late := now.Sub(last) - tickEvery
			if late < lateAfter {
				late = 0
			}
			last = now
			m.tick(now, late)
		}
	}
}

func (m *membership) handle(e event, now time.Time) {
	if e.kind == eventRouteLost {
		m.helloAll()
		for _, c := range m.b.conns {
			c.out.probeAll()
		}
		return
	}
	p := &m.peers[e.peer]
	switch e.kind {
	case eventHello:
		m.apply(e.peer, p.hello(now, e.epoch, e.incarnation, e.heard == m.b.epoch), "it lost us or was restarted")
	case eventLeave:
		m.apply(e.peer, p.leave(now, e.epoch), "it leaves")
		m.b.control(Beats, e.peer, kindLeft, control{yours: e.epoch})
	case eventUnreachable:
		m.apply(e.peer, p.unreachable(), "its route is lost")
		m.aware(e.peer)
	case eventLeft:
		m.aware(e.peer)
	}
}

// apply carries a change out.
func (m *membership) apply(n uint8, c change, why string) {
	p, name := &m.peers[n], m.b.names[n]
	if c.down {
		m.b.epochs[n].Store(0)
		for _, conn := range m.b.conns {
			conn.out.down(n)
			conn.in.down(n)
		}
		m.b.config.Logger.Info("a broker is down", "broker", name, "because", why)
		m.b.config.Handler.PeerDown(name)
		m.aware(n)
	}
	if c.up && m.leaving == nil {
		m.b.epochs[n].Store(p.epoch)
		for _, conn := range m.b.conns {
			conn.out.up(n, p.epoch)
		}
		m.b.config.Logger.Info("a broker is up", "broker", name)
		m.b.config.Handler.PeerUp(name, p.incarnation)
	}
	if c.answer {
		m.hello(n)
	}
}

func (m *membership) tick(now time.Time, late time.Duration) {
	for n := range m.peers {
		if uint8(n) == m.b.self {
			continue
		}
		p := &m.peers[n]
		m.apply(uint8(n), p.tick(now, late, m.b.config.Silence), "it is silent")
	}
	if m.ticks++; m.ticks%helloEvery == 0 || late > 0 {
		m.helloAll()
		m.leaveAll()
	}
	for _, c := range m.b.conns {
		c.out.tick(now, late)
		c.in.tick()
	}
}

func (m *membership) helloAll() {
	for n := range m.peers {
		if uint8(n) != m.b.self {
			m.hello(uint8(n))
		}
	}
}

// hello goes to each peer by itself: the embedded server answers at once when
// nobody is there.
func (m *membership) hello(n uint8) {
	if m.leaving != nil {
		return
	}
	m.b.conns[Beats].w.control(item{
		subject: m.b.subject(Beats, 1<<n), reply: m.b.nobody(Beats, n),
		bytes: appendControl(nil, m.b.head(kindHello), control{
			incarnation: m.b.config.Incarnation, heard: m.peers[n].heard(),
		}),
	})
}

// startLeave tells all peers that are up.
func (m *membership) startLeave(known chan struct{}) {
	m.leaving, m.unaware = known, map[uint8]bool{}
	for n := range m.peers {
		if m.peers[n].up {
			m.unaware[uint8(n)] = true
		}
	}
	m.leaveAll()
	m.checkLeave()
}

// leaveAll tells those who have not answered, again and again: it may be lost.
func (m *membership) leaveAll() {
	for n := range m.unaware {
		m.b.control(Beats, n, kindLeave, control{})
	}
}

// aware notes that a peer knows of our leave, or is gone itself.
func (m *membership) aware(n uint8) {
	if m.leaving != nil {
		delete(m.unaware, n)
		m.checkLeave()
	}
}

func (m *membership) checkLeave() {
	if len(m.unaware) == 0 {
		select {
		case <-m.leaving:
		default:
			close(m.leaving)
		}
	}
}
