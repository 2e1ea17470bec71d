package broker

import (
	"slices"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// gatherTime is how long a new leader waits for the gateways of living
	// brokers to tell what their consumers hold, before it gives out messages
	// that they may have.
	gatherTime = 700 * time.Millisecond
	// doubtTime is how long it waits for the gateway of a leader that fell
	// silent: long enough for a broker that lives but whose disk hangs.
	doubtTime = 100 * time.Millisecond
	// maxEarly bounds the messages that are kept for a leader who has yet to
	// apply what was ordered before it led.
	maxEarly = 1 << 14
)

// attendance is the gateways that a group's leader serves: one for each
// living broker, its own included. Owned by the group's loop.
type attendance struct {
	loop *loop
	id   entry.GroupID
	// living names the brokers whose gateways are to be waited for.
	living func() []string
	// serve handles what is not common to all groups; leave lets go of what a
	// gateway had here; retake does so for one that tells it anew.
	serve func(*attendant, *wireMessage)
	// settled is told of what a submission that comes settles or returns.
	settled func(settledNote)
	leave   func(*attendant)
	retake  func(*attendant)
	// transfer has another broker lead.
	transfer func(to string) error

	guests  []*attendant // ascending by name
	awaited map[string]bool
	until   time.Time // when it is no longer waited
	// doubted, if any, is awaited no longer than doubtedUntil.
	doubted      string
	doubtedUntil time.Time
	// postponed waits until all have come.
	postponed []func()
	early     []earlyMessage
}

type earlyMessage struct {
	from   string
	answer func(*wireMessage) bool
	m      *wireMessage
}

// attendant is one gateway as the leader sees it.
type attendant struct {
	*attendance
	name    string // its broker
	session entry.SessionID
	term    uint64
	answer  func(*wireMessage) bool
	gone    bool
	ended   []ended
	data    any // of the machine
}

func newAttendance(l *loop, id entry.GroupID, living func() []string) *attendance {
	return &attendance{
		loop: l, id: id, living: living,
		transfer: func(string) error { return errOneCopy },
	}
}

// receive takes a gateway's message. answer sends one to it, and may be called
// on the loop's goroutine at any time; it is false when the message is lost.
func (t *attendance) receive(from string, answer func(*wireMessage) bool, m *wireMessage) {
	l := t.loop
	if l.term == 0 && l.err == nil && l.order.ordering() && len(t.early) < maxEarly {
		t.early = append(t.early, earlyMessage{from, answer, m})
		return
	}
	a := t.find(from)
	if m.kind == wireHello && l.term != 0 && m.term == l.term {
		switch {
		case a == nil:
		case a.session == m.session && t.retake != nil:
			t.renew(a)
		default:
			t.dismiss(a)
		}
		a = &attendant{attendance: t, name: from, session: m.session, term: l.term, answer: answer}
		at, _ := t.place(from)
		t.guests = slices.Insert(t.guests, at, a)
		a.reply(&wireMessage{kind: wireHello, seq: m.seq})
		return
	}
	if a == nil || m.term != a.term {
		if m.kind == wireHello || m.term == l.term {
			answer(&wireMessage{kind: wireRefused, group: t.id, term: m.term})
		}
		return
	}
	switch m.kind {
	case wireSubmit:
		for _, n := range m.settled {
			t.settled(n)
		}
		a.submit(m)
	case wireAttached:
		// What it submitted again is applied first: acks among it.
		l.after(func() {
			if !a.gone { // Else it began anew meanwhile.
				t.arrived(from)
			}
		})
	case wireTransfer:
		r := wireMessage{kind: wireReply, call: m.call}
		if err := t.transfer(m.text); err != nil {
			r.code, r.text = replyFailed, err.Error()
		}
		a.reply(&r)
	default:
		t.serve(a, m)
	}
}

// find returns a broker's gateway, nil if it is not here.
func (t *attendance) find(name string) *attendant {
	if at, found := t.place(name); found {
		return t.guests[at]
	}
	return nil
}

func (t *attendance) place(name string) (at int, found bool) {
	return slices.BinarySearchFunc(t.guests, name, func(a *attendant, name string) int { return strings.Compare(a.name, name) })
}

// reply sends m to the gateway.
func (a *attendant) reply(m *wireMessage) {
	if !a.gone {
		m.group, m.term = a.id, a.term
		// One that missed a message must get no other: it would take the credit
		// for what it has as that for what it has not. It is told to begin anew.
		a.gone = !a.answer(m)
	}
}

// submit takes a submission. One from this broker comes as it is and tells its
// gateway itself.
func (a *attendant) submit(m *wireMessage) {
	if m.submission != nil {
		a.loop.submit(m.submission)
		return
	}
	seq := m.seq
	a.loop.submit(&submission{
		ops: m.ops, kept: true, session: a.session, seq: seq, quorum: replicate.Quorum(m.quorum), weak: m.n != 0,
		early: func() { a.ended = append(a.ended, ended{seq: seq}) },
		done: func(o outcome) {
			e := ended{seq: seq, index: o.index}
			switch {
			case o.err == errNotLeader:
				return // It finds out by itself.
			case o.err != nil:
				e.failed = o.err.Error()
			case len(o.topology) > 0:
				e.ops = appendTopologyResults(nil, o.topology)
			default:
				e.ops = appendResults(nil, o.ops)
			}
			a.ended = append(a.ended, e)
		},
	})
}

// lead begins to serve in a term.
func (t *attendance) lead() {
	t.awaited = make(map[string]bool)
	for _, name := range t.living() {
		t.awaited[name] = true
	}
	now := t.loop.now()
	t.until, t.doubtedUntil = now.Add(gatherTime), now.Add(doubtTime)
	early := t.early
	t.early = nil
	for _, e := range early {
		t.receive(e.from, e.answer, e.m)
	}
}

// follow stops serving: the gateways turn to the next leader.
func (t *attendance) follow() {
	for _, a := range t.guests {
		a.reply(&wireMessage{kind: wireRefused})
		a.gone = true
	}
	t.guests = nil
	t.awaited, t.postponed = nil, nil
}

func (t *attendance) arrived(name string) {
	if t.awaited[name] {
		delete(t.awaited, name)
		t.loop.rouse()
	}
}

// doubt has the gateway of a broker waited for only shortly: that of the leader
// before, whose beats stopped. If it lives it comes at once, and else all
// consumers would stand still until its route is given up. It is called when
// this broker is elected, which is before it leads: what was ordered before has
// to be applied first.
func (t *attendance) doubt(name string) {
	t.doubted, t.doubtedUntil = name, t.loop.now().Add(doubtTime)
}

// gathering reports whether gateways are still waited for.
func (t *attendance) gathering() bool {
	now := t.loop.now()
	if len(t.awaited) > 0 && t.doubted != "" && !now.Before(t.doubtedUntil) {
		delete(t.awaited, t.doubted)
		t.doubted = ""
	}
	if len(t.awaited) == 0 {
		return false
	}
	if now.Before(t.until) {
		return true
	}
	for name := range t.awaited {
		t.loop.logger.Warn("not waiting any longer for a broker to tell what it holds", "group", t.loop.name, "broker", name)
	}
	t.awaited = nil
	return false
}

// lost lets go of a broker that is gone.
func (t *attendance) lost(name string) {
	t.arrived(name)
	if a := t.find(name); a != nil {
		t.dismiss(a)
	}
}

func (t *attendance) dismiss(a *attendant) {
	t.remove(a)
	if t.leave != nil {
		t.leave(a)
	}
}

// renew makes room for a gateway that begins anew though it never was away: we
// were slow to answer, or a link lost something. Its consumers still have what
// it is about to tell, so nothing is given out until it has: what was returned
// instead would come twice to clients of a broker that lives.
func (t *attendance) renew(a *attendant) {
	t.remove(a)
	t.retake(a)
	if t.awaited == nil {
		t.awaited = make(map[string]bool)
	}
	t.awaited[a.name] = true
	t.until = t.loop.now().Add(gatherTime)
}

func (t *attendance) remove(a *attendant) {
	if at, found := t.place(a.name); found {
		t.guests = slices.Delete(t.guests, at, at+1)
	}
	a.gone = true
}

// turn tells the gateways what ended in this round, and does what waited for
// them to come.
func (t *attendance) turn() {
	for _, a := range t.guests {
		if len(a.ended) > 0 {
			a.reply(&wireMessage{kind: wireDone, ended: a.ended})
			a.ended = a.ended[:0]
		}
	}
	if len(t.postponed) > 0 && !t.gathering() {
		postponed := t.postponed
		t.postponed = nil
		for _, f := range postponed {
			f()
		}
	}
}

// whenGathered runs f when no gateway is waited for.
func (t *attendance) whenGathered(f func()) {
	if t.gathering() {
		t.postponed = append(t.postponed, f)
		return
	}
	f()
}
