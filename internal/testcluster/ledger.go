package testcluster

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// message names a message: its publisher and the publisher's own count from 1.
type message struct {
	publisher int
	seq       uint32
}

func (m message) String() string {
	return fmt.Sprintf("message %d of publisher %d", m.seq, m.publisher+1)
}

// bodyHead is the part of a body that names the message.
const bodyHead = 8

// encode is the message's body. Its bytes follow from its name, so that a body
// that was mixed up is noticed.
func (m message) encode(size int) []byte {
	body := make([]byte, max(size, bodyHead))
	binary.BigEndian.PutUint32(body, uint32(m.publisher))
	binary.BigEndian.PutUint32(body[4:], m.seq)
	for k := bodyHead; k < len(body); k++ {
		body[k] = byte(uint32(k) * (m.seq + 7))
	}
	return body
}

func decode(body []byte) (message, error) {
	if len(body) < bodyHead {
		return message{}, fmt.Errorf("body of %d bytes", len(body))
	}
	m := message{int(binary.BigEndian.Uint32(body)), binary.BigEndian.Uint32(body[4:])}
	for k := bodyHead; k < len(body); k++ {
		if body[k] != byte(uint32(k)*(m.seq+7)) {
			return m, fmt.Errorf("%v: byte %d of %d is damaged", m, k, len(body))
		}
	}
	return m, nil
}

// record is what is known of a message. 20 bytes; a run of hours has millions.
type record struct {
	published uint32 // ms since the start
	delivered uint32 // ms since the start, of the last delivery
	from, to  int32  // the connections that published it and that got it last
	fate      fate
	count     uint8 // deliveries, 255 for more
}

type fate uint8

const (
	open fate = iota
	confirmed
	nacked
)

// interval is a time in which a broker was not well. until is 0 while it lasts.
type interval struct{ from, until time.Duration }

// link is one connection of a client to a broker.
type link struct {
	broker int
	broken bool
	last   map[int]uint32 // by publisher: the newest message that came in order
}

// Ledger knows what clients published and what they were told, and finds what
// should not be. It may be used from many goroutines.
type Ledger struct {
	timeline *Timeline
	mu       struct {
		sync.Mutex
		records [][]record // by publisher, by seq-1
		links   []*link
		faults  [][]interval // by broker
		// resumed is when a broker went on that had been paused, if that was its
		// last fault; 0 else.
		resumed  []time.Duration
		counts   Counts
		problems []string
	}
}

// Counts sums a ledger up.
type Counts struct {
	Published, Confirmed, Nacked, Delivered int
	// Returned were delivered again, as they should: the first time it was to a
	// client of a broker that was not well.
	Returned int
	// Flagged came with the redelivered flag.
	Flagged int
	// Unflagged came again without the flag, or late after newer ones, since
	// the broker that gave them out died. AMQP lets a broker not know.
	Unflagged int

	// Late came to a client of a broker that was ill and is well again, from
	// before, when others had it already.
	Late int

	// What should be 0: see the package comment.
	Lost, Doubled, Reordered, Damaged, NackedLiving, Unconfirmed int
}

func (c Counts) bad() int {
	return c.Lost + c.Doubled + c.Reordered + c.Damaged + c.NackedLiving + c.Unconfirmed
}

func (c Counts) String() string {
	return fmt.Sprintf("%d published, %d confirmed, %d delivered, %d given out again, %d came flagged, %d late without a flag, %d late from before a fault, %d nacked; "+
		"lost %d, doubled %d, reordered %d, damaged %d, nacked by living brokers %d, never confirmed %d",
		c.Published, c.Confirmed, c.Delivered, c.Returned, c.Flagged, c.Unflagged, c.Late, c.Nacked,
		c.Lost, c.Doubled, c.Reordered, c.Damaged, c.NackedLiving, c.Unconfirmed)
}

func newLedger(timeline *Timeline, brokers int) *Ledger {
	l := &Ledger{timeline: timeline}
	l.mu.faults, l.mu.resumed = make([][]interval, brokers), make([]time.Duration, brokers)
	return l
}

// faulted says that a broker is not well from now on.
func (l *Ledger) faulted(broker int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.resumed[broker] = 0
	faults := l.mu.faults[broker]
	now := l.timeline.now()
	if n := len(faults); n > 0 && (faults[n-1].until == 0 || faults[n-1].until >= now) {
		faults[n-1].until = 0
		return
	}
	l.mu.faults[broker] = append(faults, interval{from: now})
}

// healed says that what made a broker unwell is over.
func (l *Ledger) healed(broker int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.mu.faults[broker]); n > 0 {
		l.mu.faults[broker][n-1].until = l.timeline.now() + settleTime
	}
}

// goesOn says that a broker goes on, that was paused and nothing else.
func (l *Ledger) goesOn(broker int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.resumed[broker] = l.timeline.now()
}

// well reports whether a broker had no fault from a time on. REQUIRES: mu held.
func (l *Ledger) well(broker int, since time.Duration) bool {
	faults := l.mu.faults[broker]
	n := len(faults)
	return n == 0 || faults[n-1].until != 0 && faults[n-1].until < since
}

// allWell reports whether no broker had a fault from a time on. REQUIRES: mu held.
func (l *Ledger) allWell(since time.Duration) bool {
	for b := range l.mu.faults {
		if !l.well(b, since) {
			return false
		}
	}
	return true
}

// publisher enters a publisher and returns its number.
func (l *Ledger) publisher() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.records = append(l.mu.records, nil)
	return len(l.mu.records) - 1
}

// connected enters a client's connection to a broker and returns its number.
func (l *Ledger) connected(broker int) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.links = append(l.mu.links, &link{broker: broker, last: make(map[int]uint32)})
	return int32(len(l.mu.links) - 1)
}

// disconnected says that a connection is gone: what it was not told it is never
// told.
func (l *Ledger) disconnected(connection int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.mu.links[connection]
	k.broken = true
	if l.well(k.broker, l.timeline.now()) {
		l.problem("a client's connection to b%d, which is well, is gone", k.broker+1)
	}
}

// publish enters a message that is about to be published.
func (l *Ledger) publish(publisher int, connection int32) message {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.records[publisher] = append(l.mu.records[publisher], record{
		published: uint32(l.timeline.now().Milliseconds()), from: connection, to: -1,
	})
	l.mu.counts.Published++
	return message{publisher, uint32(len(l.mu.records[publisher]))}
}

// confirm enters what a publisher was told.
func (l *Ledger) confirm(m message, ack bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.mu.records[m.publisher][m.seq-1]
	if ack {
		r.fate = confirmed
		l.mu.counts.Confirmed++
		return
	}
	r.fate = nacked
	l.mu.counts.Nacked++
	if l.well(l.mu.links[r.from].broker, millis(r.published)) {
		l.mu.counts.NackedLiving++
		l.problem("%v was nacked by b%d, which was well", m, l.mu.links[r.from].broker+1)
	}
}

func millis(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// deliver enters a delivery.
func (l *Ledger) deliver(connection int32, body []byte, redelivered bool) {
	m, err := decode(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || m.publisher >= len(l.mu.records) || m.seq == 0 || int(m.seq) > len(l.mu.records[m.publisher]) {
		l.mu.counts.Damaged++
		l.problem("damaged: %v, %v", m, err)
		return
	}
	r, to, now := &l.mu.records[m.publisher][m.seq-1], l.mu.links[connection], l.timeline.now()
	l.mu.counts.Delivered++
	if redelivered {
		l.mu.counts.Flagged++
	}
	switch {
	case r.count > 0:
		l.again(m, r, to, connection, redelivered)
	case redelivered && l.allWell(millis(r.published)):
		l.mu.counts.Doubled++
		l.problem("%v came redelivered to b%d, but first and with all brokers well", m, to.broker+1)
	case redelivered:
	case m.seq > to.last[m.publisher]:
		to.last[m.publisher] = m.seq
	case l.allWell(millis(r.published)):
		l.mu.counts.Reordered++
		l.problem("%v came to b%d after message %d", m, to.broker+1, to.last[m.publisher])
	default:
		// It may have been given to a client that died before it had it.
		if l.well(to.broker, now) {
			l.mu.counts.Unflagged++
		}
	}
	r.to, r.delivered = connection, uint32(now.Milliseconds())
	r.count = uint8(min(int(r.count)+1, 255))
}

// again judges a delivery that is not a message's first. REQUIRES: mu held.
func (l *Ledger) again(m message, r *record, to *link, connection int32, redelivered bool) {
	had, since := l.mu.links[r.to], millis(r.delivered)
	// A client of a broker that was paused reads late what it was sent early:
	// what was published before may come until then.
	if l.well(had.broker, since) && l.well(to.broker, millis(r.published)) {
		l.mu.counts.Doubled++
		l.problem("%v came to b%d (connection %d, redelivered %t), but b%d (connection %d) has it since %.3f (published %.3f) and is well",
			m, to.broker+1, connection, redelivered, had.broker+1, r.to, since.Seconds(), millis(r.published).Seconds())
		return
	}
	// Clients are not paused: they had read what their broker had sent before it
	// was. What it sends since is not what others have got meanwhile.
	if went := l.mu.resumed[to.broker]; went > since && l.well(had.broker, since) {
		l.mu.counts.Doubled++
		l.problem("%v came to b%d (connection %d, redelivered %t), which goes on since %.3f, but b%d (connection %d) has it since %.3f and is well",
			m, to.broker+1, connection, redelivered, went.Seconds(), had.broker+1, r.to, since.Seconds())
		return
	}
	l.mu.counts.Returned++
	switch {
	case !l.well(had.broker, since) && redelivered:
	case !l.well(had.broker, since) && l.well(to.broker, l.timeline.now()):
		l.mu.counts.Unflagged++
	case l.well(to.broker, l.timeline.now()):
		l.mu.counts.Late++
	}
}

// problem is called with mu held.
func (l *Ledger) problem(format string, args ...any) {
	if len(l.mu.problems) < 20 {
		l.mu.problems = append(l.mu.problems, fmt.Sprintf("%9.3f  %s", l.timeline.now().Seconds(), fmt.Sprintf(format, args...)))
	}
}

// outstanding is how many messages were confirmed, or may yet be, and were not
// delivered.
func (l *Ledger) outstanding() (undelivered, unconfirmed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, records := range l.mu.records {
		for i := range records {
			r := &records[i]
			if r.count == 0 && r.fate == confirmed {
				undelivered++
			}
			if r.fate == open && !l.mu.links[r.from].broken {
				unconfirmed++
			}
		}
	}
	return undelivered, unconfirmed
}

// delivered is the number of deliveries so far.
func (l *Ledger) delivered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.counts.Delivered
}

// Judge says, after everything was consumed, what was not as promised.
func (l *Ledger) Judge() (Counts, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, records := range l.mu.records {
		for i := range records {
			r, m := &records[i], message{p, uint32(i + 1)}
			if r.count == 0 && r.fate == confirmed {
				l.mu.counts.Lost++
				l.problem("%v, published at %.3f through b%d, was confirmed and is lost", m, millis(r.published).Seconds(), l.mu.links[r.from].broker+1)
			}
			if r.fate == open && !l.mu.links[r.from].broken {
				l.mu.counts.Unconfirmed++
				l.problem("%v, published at %.3f through b%d, was never confirmed", m, millis(r.published).Seconds(), l.mu.links[r.from].broker+1)
			}
		}
	}
	problems := l.mu.problems
	if n := l.mu.counts.bad(); n > 0 && len(problems) == 0 {
		problems = append(problems, l.mu.counts.String())
	}
	return l.mu.counts, problems
}

// sofar is what was found before the end.
func (l *Ledger) sofar() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{l.mu.counts.String()}, l.mu.problems...)
}
