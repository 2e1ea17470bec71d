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
	// suspendTime is how long a gateway whose link is broken may take to begin
	// anew, though its broker is there, before others are given what it holds.
	suspendTime = 5 * time.Second
)

// attendance is the gateways that a group's leader serves: one for each
// living broker, its own included. Owned by the group's loop.
type attendance struct {
	loop *loop
	id   entry.GroupID
	// living names the brokers whose gateways are to be waited for.
	living func() []string
	host   host
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

// host is what a group has beside what is common to all: what it gave to
// gateways, for their consumers.
type host interface {
	serve(*attendant, *wireMessage)
	// settled is told of what a submission that comes settles or returns.
	settled(settledNote)
	// left lets go of what a gateway had, which is gone.
	left(*attendant)
	// suspended gives a gateway nothing more: what it has stays its own.
	suspended(*attendant)
	// recalled is told that a gateway begins anew, as a, which has what was had,
	// but for what was lost on the way: it is about to tell. It is suspended
	// until recovered is told that it has told all, and that what it submitted
	// again is applied.
	recalled(a, was *attendant)
	recovered(*attendant)
}

// bare is the host of a group that gives nothing away.
type bare struct{}

func (bare) serve(*attendant, *wireMessage)  {}
func (bare) settled(settledNote)             {}
func (bare) left(*attendant)                 {}
func (bare) suspended(*attendant)            {}
func (bare) recalled(*attendant, *attendant) {}
func (bare) recovered(*attendant)            {}

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
	// gone says that nothing is sent to it any more, until, if not zero, how long
	// it may take to begin anew.
	gone  bool
	until time.Time
	// attached says that it told all it has; behind is what came since, until
	// what it submitted again is applied.
	attached bool
	greeting uint64
	behind   []*wireMessage
	// taken are what it told that its consumers have, and they have not.
	taken []*wireMessage
	ended []ended
	data  any // of the host
}

func newAttendance(l *loop, id entry.GroupID, living func() []string) *attendance {
	return &attendance{
		loop: l, id: id, living: living, host: bare{},
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
		t.greeted(from, answer, m)
		return
	}
	if a == nil || a.gone || m.term != a.term {
		if m.kind == wireHello || m.term == l.term {
			answer(&wireMessage{kind: wireRefused, group: t.id, term: m.term})
		}
		return
	}
	switch {
	case !a.attached:
		a.serve(m)
	case len(a.behind) < maxEarly:
		a.behind = append(a.behind, m)
	default:
		t.suspend(a)
	}
}

// greeted takes a gateway that begins, or begins anew: then we were slow to
// answer, or a link lost something.
func (t *attendance) greeted(from string, answer func(*wireMessage) bool, m *wireMessage) {
	a := &attendant{attendance: t, name: from, session: m.session, term: t.loop.term, answer: answer}
	was := t.find(from)
	if was != nil && was.session != m.session {
		t.dismiss(was)
		was = nil
	}
	if was != nil {
		t.remove(was)
	}
	at, _ := t.place(from)
	t.guests = slices.Insert(t.guests, at, a)
	if was != nil {
		t.host.recalled(a, was)
	}
	a.reply(&wireMessage{kind: wireHello, seq: m.seq})
}

// serve handles a message of a gateway that has begun.
func (a *attendant) serve(m *wireMessage) {
	switch m.kind {
	case wireSubmit:
		for _, n := range m.settled {
			a.host.settled(n)
		}
		a.submit(m)
	case wireAttached:
		a.attached, a.greeting = true, m.seq
		if m.n != 0 {
			// It was stopped, and asks who has what it holds: only who still leads
			// knows.
			a.loop.submitOwn(&submission{ops: takeOps()})
		}
		a.loop.after(a.applied)
	case wireTransfer:
		r := wireMessage{kind: wireReply, call: m.call}
		if err := a.transfer(m.text); err != nil {
			r.code, r.text = replyFailed, err.Error()
		}
		a.reply(&r)
	default:
		a.host.serve(a, m)
	}
}

// applied goes on with a gateway when what it submitted again is applied, acks
// among it: all that is not settled by now, and was not told, it never got.
func (a *attendant) applied() {
	if a.gone || a.loop.err != nil || a.term != a.loop.term {
		return // It began anew, or with another leader, or nothing is applied any more.
	}
	a.attached = false
	for _, m := range a.taken {
		a.reply(m)
	}
	a.taken = nil
	a.reply(&wireMessage{kind: wireAttached, seq: a.greeting})
	a.host.recovered(a)
	a.arrived(a.name)
	behind := a.behind
	a.behind = nil
	for _, m := range behind {
		a.receive(a.name, a.answer, m)
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
		// One that missed a message must get no other before it has begun anew,
		// as it is told: it would take the credit for what it has as that for what
		// it has not.
		if !a.answer(m) {
			a.suspend(a)
		}
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

// gathering reports whether gateways are still waited for: for a while until they
// tell, and then until what they submitted again is applied, however long that
// takes. While nothing can be committed a message whose ack waits for that would
// be given to another, and an old return would take it away from whom. It also is
// while it is in doubt whether this broker leads.
func (t *attendance) gathering() bool {
	if t.loop.proof != nil {
		return true
	}
	now := t.loop.now()
	if len(t.awaited) > 0 && t.doubted != "" && !now.Before(t.doubtedUntil) {
		if !t.told(t.doubted) {
			delete(t.awaited, t.doubted)
		}
		t.doubted = ""
	}
	if len(t.awaited) == 0 || now.Before(t.until) {
		return len(t.awaited) > 0
	}
	for name := range t.awaited {
		if !t.told(name) {
			t.loop.logger.Warn("not waiting any longer for a broker to tell what it holds", "group", t.loop.name, "broker", name)
			delete(t.awaited, name)
		}
	}
	return len(t.awaited) > 0
}

// told reports whether a gateway has told all and what it submitted again is on
// its way.
func (t *attendance) told(name string) bool {
	a := t.find(name)
	return a != nil && a.attached && !a.gone
}

// broken stops giving things to a broker to which, or from which, a link is
// broken. Its clients live and have what they have: it tells what that is when it
// begins anew, which it will.
func (t *attendance) broken(name string) {
	if a := t.find(name); a != nil {
		t.suspend(a)
	}
}

func (t *attendance) suspend(a *attendant) {
	if a.until.IsZero() {
		a.gone, a.until = true, t.loop.now().Add(suspendTime)
		t.host.suspended(a)
	}
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
	t.host.left(a)
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
	late := false
	for _, a := range t.guests {
		if len(a.ended) > 0 {
			a.reply(&wireMessage{kind: wireDone, ended: a.ended})
			a.ended = a.ended[:0]
		}
		late = late || !a.until.IsZero() && !t.loop.now().Before(a.until)
	}
	if late {
		t.dismissLate()
	}
	if len(t.postponed) > 0 && !t.gathering() {
		postponed := t.postponed
		t.postponed = nil
		for _, f := range postponed {
			f()
		}
	}
}

// dismissLate lets go of gateways that have not begun anew in time.
func (t *attendance) dismissLate() {
	for _, a := range slices.Clone(t.guests) {
		if !a.until.IsZero() && !t.loop.now().Before(a.until) {
			t.loop.logger.Warn("a gateway has not begun anew since its link broke", "group", t.loop.name, "broker", a.name)
			t.dismiss(a)
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
