package queue

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// check checks the invariants of the list and of every window.
func (ps *producers) check(fail func(string, ...any)) {
	size, n := 0, 0
	var prev *producer
	for p := ps.oldest; p != nil; p = p.next {
		if p.prev != prev || ps.byKey[p.key] != p || prev != nil && prev.seen > p.seen || !p.window.valid() {
			fail("producer %q: %+v", p.key, p)
		}
		if n++; n > len(ps.byKey) {
			fail("more producers in the list than %d", len(ps.byKey))
		}
		size += producerBytes + len(p.key) + 8*len(p.window.words)
		prev = p
	}
	if ps.newest != prev || n != len(ps.byKey) || size != ps.bytes {
		fail("%d producers of %d bytes, %d are listed, of %d", len(ps.byKey), ps.bytes, n, size)
	}
}

// publishes is what a producer publishes to queues, one message a sequence.
func publishes(queues []entry.QueueID, producer string, sequences ...uint64) (ops []byte) {
	for _, sequence := range sequences {
		ops = AppendOnce(ops, "/", []byte(producer), sequence)
		ops = append(AppendEnqueue(ops, queues, 2), "hi"...)
	}
	return ops
}

// producerTest is a machine with two queues, and what came of the last entry.
type producerTest struct {
	*testing.T
	m  *Machine
	fx Effects
}

func newProducerTest(t *testing.T) *producerTest {
	p := &producerTest{T: t, m: NewMachine()}
	p.apply(1, AppendCreate(AppendCreate(nil, 1, Settings{}), 2, Settings{}))
	return p
}

// apply applies an entry of a leader at a time.
func (p *producerTest) apply(now int64, ops []byte) {
	p.Helper()
	if err := p.m.Apply(p.m.Applied()+1, AppendSubmission(AppendBatch(nil, now), 0, 0, ops), &p.fx); err != nil {
		p.Fatal(err)
	}
	p.m.producers.check(p.Fatalf)
}

// expect expects so many messages in the queues, and dropped in the last entry.
func (p *producerTest) expect(first, second uint64, dropped int) {
	p.Helper()
	a, _ := p.m.Queue(1)
	b, _ := p.m.Queue(2)
	if a.Messages != first || b.Messages != second || p.fx.Dropped != dropped {
		p.Errorf("%d and %d messages, %d dropped, want %d and %d, %d", a.Messages, b.Messages, p.fx.Dropped, first, second, dropped)
	}
}

// A producer's publish is enqueued once to all of its queues, whatever comes
// between, in whatever order and entry.
func TestAProducersPublishIsEnqueuedOnce(t *testing.T) {
	p := newProducerTest(t)
	p.apply(1, publishes([]entry.QueueID{1, 2}, "p", 1, 2, 1, 4))
	p.expect(3, 3, 1)
	p.apply(2, publishes([]entry.QueueID{1, 2}, "p", 4, 3, 2, 1, 5))
	p.expect(5, 5, 3)
	p.apply(3, publishes([]entry.QueueID{1, 2}, "another", 4))
	p.expect(6, 6, 0)
	p.apply(4, publishes([]entry.QueueID{2}, "p", 4))
	p.expect(6, 6, 1)
	if len(p.fx.Results[0].Ops) != 0 {
		t.Errorf("who publishes again is told %+v", p.fx.Results)
	}
	p.m = restored(t, p.m)
	p.apply(5, publishes([]entry.QueueID{1}, "p", 5, 6))
	p.expect(7, 6, 1)
}

func TestProducersOfOtherVhostsAreOthers(t *testing.T) {
	p := newProducerTest(t)
	for i, producer := range [][2]string{{"/", "p"}, {"", "/p"}, {"/p", "p"}, {"/", "p/"}} {
		ops := AppendOnce(nil, producer[0], []byte(producer[1]), 1)
		p.apply(1, append(AppendEnqueue(ops, []entry.QueueID{1}, 1), '!'))
		p.expect(uint64(i+1), 0, 0)
	}
}

// An expiration makes no difference.
func TestAMessageThatExpiresIsEnqueuedOnceToo(t *testing.T) {
	p := newProducerTest(t)
	for range 2 {
		ops := AppendOnce(nil, "/", []byte("p"), 7)
		p.apply(1, append(AppendEnqueueExpiring(ops, time.Second, []entry.QueueID{1}, 1), '!'))
	}
	p.expect(1, 0, 1)
}

// Of what lies below the window nobody knows whether it is there.
func TestAPublishBelowTheWindowIsRefused(t *testing.T) {
	p := newProducerTest(t)
	p.apply(1, publishes([]entry.QueueID{1}, "p", 2, 1+ProducerWindow))
	p.apply(1, publishes([]entry.QueueID{1}, "p", 3, 1, 2))
	p.expect(3, 0, 1)
	want := []OpResult{{Op: 1, Kind: Enqueue, Code: TooOld, N: 1 + ProducerWindow}}
	if !slices.Equal(p.fx.Results[0].Ops, want) {
		t.Errorf("%+v, want %+v", p.fx.Results[0].Ops, want)
	}
	if want := []Numbered{{"/", "p", 1, 1 + ProducerWindow}}; !slices.Equal(p.fx.TooOld, want) {
		t.Errorf("%+v, want %+v", p.fx.TooOld, want)
	}
}

// A submission that comes again, because nobody was told what became of it, has
// the same outcome.
func TestASubmissionThatComesAgainIsRefusedAgain(t *testing.T) {
	p := newProducerTest(t)
	p.apply(1, publishes([]entry.QueueID{1}, "p", 1+ProducerWindow))
	var results []string
	for range 2 {
		payload := AppendSubmission(AppendBatch(nil, 1), 7, 1, publishes([]entry.QueueID{1}, "p", 2, 1, 3))
		must(p.m.Apply(p.m.Applied()+1, payload, &p.fx))
		results = append(results, fmt.Sprint(p.fx.Results[0].Ops))
	}
	p.expect(3, 0, 0)
	if results[0] != results[1] || results[0] == "[]" {
		t.Errorf("%s, and again %s", results[0], results[1])
	}
	if !p.fx.Results[0].Duplicate {
		t.Errorf("%+v", p.fx.Results)
	}
}

// What is enqueued nowhere may come again when there is a queue for it.
func TestAPublishWithoutAQueueIsNotRemembered(t *testing.T) {
	p := newProducerTest(t)
	p.apply(1, publishes([]entry.QueueID{3, 4}, "p", 1))
	if p.m.Producers() != 0 {
		t.Error("a producer is remembered that never had a message enqueued")
	}
	p.apply(1, publishes([]entry.QueueID{3, 1}, "p", 1))
	p.expect(1, 0, 0)
}

// What is remembered is of the producer, not of the queue's messages.
func TestAPublishIsRememberedWhenItsMessageIsGone(t *testing.T) {
	p := newProducerTest(t)
	p.apply(1, publishes([]entry.QueueID{1}, "p", 1))
	p.apply(1, AppendSettle(nil, 1, []entry.Range{{First: 1, Last: 1}}))
	p.apply(1, publishes([]entry.QueueID{1}, "p", 1))
	p.expect(0, 0, 1)
	if !slices.Equal(p.fx.Released, []uint64{p.m.Applied()}) {
		t.Errorf("the entry of a message that was dropped is kept: released %v", p.fx.Released)
	}
}

func TestAProducerIsForgottenAfterADay(t *testing.T) {
	p := newProducerTest(t)
	const day = int64(ProducerMemory)
	p.apply(10, publishes([]entry.QueueID{1}, "p", 1))
	p.apply(20, publishes([]entry.QueueID{1}, "another", 1))
	p.apply(10+day-1, publishes([]entry.QueueID{1}, "p", 1)) // It is there, so it is not idle.
	p.expect(2, 0, 1)
	p.m = restored(t, p.m)
	p.apply(20+day, publishes([]entry.QueueID{1}, "another", 1))
	p.expect(3, 0, 0)
	p.apply(10+2*day-1, nil)
	if p.m.Producers() != 1 {
		t.Errorf("%d producers", p.m.Producers())
	}
	p.apply(10+2*day-1, publishes([]entry.QueueID{1}, "p", 1))
	p.expect(4, 0, 0)
}

// Of too many producers those are forgotten that published nothing for longest.
func TestTheNumberOfProducersIsBounded(t *testing.T) {
	p := newProducerTest(t)
	p.m.producers.most = 3
	for _, producer := range []string{"a", "b", "c", "a", "d"} {
		p.apply(1, publishes([]entry.QueueID{1}, producer, 1))
	}
	p.expect(4, 0, 0)
	p.apply(1, publishes([]entry.QueueID{1}, "a", 1))
	p.expect(4, 0, 1)
	p.apply(1, publishes([]entry.QueueID{1}, "b", 1))
	p.expect(5, 0, 0)
	p.apply(1, publishes([]entry.QueueID{1}, "c", 1))
	p.expect(6, 0, 0)
	if p.m.Producers() != 3 {
		t.Errorf("%d producers", p.m.Producers())
	}
}

func TestTheMemoryOfProducersIsBounded(t *testing.T) {
	p := newProducerTest(t)
	p.m.producers.mostBytes = 10 * (ProducerWindow/8 + 200)
	for i := range 100 {
		// Only each second: nothing of the window can be told in short.
		for seq := range uint64(2 * ProducerWindow / 100) {
			p.apply(1, publishes([]entry.QueueID{1}, fmt.Sprint("p", i), 2*seq*50+1))
		}
	}
	if n := p.m.Producers(); n < 8 || n > 10 {
		t.Errorf("%d producers of %d bytes", n, p.m.ProducerBytes())
	}
	p.m.producers.mostBytes = 1
	p.apply(1, publishes([]entry.QueueID{1}, "alone", 1))
	p.apply(1, publishes([]entry.QueueID{1}, "alone", 1))
	if p.m.Producers() != 1 || p.fx.Dropped != 1 {
		t.Error("the last one is forgotten too")
	}
}

// A snapshot is of its time: what a producer publishes later is not in it.
func TestASnapshotOfProducersStays(t *testing.T) {
	p := newProducerTest(t)
	p.apply(1, publishes([]entry.QueueID{1}, "p", 1, 3, 70, 9000))
	p.apply(1, publishes([]entry.QueueID{1}, "q", 63))
	s := p.m.Snapshot()
	var want, got bytes.Buffer
	must(p.m.Checkpoint(&want))
	p.apply(2, publishes([]entry.QueueID{1}, "p", 2, 9001, 20_000, 12_000))
	p.apply(3, publishes([]entry.QueueID{1}, "q", 10, 64, 65))
	must(s.Checkpoint(&got))
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("the snapshot changed")
	}
}
