package queue

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// sampleOps has an op of every kind.
func sampleOps() []byte {
	some := []entry.Range{{First: 1, Last: 2}, {First: 4, Last: 4}}
	ops := AppendCreate(nil, 1, Settings{Vhost: "/", Name: "a", AckQuorum: "2", Extra: []byte{9, 1, 'x'}})
	ops = AppendCreate(ops, 2, Settings{})
	ops = AppendCreate(ops, 3, Settings{Expires: true, MessageTTL: time.Second})
	for range 5 {
		ops = append(AppendEnqueue(ops, []entry.QueueID{1, 2}, 3), "abc"...)
	}
	for _, lifetime := range []time.Duration{0, time.Millisecond, time.Minute} {
		ops = append(AppendEnqueueExpiring(ops, lifetime, []entry.QueueID{2, 3}, 2), "xy"...)
	}
	for _, number := range []uint64{1, 2, 2, 9000, 3} {
		ops = append(AppendEnqueue(AppendOnce(ops, "/", []byte("p"), number), []entry.QueueID{1, 3}, 1), 'z')
	}
	ops = AppendEnqueueExpiring(AppendOnce(ops, "", []byte("other"), MaxSequence), 0, []entry.QueueID{2}, 0)
	ops = AppendSettle(ops, 1, some)
	ops = AppendReturn(ops, 2, some)
	ops = AppendMark(ops, 2, 4)
	ops = AppendPurge(ops, 2, 3, some[:1])
	ops = AppendDelete(ops, 1, true)
	return AppendEndSession(ops, 9)
}

func sampleMachine() *Machine {
	m := NewMachine()
	var fx Effects
	must(m.Apply(3, AppendSubmission(AppendBatch(nil, 77), 5, 6, sampleOps()), &fx))
	return m
}

func FuzzOps(f *testing.F) {
	f.Add([]byte{})
	f.Add(sampleOps())
	f.Fuzz(func(t *testing.T, ops []byte) {
		checked := CheckOps(ops)
		m := sampleMachine()
		var fx Effects
		err := m.Apply(4, AppendSubmission(AppendBatch(nil, 1), 0, 0, ops), &fx)
		if (checked == nil) != (err == nil) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("check says %v, apply %v", checked, err)
		}
		if err != nil {
			return
		}
		for _, q := range m.queues {
			q.check(t.Fatalf)
		}
		m.entries.check(t.Fatalf)
		m.producers.check(t.Fatalf)
		restored(t, m)
		// A second time, what the ops refer to is other or gone.
		if err := m.Apply(5, AppendSubmission(AppendBatch(nil, 1), 0, 0, ops), &fx); err != nil {
			t.Fatal(err)
		}
		restored(t, m)
	})
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte{})
	batch := AppendSubmission(AppendBatch(nil, 1), 1, 1, sampleOps())
	f.Add(batch)
	f.Add(AppendSubmission(batch, 1, 1, nil))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := sampleMachine()
		d := NewDispatcher(m)
		must(d.Attach(Consumer{ID: 1, Queue: 2}))
		d.DispatchPending(func(Delivery) {})
		d.Expired(func(entry.QueueID, []entry.Range) {})
		var fx Effects
		if err := m.Apply(9, payload, &fx); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		d.Applied(&fx)
		d.DispatchPending(func(Delivery) {})
		d.Clock(d.now + int64(time.Second))
		d.Expired(func(entry.QueueID, []entry.Range) {})
		for id := range m.queues {
			info, _ := m.Queue(id)
			if d.Ready(id)+d.Unacked(id) != info.Messages {
				t.Fatalf("queue %d: %d ready, %d unacked of %d", id, d.Ready(id), d.Unacked(id), info.Messages)
			}
		}
		restored(t, m)
	})
}

func FuzzRestore(f *testing.F) {
	for _, m := range []*Machine{NewMachine(), sampleMachine()} {
		var b bytes.Buffer
		must(m.Checkpoint(&b))
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Restore(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		m = restored(t, m)
		m.producers.check(t.Fatalf)
		var fx Effects
		if m.Applied() >= maxIndex {
			return
		}
		for _, q := range m.Queues() {
			m.Each(q, 0, func(msg Message) bool {
				if !m.Live(msg.Ref.Index) {
					t.Fatalf("%v is not live", msg)
				}
				return true
			})
		}
		if err := m.Apply(m.Applied()+1, AppendSubmission(AppendBatch(nil, 1), 0, 0, sampleOps()), &fx); err != nil {
			t.Fatal(err)
		}
	})
}
