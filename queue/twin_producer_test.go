package queue

import (
	"slices"
	"time"

	"pgregory.net/rapid"
)

// twinProducer is what the twin remembers of a producer: everything.
type twinProducer struct {
	name    string
	seen    int64
	numbers map[uint64]bool
}

// twinProducers bounds them: few, so that some are forgotten.
const twinProducers = 3

func (p *twinProducer) highest() (highest uint64) {
	for n := range p.numbers {
		highest = max(highest, n)
	}
	return highest
}

func (w *twin) producer(name string) *twinProducer {
	for _, p := range w.producers {
		if p.name == name {
			return p
		}
	}
	return nil
}

// forget forgets who was idle for a day.
func (w *twin) forget() {
	w.producers = slices.DeleteFunc(w.producers, func(p *twinProducer) bool { return w.now-p.seen >= int64(24*time.Hour) })
}

// touched makes a producer the last one of the list.
func (w *twin) touched(p *twinProducer) {
	p.seen = w.now
	w.producers = append(slices.DeleteFunc(w.producers, func(other *twinProducer) bool { return other == p }), p)
	if len(w.producers) > twinProducers {
		w.producers = w.producers[1:]
	}
}

// judge tells whether the twin's queues take an enqueue.
func (w *twin) judge(i int, o twinOp, r *Result, fx *Effects) bool {
	p := w.producer(o.producer)
	if o.number == 0 || p == nil {
		return true
	}
	highest := p.highest()
	old := o.number+8192 <= highest
	if old {
		r.Ops = append(r.Ops, OpResult{Op: i, Kind: o.kind, Code: TooOld, N: highest})
		fx.TooOld = append(fx.TooOld, Numbered{"/", o.producer, o.number, highest})
	}
	if !r.Duplicate {
		w.touched(p)
		if !old && p.numbers[o.number] {
			fx.Dropped++
		}
	}
	return !old && !p.numbers[o.number]
}

// remember notes an enqueue that a queue took.
func (w *twin) remember(o twinOp) {
	if o.number == 0 {
		return
	}
	p := w.producer(o.producer)
	if p == nil {
		p = &twinProducer{name: o.producer, numbers: map[uint64]bool{}}
	}
	p.numbers[o.number] = true
	w.touched(p)
}

// drawProducer makes an enqueue one of a producer's, mostly.
func (w *twin) drawProducer(t *rapid.T, o *twinOp) {
	if die(t, 3) == 0 {
		return
	}
	o.producer = []string{"p", "p", "q", "r", "s"}[die(t, 5)]
	highest := uint64(0)
	if p := w.producer(o.producer); p != nil {
		highest = p.highest()
	}
	switch die(t, 8) {
	default:
		o.number = highest + 1
	case 1, 2, 3:
		o.number = highest - min(highest, uint64(die(t, 70)))
	case 4:
		o.number = highest - min(highest, 8192-2) + uint64(die(t, 4))
	case 5:
		o.number = highest + uint64(die(t, 9000))
	}
	o.number = max(o.number, 1)
}

// compareProducers holds the machine's producers against the twin's.
func (w *twin) compareProducers(fail func(string, ...any), m *Machine) {
	m.producers.check(fail)
	var got, want []string
	for p := m.producers.oldest; p != nil; p = p.next {
		_, name := splitProducer([]byte(p.key))
		got = append(got, string(name))
	}
	for _, p := range w.producers {
		want = append(want, p.name)
	}
	if !slices.Equal(got, want) {
		fail("producers %v, want %v", got, want)
	}
	p := m.producers.oldest
	for _, twin := range w.producers {
		if p.seen != twin.seen || p.window.highest != twin.highest() {
			fail("producer %s: seen %d up to %d, want %d up to %d", twin.name, p.seen, p.window.highest, twin.seen, twin.highest())
		}
		for n := range twin.numbers {
			if !p.window.below(n) && !p.window.has(n) {
				fail("producer %s: %d is not there", twin.name, n)
			}
		}
		p = p.next
	}
}
