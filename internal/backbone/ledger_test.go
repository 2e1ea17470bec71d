package backbone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// way names one direction of a class between two brokers, over all its lives.
type way struct {
	class    Class
	from, to string
}

// ledger knows what was sent and what was heard, and judges it. Messages begin
// with a table: their number on the way to each recipient.
type ledger struct {
	mu      sync.Mutex
	next    map[way]uint64
	last    map[way]uint64          // that arrived
	missing map[way]map[uint64]bool // accepted, above last; true: its loss is explained
	skipped map[way]map[uint64]bool // accepted, below last, loss not explained
	mayGap  map[way]bool            // the receiver was told, or is fresh

	faults                             []string
	accepted, arrived, excused, broken int
}

func newLedger() *ledger {
	return &ledger{
		next: map[way]uint64{}, last: map[way]uint64{}, mayGap: map[way]bool{},
		missing: map[way]map[uint64]bool{}, skipped: map[way]map[uint64]bool{},
	}
}

// sending numbers a message on its way to each recipient.
func (l *ledger) sending(c Class, from string, to []string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := []byte{byte(len(to))}
	for _, name := range to {
		w := way{c, from, name}
		l.next[w]++
		head = binary.LittleEndian.AppendUint64(append(head, name[1]), l.next[w])
	}
	return head
}

// sent notes for which recipients the message was accepted.
func (l *ledger) sent(c Class, from string, to []string, head []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var refused *SendError
	if err != nil && !errors.As(err, &refused) {
		l.faults = append(l.faults, fmt.Sprintf("%s: %v", from, err))
		return
	}
next:
	for k, name := range to {
		if refused != nil {
			for _, r := range refused.Refusals {
				if r.To == name {
					continue next
				}
			}
		}
		l.accepted++
		w, number := way{c, from, name}, binary.LittleEndian.Uint64(head[2+9*k:])
		if number > l.last[w] {
			if l.missing[w] == nil {
				l.missing[w] = map[uint64]bool{}
			}
			l.missing[w][number] = false
		}
	}
}

// heard judges what a broker's handler was told.
func (l *ledger) heard(at string, h happening) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch h.what {
	case "message":
		for b := h.payload[1 : 1+9*int(h.payload[0])]; len(b) > 0; b = b[9:] {
			if b[0] == at[1] {
				l.arrive(way{h.class, h.peer, at}, binary.LittleEndian.Uint64(b[1:]))
			}
		}
	case "reset":
		l.mayGap[way{h.class, h.peer, at}] = true
	case "broken":
		l.broken++
		l.excuse(way{h.class, at, h.peer})
	}
}

func (l *ledger) arrive(w way, number uint64) {
	l.arrived++
	if number <= l.last[w] {
		l.faults = append(l.faults, fmt.Sprintf("%v: %d came after %d", w, number, l.last[w]))
		return
	}
	delete(l.missing[w], number)
	for skipped, explained := range l.missing[w] {
		if skipped > number {
			continue
		}
		if !l.mayGap[w] {
			l.faults = append(l.faults, fmt.Sprintf("%v: %d came without %d, and no reset before it", w, number, skipped))
		}
		if !explained {
			if l.skipped[w] == nil {
				l.skipped[w] = map[uint64]bool{}
			}
			l.skipped[w][skipped] = true
		}
		delete(l.missing[w], skipped)
	}
	l.last[w], l.mayGap[w] = number, false
}

// excuse: the sender knows that what it has sent until now may be lost.
func (l *ledger) excuse(w way) {
	l.excused += len(l.skipped[w])
	delete(l.skipped, w)
	for number, explained := range l.missing[w] {
		if !explained {
			l.missing[w][number] = true
			l.excused++
		}
	}
}

// born: a fresh receiver has nothing that could have a gap.
func (l *ledger) born(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.next {
		if w.to == name {
			l.mayGap[w] = true
		}
	}
}

// died: a dead sender need not be told.
func (l *ledger) died(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.next {
		if w.from == name {
			l.excuse(w)
		}
	}
}

// unexplained names messages that neither arrived nor were reported.
func (l *ledger) unexplained() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w, numbers := range l.skipped {
		for number := range numbers {
			return fmt.Sprintf("%v: %d", w, number)
		}
	}
	for w, numbers := range l.missing {
		for number, explained := range numbers {
			if !explained {
				return fmt.Sprintf("%v: %d", w, number)
			}
		}
	}
	return ""
}

func (l *ledger) report(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, f := range l.faults {
		if k < 20 {
			t.Error(f)
		}
	}
	t.Logf("%d accepted, %d arrived, %d of them reported as perhaps lost, %d links broken",
		l.accepted, l.arrived, l.excused, l.broken)
}
