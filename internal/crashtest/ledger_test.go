package crashtest

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// id names a message: its publisher and the publisher's own count from 1.
type id struct {
	publisher uint32
	seq       uint64
}

func (i id) String() string { return fmt.Sprintf("publisher %d message %d", i.publisher, i.seq) }

// encode is the start of the message's body; the rest is filled from it, so
// that a body that was mixed up is noticed.
func (i id) encode(size int) []byte {
	body := make([]byte, max(size, 12))
	binary.BigEndian.PutUint32(body, i.publisher)
	binary.BigEndian.PutUint64(body[4:], i.seq)
	for k := 12; k < len(body); k++ {
		body[k] = byte(uint64(k) * (i.seq + 7))
	}
	return body
}

func decode(body []byte) (id, error) {
	if len(body) < 12 {
		return id{}, fmt.Errorf("body of %d bytes", len(body))
	}
	i := id{binary.BigEndian.Uint32(body), binary.BigEndian.Uint64(body[4:])}
	for k := 12; k < len(body); k++ {
		if body[k] != byte(uint64(k)*(i.seq+7)) {
			return i, fmt.Errorf("%v: byte %d of %d is damaged", i, k, len(body))
		}
	}
	return i, nil
}

// ledger is what the clients know, over all rounds.
type ledger struct {
	mu struct {
		sync.Mutex
		confirmed map[id]bool
		delivered map[id]bool
		settled   map[id]bool // the ack is synced
		problems  []string
	}
}

func newLedger() *ledger {
	l := &ledger{}
	l.mu.confirmed = make(map[id]bool)
	l.mu.delivered = make(map[id]bool)
	l.mu.settled = make(map[id]bool)
	return l
}

func (l *ledger) confirm(i id) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.confirmed[i] = true
}

// deliver notes a delivery. last is the newest seq of the same publisher that
// the same consumer had before, 0 for none.
func (l *ledger) deliver(i id, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.settled[i] {
		l.problem("%v came back after its ack was synced", i)
	}
	if i.seq <= last {
		l.problem("%v came after message %d of the same publisher", i, last)
	}
	l.mu.delivered[i] = true
}

func (l *ledger) settle(ids []id) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range ids {
		l.mu.settled[i] = true
	}
}

// damage notes a body that is not what was published.
func (l *ledger) damage(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem("%v", err)
}

// problem is called with mu held.
func (l *ledger) problem(format string, args ...any) {
	if len(l.mu.problems) < 20 {
		l.mu.problems = append(l.mu.problems, fmt.Sprintf(format, args...))
	}
}

// lost lists confirmed messages that were never delivered.
func (l *ledger) lost() []id {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []id
	for i := range l.mu.confirmed {
		if !l.mu.delivered[i] {
			lost = append(lost, i)
		}
	}
	return lost
}

func (l *ledger) report() (confirmed, delivered, settled int, problems []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.confirmed), len(l.mu.delivered), len(l.mu.settled), append([]string(nil), l.mu.problems...)
}
