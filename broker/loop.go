package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	tickInterval = 50 * time.Millisecond
	// maxBatchBytes bounds one entry, unless a single submission is larger. A
	// cold read of one message reads its whole entry, so larger is not better.
	maxBatchBytes = 512 << 10
	// maxInFlight is how many entries may wait for their fsync. While they do,
	// what arrives gathers for the next batch: two keep the disk busy, more
	// would only make the batches smaller.
	maxInFlight = 2
)

var (
	// errStopping refuses what comes while the broker stops.
	errStopping = errors.New("broker: stopping")
	// errNotLeader refuses what was handed to a group that this broker no
	// longer leads. A gateway hands it to the next leader.
	errNotLeader = errors.New("broker: not the leader of the group")
	// errPublishTimeout refuses what was not confirmed in time.
	errPublishTimeout = errors.New("broker: not confirmed in time")
)

// orderer puts payloads into one order and hands them back once committed:
// raft over the log for a durable group, memory for a volatile one.
type orderer interface {
	// propose copies the payload and returns the index that it will have.
	propose(payload []byte) (index uint64, err error)
	// advance applies what is committed, and reports more when it stopped for
	// the sake of the loop's other work.
	advance(apply func(term, index uint64, payload []byte) error) (more bool, err error)
	completed(replicate.Completion)
	tick()
	// paused is told that the loop stood still for longer than raft's election
	// timeout, before anything that waited meanwhile.
	paused()
	inFlight() int
	// leads is the term in which this broker orders, having applied all that
	// was ordered before; 0 when it does not.
	leads() (term uint64)
	// ordering reports whether this broker is to lead: leads follows.
	ordering() bool
	// confirmed is the index up to which entries are confirmed under a quorum.
	confirmed(replicate.Quorum) uint64
}

// machine is what a loop drives. Every method is called on the loop's goroutine.
type machine interface {
	appendBatch(dst []byte, now int64) []byte
	appendSubmission(dst []byte, s entry.SessionID, seq uint64, ops []byte) []byte
	// proposed tells that the batch is on its way: until then it may have to be
	// made again.
	proposed()
	// apply applies a committed entry; the payload of a new leader's first one
	// is empty.
	apply(term, index uint64, payload []byte) error
	// lead is called when this broker has become the leader in a term, follow
	// when it no longer is.
	lead(term uint64)
	follow()
	// turn is called after every round, when what is committed is applied.
	turn()
	// refused is called once, when the loop fails or stops.
	refused(err error)
}

// loop is the goroutine that owns a group: its order, its state machine and
// what is only in the leader's memory. Nothing of a group is touched by
// another goroutine; they hand in requests.
type loop struct {
	name    string
	logger  *slog.Logger
	order   orderer
	machine machine
	failed  func(error) // told once of a failure that ends the group
	now     func() time.Time
	// watch, if set, is called after every round and every tick: it elects.
	watch func(ticked bool)

	mu struct {
		sync.Mutex
		requests    []func()
		completions []replicate.Completion
		err         error // set when the loop takes nothing more
	}
	wake chan struct{}
	quit chan struct{}
	done chan struct{}
	// leading is closed when the loop has led for the first time.
	leading chan struct{}
	// doubts says that others may lead without this broker's knowledge, once it
	// has been stopped for a while.
	doubts bool
	// timeout is for how long a committed submission may wait for more disks; 0
	// for no limit.
	timeout time.Duration

	// Owned by the loop's goroutine.
	spareRequests    []func()
	spareCompletions []replicate.Completion
	pending          []*submission
	sent             []sent // in the order of their entries
	sentHead         int
	early            int // sent[:early] are confirmed or wait for their commit
	late             lateQueues
	looked           time.Time   // when it was last seen not to stand still
	proof            *submission // since it stood still: until it is committed, another may lead
	ownSeq           uint64
	spareBatch       []byte
	term             uint64 // in which this broker leads; 0 for none
	err              error
}

// sent is a submission on its way through the log.
type sent struct {
	index      uint64
	submission *submission
}

func newLoop(name string, logger *slog.Logger, failed func(error)) *loop {
	return &loop{
		name: name, logger: logger, failed: failed, now: time.Now,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		leading: make(chan struct{}),
	}
}

// call runs f on the loop's goroutine, in the order of one caller's calls. It
// reports false, having called nothing, when the loop takes nothing more.
func (l *loop) call(f func()) bool {
	l.mu.Lock()
	if l.mu.err != nil {
		l.mu.Unlock()
		return false
	}
	first := len(l.mu.requests) == 0
	l.mu.requests = append(l.mu.requests, f)
	l.mu.Unlock()
	if first {
		l.rouse()
	}
	return true
}

// notify takes a log write's completion from the log's goroutine.
func (l *loop) notify(c replicate.Completion) {
	l.mu.Lock()
	l.mu.completions = append(l.mu.completions, c)
	l.mu.Unlock()
	l.rouse()
}

func (l *loop) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *loop) takesNothing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// run is the loop's goroutine. It ends after stop.
func (l *loop) run() {
	defer close(l.done)
	l.rouse()
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		if l.round() {
			select {
			case <-ticker.C:
				l.tick()
			case <-l.quit:
				l.end(errStopping)
				return
			default:
			}
			continue
		}
		select {
		case <-l.wake:
		case <-ticker.C:
			l.tick()
		case <-l.quit:
			l.end(errStopping)
			return
		}
	}
}

func (l *loop) tick() {
	now := l.now()
	l.stoodStill(now)
	l.order.tick()
	if l.timeout > 0 {
		l.late.expire(now.Add(-l.timeout))
	}
	if l.watch != nil {
		l.watch(true)
	}
}

// stop ends the loop and waits for its goroutine. What is waiting is refused.
func (l *loop) stop() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	<-l.done
}

// round does all that is waiting once, and reports whether more may wait.
func (l *loop) round() bool {
	l.stoodStill(l.now())
	l.mu.Lock()
	requests, completions := l.mu.requests, l.mu.completions
	l.mu.requests, l.mu.completions = l.spareRequests[:0], l.spareCompletions[:0]
	l.mu.Unlock()
	for _, c := range completions {
		l.order.completed(c)
	}
	for _, f := range requests {
		f()
	}
	busy := len(requests) > 0 || len(completions) > 0
	clear(requests)
	clear(completions)
	l.spareRequests, l.spareCompletions = shrink(requests), completions[:0]
	if l.err != nil {
		l.refusePending(l.err)
		return busy
	}
	proposed := l.propose()
	more, err := l.order.advance(l.apply)
	if err != nil {
		l.fail(err)
		return false
	}
	if l.stoodStill(l.now()) {
		return true // Nothing is confirmed before the order has taken it in.
	}
	l.see()
	if l.term != 0 {
		l.confirm()
	}
	l.machine.turn()
	if l.watch != nil {
		l.watch(false)
	}
	return busy || proposed || more
}

// see follows what the order says of who leads.
func (l *loop) see() {
	term := l.order.leads()
	if term == l.term {
		return
	}
	if l.term != 0 {
		l.term, l.proof = 0, nil
		l.refuseSent(errNotLeader)
		l.refusePending(errNotLeader)
		l.machine.follow()
	}
	if term == 0 {
		return
	}
	l.term = term
	l.machine.lead(term)
	if !isClosed(l.leading) {
		close(l.leading)
	}
}

// shrink drops a slice that a burst made large, so that it does not stay.
func shrink(requests []func()) []func() {
	if cap(requests) > 1<<14 {
		return nil
	}
	return requests[:0]
}

// submit takes a submission. Called on the loop's goroutine.
func (l *loop) submit(s *submission) {
	switch {
	case l.err != nil:
		s.finish(outcome{err: l.err})
	case l.term == 0:
		s.finish(outcome{err: errNotLeader})
	default:
		l.pending = append(l.pending, s)
	}
}

// submitOwn takes ops of the group itself, which belong to no session.
func (l *loop) submitOwn(s *submission) {
	l.ownSeq++
	s.session, s.seq = 0, l.ownSeq
	l.submit(s)
	l.rouse()
}

// propose makes batches of what is pending while the order takes them, and
// reports whether it made one.
func (l *loop) propose() bool {
	proposed := false
	for l.term != 0 && len(l.pending) > 0 && l.order.inFlight() < maxInFlight {
		count, size := 0, 64
		for _, s := range l.pending {
			if count > 0 && size+len(s.ops)+32 > maxBatchBytes {
				break
			}
			count, size = count+1, size+len(s.ops)+32
		}
		payload := l.machine.appendBatch(l.batch(size), l.now().UnixNano())
		for _, s := range l.pending[:count] {
			payload = l.machine.appendSubmission(payload, s.session, s.seq, s.ops)
		}
		index, err := l.order.propose(payload)
		if err != nil {
			// Not leader any more, or too much is uncommitted: tried again at the
			// next tick or completion.
			return proposed
		}
		l.machine.proposed()
		for _, s := range l.pending[:count] {
			s.proposed()
			l.sent = append(l.sent, sent{index, s})
		}
		rest := copy(l.pending, l.pending[count:])
		clear(l.pending[rest:])
		l.pending = l.pending[:rest]
		proposed = true
	}
	return proposed
}

func (l *loop) apply(term, index uint64, payload []byte) error {
	if err := l.machine.apply(term, index, payload); err != nil {
		return fmt.Errorf("%s: entry %d: %w", l.name, index, err)
	}
	return nil
}

// batch returns an empty buffer of a capacity, reused unless it is large.
func (l *loop) batch(size int) []byte {
	if size > maxBatchBytes {
		return make([]byte, 0, size)
	}
	if cap(l.spareBatch) < size {
		l.spareBatch = make([]byte, 0, max(size, 4<<10))
	}
	return l.spareBatch[:0]
}

// after runs f when all that was handed in before is applied or refused: at
// once when nothing is on its way. A client that publishes and then asks finds
// what it published. Called on the loop's goroutine.
func (l *loop) after(f func()) {
	var last *submission
	switch {
	case len(l.pending) > 0:
		last = l.pending[len(l.pending)-1]
	case l.sentHead < len(l.sent):
		last = l.sent[len(l.sent)-1].submission
	default:
		f()
		return
	}
	last.after = append(last.after, f)
}

// settle ends the submission of that session and sequence if it is the next
// one whose entry was proposed here. Entries are applied in order, so any other
// is from an earlier leader's time or an earlier proposal of the same.
func (l *loop) settle(session entry.SessionID, seq, index uint64, o outcome) {
	if l.sentHead == len(l.sent) {
		return
	}
	next := l.sent[l.sentHead]
	if next.submission.session != session || next.submission.seq != seq {
		return
	}
	l.sent[l.sentHead] = sent{}
	l.sentHead++
	l.early = max(l.early, l.sentHead)
	if l.sentHead == len(l.sent) {
		l.sent, l.sentHead, l.early = l.sent[:0], 0, 0
	} else if l.sentHead > 1024 && l.sentHead > len(l.sent)/2 {
		rest := copy(l.sent, l.sent[l.sentHead:])
		clear(l.sent[rest:])
		l.sent, l.early, l.sentHead = l.sent[:rest], l.early-l.sentHead, 0
	}
	s := next.submission
	if s.quorum != replicate.QuorumMajority && l.order.confirmed(s.quorum) < index {
		next.index = index
		l.late.add(late{next, o.clone(), l.now()})
		s.runAfter()
		return
	}
	s.finish(o)
}

// confirm tells of what its quorum holds for: weak ones before their commit,
// strong ones after.
func (l *loop) confirm() {
	for l.early < len(l.sent) && l.proof == nil {
		next := l.sent[l.early]
		if next.submission.weak {
			if l.order.confirmed(next.submission.quorum) < next.index {
				break
			}
			next.submission.early()
		}
		l.early++
	}
	l.late.confirm(l.order.confirmed)
}

// fail ends the group: nothing is confirmed from here on.
func (l *loop) fail(err error) {
	l.logger.Error("group failed", "group", l.name, "err", err)
	l.end(err)
	l.failed(err)
}

// end refuses all that waits and all that will come.
func (l *loop) end(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	l.mu.Lock()
	l.mu.err = err
	requests := l.mu.requests
	l.mu.requests = nil
	l.mu.Unlock()
	for _, f := range requests {
		f()
	}
	l.refuseSent(err)
	l.refusePending(err)
	l.machine.refused(err)
}

func (l *loop) refuseSent(err error) {
	sent := l.sent[l.sentHead:]
	late := l.late
	l.sent, l.sentHead, l.early, l.late = nil, 0, 0, nil
	late.refuse(err) // They came before.
	for _, s := range sent {
		s.submission.finish(outcome{err: err})
	}
}

func (l *loop) refusePending(err error) {
	pending := l.pending
	l.pending = nil
	for _, s := range pending {
		s.finish(outcome{err: err})
	}
}
