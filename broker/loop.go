package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
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

// errStopping refuses what comes while the broker stops.
var errStopping = errors.New("broker: stopping")

// orderer puts payloads into one order and hands them back once committed:
// raft over the log for a durable group, memory for a volatile one. propose
// copies the payload.
type orderer interface {
	propose(payload []byte) error
	// advance applies what is committed, and reports more when it stopped for
	// the sake of the loop's other work.
	advance(apply func(term, index uint64, payload []byte) error) (more bool, err error)
	completed(replicate.Completion)
	tick()
	inFlight() int
	// leads reports whether this broker orders, and has applied all that was
	// ordered before it did.
	leads() bool
}

// machine is what a loop drives. Every method is called on the loop's goroutine.
type machine interface {
	appendBatch(dst []byte, now int64) []byte
	appendSubmission(dst []byte, s entry.SessionID, seq uint64, ops []byte) []byte
	// apply applies a committed entry; the payload of a new leader's first one
	// is empty.
	apply(term, index uint64, payload []byte) error
	// lead is called once, before the first request is handled, when the order
	// leads.
	lead()
	// turn is called after every round, when what is committed is applied.
	turn()
	// refused is called once, when the loop fails or stops.
	refused(err error)
}

// request is one thing that a loop is asked: exactly one of its groups of
// fields is set. It is a plain struct and not a closure because the settled
// and credit requests come with every few messages.
type request struct {
	submission *submission
	call       func()

	holder queue.HolderID
	queue  entry.QueueID
	ranges []entry.Range

	consumer queue.ConsumerID
	credit   int
}

// sent is a submission on its way through the log.
type sent struct {
	seq        uint64
	submission *submission
}

// loop is the goroutine that owns a group: its order, its state machine and
// what is only in the leader's memory. Nothing of a group is touched by
// another goroutine; they hand in requests.
type loop struct {
	name    string
	logger  *slog.Logger
	order   orderer
	machine machine
	special func(*request) // settled and credit requests
	failed  func(error)    // told once of a failure that ends the group
	session entry.SessionID

	mu struct {
		sync.Mutex
		requests    []request
		completions []replicate.Completion
		err         error // set when the loop takes nothing more
	}
	wake chan struct{}
	quit chan struct{}
	done chan struct{}
	// leading is closed when the loop leads and takes requests.
	leading chan struct{}

	// Owned by the loop's goroutine.
	spareRequests    []request
	spareCompletions []replicate.Completion
	pending          []*submission
	sent             []sent // ascending by seq
	sentHead         int
	nextSeq          uint64
	spareBatch       []byte
	led              bool
	err              error
}

func newLoop(name string, logger *slog.Logger, session entry.SessionID, failed func(error)) *loop {
	return &loop{
		name: name, logger: logger, session: session, failed: failed, nextSeq: 1,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		leading: make(chan struct{}),
	}
}

// ask hands r to the loop's goroutine. It reports false, having called
// nothing, when the loop takes nothing more.
func (l *loop) ask(r request) bool {
	l.mu.Lock()
	if l.mu.err != nil {
		l.mu.Unlock()
		return false
	}
	first := len(l.mu.requests) == 0
	l.mu.requests = append(l.mu.requests, r)
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

// submit hands in s. A loop that takes nothing more refuses it on the caller's
// goroutine.
func (l *loop) submit(s *submission) {
	if !l.ask(request{submission: s}) {
		s.finish(outcome{err: l.takesNothing()})
	}
}

// call runs f on the loop's goroutine and reports whether it will.
func (l *loop) call(f func()) bool { return l.ask(request{call: f}) }

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
				l.order.tick()
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
			l.order.tick()
		case <-l.quit:
			l.end(errStopping)
			return
		}
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
	if !l.led && l.err == nil {
		return l.start()
	}
	l.mu.Lock()
	requests, completions := l.mu.requests, l.mu.completions
	l.mu.requests, l.mu.completions = l.spareRequests[:0], l.spareCompletions[:0]
	l.mu.Unlock()
	for _, c := range completions {
		l.order.completed(c)
	}
	for i := range requests {
		l.handle(&requests[i])
	}
	busy := len(requests) > 0 || len(completions) > 0
	clear(requests)
	clear(completions)
	l.spareRequests, l.spareCompletions = shrink(requests), completions[:0]
	if l.err != nil {
		l.refusePending()
		return busy
	}
	proposed := l.propose()
	more, err := l.order.advance(l.apply)
	if err != nil {
		l.fail(err)
		return false
	}
	l.machine.turn()
	return busy || proposed || more
}

// start is a round before the loop leads: what it is asked waits.
func (l *loop) start() bool {
	l.mu.Lock()
	completions := l.mu.completions
	l.mu.completions = nil
	l.mu.Unlock()
	for _, c := range completions {
		l.order.completed(c)
	}
	more, err := l.order.advance(l.apply)
	if err != nil {
		l.fail(err)
		return false
	}
	if l.led = l.order.leads(); l.led {
		l.machine.lead()
		close(l.leading)
	}
	return l.led || more
}

// shrink drops a slice that a burst made large, so that it does not stay.
func shrink(requests []request) []request {
	if cap(requests) > 1<<14 {
		return nil
	}
	return requests[:0]
}

func (l *loop) handle(r *request) {
	switch {
	case r.submission != nil:
		l.pending = append(l.pending, r.submission)
	case r.call != nil:
		r.call()
	default:
		l.special(r)
	}
}

// propose makes batches of what is pending while the order takes them, and
// reports whether it made one.
func (l *loop) propose() bool {
	proposed := false
	for len(l.pending) > 0 && l.order.inFlight() < maxInFlight {
		count, size := 0, 64
		for _, s := range l.pending {
			if count > 0 && size+len(s.ops)+32 > maxBatchBytes {
				break
			}
			count, size = count+1, size+len(s.ops)+32
		}
		payload := l.machine.appendBatch(l.batch(size), time.Now().UnixNano())
		for i, s := range l.pending[:count] {
			payload = l.machine.appendSubmission(payload, l.session, l.nextSeq+uint64(i), s.ops)
		}
		if err := l.order.propose(payload); err != nil {
			// Not leader, or too much is uncommitted: tried again at the next
			// tick or completion.
			return proposed
		}
		for _, s := range l.pending[:count] {
			giveOps(s.ops)
			s.ops = nil
			l.sent = append(l.sent, sent{l.nextSeq, s})
			l.nextSeq++
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

// settle finds the submission of this loop's session with the sequence seq and
// forgets it; nil when there is none. Sequences are committed in order.
func (l *loop) settle(session entry.SessionID, seq uint64) *submission {
	if session != l.session || l.sentHead == len(l.sent) || l.sent[l.sentHead].seq != seq {
		return nil
	}
	s := l.sent[l.sentHead].submission
	l.sent[l.sentHead] = sent{}
	l.sentHead++
	if l.sentHead == len(l.sent) {
		l.sent, l.sentHead = l.sent[:0], 0
	} else if l.sentHead > 1024 && l.sentHead > len(l.sent)/2 {
		rest := copy(l.sent, l.sent[l.sentHead:])
		clear(l.sent[rest:])
		l.sent, l.sentHead = l.sent[:rest], 0
	}
	return s
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
	for i := range requests {
		l.handle(&requests[i])
	}
	for _, s := range l.sent[l.sentHead:] {
		s.submission.finish(outcome{err: err})
	}
	l.sent, l.sentHead = nil, 0
	l.refusePending()
	l.machine.refused(err)
}

func (l *loop) refusePending() {
	for _, s := range l.pending {
		s.finish(outcome{err: l.err})
	}
	l.pending = nil
}
