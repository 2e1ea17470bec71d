package broker

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// gateway is the way of this broker's connections to one group, wherever it is
// led. It remembers what the leader does not have in the log: submissions until
// they end, consumers, and which messages they hold. When the leader changes it
// tells the next one all of that, so that nothing is lost, done twice or given
// out twice. All methods may be called from any goroutine.
type gateway struct {
	id      entry.GroupID
	session entry.SessionID
	logger  *slog.Logger
	// port returns the way to a broker's group; nil where there is none.
	port func(broker string) func(*wireMessage) bool
	// room reports whether a broker takes that many bytes now; where it does not,
	// writable is called when it may. nil for always.
	room func(broker string, size int) bool
	// voters is the number of copies of the group, for what quorums mean.
	voters int
	// ended and timeout: see publishTimeout.
	timeout time.Duration
	now     func() time.Time
	// doubt says whether this broker was stopped; judged is called when what it
	// had then is doubtful no more.
	doubt  *doubt
	judged func()

	mu struct {
		sync.Mutex
		leader string
		term   uint64
		send   func(*wireMessage) bool // to the leader; nil while there is none
		// waiting is, in order, what is to be sent once there is room for the
		// first of it, a submission.
		waiting []*wireMessage
		// greeted says that Hello was sent, accepted that it was answered: what
		// comes goes to the leader from greeted on.
		greeted, accepted bool
		asked             time.Time // when Hello was sent
		greetings         uint64    // numbers Hello
		patience          time.Duration
		// round is that of doubt when it greeted; judgment what the leaders said.
		round    uint32
		judgment judgment
		err      error // set when the broker stops

		seq         uint64
		unconfirmed []*underway // by seq, nil where ended; the first one's seq is base
		base        uint64
		calls       map[uint64]*gatewayCall
		order       []uint64 // of calls, those ended too
		nextCall    uint64

		consumers map[queue.ConsumerID]*follower
		holders   map[queue.HolderID]*holding
		enclosed  enclosed
	}
	// led is signalled at every acceptance.
	led sync.Cond
}

// underway is a submission whose end is not known.
type underway struct {
	*submission
	since time.Time
	// told says that its weak quorum held, which its submitter knows. It stays
	// until it is committed, so that the next leader is handed it too.
	told bool
	// again says that it was handed to a second leader: the first, if it is on
	// this broker, may still look at its ops.
	again bool
}

// follower is a consumer of one of this broker's connections.
type follower struct {
	queue.Consumer
	to *receiver
	// given are the deliveries to it that were not yet credited; unwritten are,
	// of a consumer without acks, those not written to its socket yet.
	given     int
	unwritten heldSet
	// gone says that it is detached while some of those are still to be written.
	gone bool
}

// holding is what a channel has of this group.
type holding struct {
	limit  uint32
	queues map[entry.QueueID]*heldSet
	by     map[entry.QueueID]queue.ConsumerID // who got them; 0: by get, or several
}

// gatewayCall is a call that waits for its answer.
type gatewayCall struct {
	message wireMessage
	answer  func(*wireMessage) // nil message: the broker stops
}

func newGateway(id entry.GroupID, session entry.SessionID, voters int, logger *slog.Logger) *gateway {
	w := &gateway{id: id, session: session, voters: voters, logger: logger, now: time.Now}
	w.mu.base = 1
	w.mu.calls = make(map[uint64]*gatewayCall)
	w.mu.consumers = make(map[queue.ConsumerID]*follower)
	w.mu.holders = make(map[queue.HolderID]*holding)
	w.led.L = &w.mu
	return w
}

// submit hands in s, in the order of the calls. It ends when the group's leader
// says so, whoever that is then.
func (w *gateway) submit(s *submission) {
	w.mu.Lock()
	err := w.mu.err
	if err == nil {
		w.submitLocked(s)
	}
	w.mu.Unlock()
	if err != nil {
		s.finish(outcome{err: err})
	}
}

// submitLocked is called with mu held, before the broker stops.
func (w *gateway) submitLocked(s *submission) {
	w.mu.seq++
	s.session, s.seq = w.session, w.mu.seq
	s.weak = s.quorum == replicate.QuorumLeader && w.voters > 1 || s.quorum > 1 && int(s.quorum) <= w.voters/2
	w.mu.unconfirmed = append(w.mu.unconfirmed, &underway{submission: s, since: w.now()})
	for _, n := range s.settled {
		w.settled(n)
	}
	if w.mu.greeted {
		w.sendSubmission(s, s.settled)
	}
}

// sendSubmission tells the leader of a submission and, in the same message, who
// is done with what it settles: if one came without the other because this
// broker dies, the message would stay with nobody. Called with mu held.
func (w *gateway) sendSubmission(s *submission, settled []settledNote) {
	term, seq := w.mu.term, s.seq
	m := &wireMessage{kind: wireSubmit, seq: seq, quorum: int64(s.quorum), ops: s.ops, settled: settled, n: flagBits(s.weak)}
	m.submission = &submission{
		ops: s.ops, quorum: s.quorum, weak: s.weak, session: s.session, seq: seq, kept: true,
		done: func(o outcome) { w.over(term, seq, o) }, early: func() { w.held(term, seq) },
	}
	w.toLeader(m)
}

// toLeader is called with mu held. A message that can't be sent is a broken
// link: the gateway is told so, and begins anew.
func (w *gateway) toLeader(m *wireMessage) {
	if !w.mu.greeted {
		return
	}
	m.group, m.term = w.id, w.mu.term
	if len(w.mu.waiting) > 0 || !w.fits(m) {
		w.mu.waiting = append(w.mu.waiting, m)
		return
	}
	if !w.mu.send(m) {
		w.mu.greeted, w.mu.accepted = false, false
	}
}

// fits reports whether a message may be sent now. Only submissions wait: they
// are what fills a link. Called with mu held.
func (w *gateway) fits(m *wireMessage) bool {
	return m.kind != wireSubmit || w.room == nil || w.room(w.mu.leader, len(m.ops))
}

// writable tells that a broker takes more.
func (w *gateway) writable(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mu.leader == name && w.mu.greeted && len(w.mu.waiting) > 0 && w.fits(w.mu.waiting[0]) {
		if !w.mu.send(w.mu.waiting[0]) {
			w.mu.greeted, w.mu.accepted = false, false
			return
		}
		w.mu.waiting[0] = nil
		w.mu.waiting = w.mu.waiting[1:]
	}
	if len(w.mu.waiting) == 0 {
		w.mu.waiting = nil
	}
}

// over is the end of a submission, as the leader in a term says.
func (w *gateway) over(term, seq uint64, o outcome) {
	if o.err == errNotLeader {
		return
	}
	w.mu.Lock()
	u := w.underway(term, seq)
	if u != nil {
		w.mu.unconfirmed[seq-w.mu.base] = nil
		w.trim()
	}
	w.mu.Unlock()
	if u != nil {
		u.end(o)
	}
}

// held tells that a submission's weak quorum holds, as the leader in a term
// says. From a leader before the one that is known it counts no more.
func (w *gateway) held(term, seq uint64) {
	w.mu.Lock()
	u := w.underway(term, seq)
	if u != nil && u.told {
		u = nil
	}
	if u != nil {
		u.told = true
	}
	w.mu.Unlock()
	if u != nil {
		u.finish(outcome{})
	}
}

// underway is a submission that has not ended, nil if there is none. Called with
// mu held.
func (w *gateway) underway(term, seq uint64) *underway {
	if term != w.mu.term || seq < w.mu.base || seq-w.mu.base >= uint64(len(w.mu.unconfirmed)) {
		return nil
	}
	return w.mu.unconfirmed[seq-w.mu.base]
}

func (u *underway) end(o outcome) {
	u.tell(o)
	if !u.again {
		giveOps(u.ops)
	}
	u.ops = nil
}

// tell tells the submitter, unless it was told. REQUIRES: u was taken out of
// unconfirmed.
func (u *underway) tell(o outcome) {
	if !u.told {
		u.finish(o)
	}
}

// trim drops what has ended at the front. Called with mu held.
func (w *gateway) trim() {
	n := 0
	for n < len(w.mu.unconfirmed) && w.mu.unconfirmed[n] == nil {
		n++
	}
	w.mu.base += uint64(n)
	w.mu.unconfirmed = w.mu.unconfirmed[n:]
	if len(w.mu.unconfirmed) == 0 {
		w.mu.unconfirmed = nil
	}
}

// ask makes a call and returns its number. answer is called once, with nil when
// the broker stops.
func (w *gateway) ask(m wireMessage, answer func(*wireMessage)) uint64 {
	w.mu.Lock()
	if w.mu.err != nil {
		w.mu.Unlock()
		answer(nil)
		return 0
	}
	defer w.mu.Unlock()
	return w.askLocked(m, answer)
}

func (w *gateway) askLocked(m wireMessage, answer func(*wireMessage)) uint64 {
	w.mu.nextCall++
	m.call = w.mu.nextCall
	w.mu.calls[m.call] = &gatewayCall{m, answer}
	w.mu.order = append(w.mu.order, m.call)
	if len(w.mu.order) > 2*len(w.mu.calls)+64 {
		w.mu.order = slices.DeleteFunc(w.mu.order, func(n uint64) bool { return w.mu.calls[n] == nil })
	}
	w.toLeader(&m)
	return m.call
}

// stop ends everything that waits with an error, and takes nothing more.
func (w *gateway) stop(err error) {
	w.mu.Lock()
	if w.mu.err != nil {
		w.mu.Unlock()
		return
	}
	w.mu.err = err
	unconfirmed, calls := w.mu.unconfirmed, w.mu.calls
	w.mu.unconfirmed, w.mu.calls, w.mu.order, w.mu.waiting = nil, make(map[uint64]*gatewayCall), nil, nil
	w.mu.greeted, w.mu.accepted = false, false
	w.led.Broadcast()
	w.mu.Unlock()
	for _, u := range unconfirmed {
		if u != nil {
			u.end(outcome{err: err})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(calls)) {
		calls[n].answer(nil)
	}
}
