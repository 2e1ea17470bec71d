package bench

import (
	"fmt"
	"math/bits"

	"github.com/mirrormq/mirrormq/bench/driver"
)

// ledger is what one consumer has seen of each publisher: which sequence
// numbers, and whether they came in order. Memory is a bit per message.
type ledger struct {
	run    uint64
	last   []uint64   // by publisher: the newest sequence seen
	bits   [][]uint64 // by publisher: bit n is sequence n
	counts struct {
		damaged, foreign, unordered, repeated, redelivered uint64
	}
}

func newLedger(publishers int, run uint64) *ledger {
	return &ledger{run: run, last: make([]uint64, publishers), bits: make([][]uint64, publishers)}
}

// note enters a delivery, and says whether it is one of this run's messages.
// Of one publisher, a consumer sees growing numbers unless the broker says
// that a message was delivered before.
func (l *ledger) note(d driver.Delivery) (stamp, bool) {
	s, err := readStamp(d.Body)
	if err != nil {
		l.counts.damaged++
		return s, false
	}
	if s.run != l.run || int(s.from) >= len(l.last) || s.sequence == 0 {
		l.counts.foreign++
		return s, false
	}
	if d.Redelivered {
		l.counts.redelivered++
	} else if s.sequence <= l.last[s.from] {
		l.counts.unordered++
	}
	l.last[s.from] = max(l.last[s.from], s.sequence)
	if !l.set(s.from, s.sequence) {
		l.counts.repeated++
	}
	return s, true
}

// set marks a sequence number and says whether it is new.
func (l *ledger) set(from uint32, sequence uint64) bool {
	word, bit := sequence/64, uint64(1)<<(sequence%64)
	for uint64(len(l.bits[from])) <= word {
		l.bits[from] = append(l.bits[from], 0)
	}
	if l.bits[from][word]&bit != 0 {
		return false
	}
	l.bits[from][word] |= bit
	return true
}

// merge adds what other saw. A message that both saw counts as repeated.
func (l *ledger) merge(other *ledger) {
	for from, words := range other.bits {
		for uint64(len(l.bits[from])) < uint64(len(words)) {
			l.bits[from] = append(l.bits[from], 0)
		}
		for i, word := range words {
			l.counts.repeated += uint64(bits.OnesCount64(l.bits[from][i] & word))
			l.bits[from][i] |= word
		}
	}
	l.counts.damaged += other.counts.damaged
	l.counts.foreign += other.counts.foreign
	l.counts.unordered += other.counts.unordered
	l.counts.repeated += other.counts.repeated
	l.counts.redelivered += other.counts.redelivered
}

// problems compares with how many messages each publisher sent, and says in
// words what is wrong: nothing, when each was seen once, in order, intact.
func (l *ledger) problems(sent []uint64) []string {
	var lost uint64
	example := ""
	for from, n := range sent {
		seen, firstMissing := uint64(0), uint64(0)
		for sequence := uint64(1); sequence <= n; sequence++ {
			if sequence/64 < uint64(len(l.bits[from])) && l.bits[from][sequence/64]&(1<<(sequence%64)) != 0 {
				seen++
			} else if firstMissing == 0 {
				firstMissing = sequence
			}
		}
		lost += n - seen
		if firstMissing != 0 && example == "" {
			example = fmt.Sprintf(" (publisher %d's message %d is the first)", from, firstMissing)
		}
	}
	var problems []string
	say := func(n uint64, what string) {
		if n > 0 {
			problems = append(problems, fmt.Sprintf("%d messages %s", n, what))
		}
	}
	say(lost, "lost"+example)
	say(l.counts.repeated, "delivered more than once")
	say(l.counts.unordered, "out of their publisher's order")
	say(l.counts.damaged, "damaged")
	say(l.counts.foreign, "of another run")
	return problems
}
