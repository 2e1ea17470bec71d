package queue

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// fill applies batches as a leader does: n messages in entries of size each,
// spread over queues, every one a plain enqueue with a content of 32 bytes.
func fill(m *Machine, queues, n, size int) {
	var fx Effects
	var ops, payload []byte
	content := make([]byte, 32)
	if m.Applied() == 0 {
		for q := range queues {
			ops = AppendCreate(ops, entry.QueueID(q+1), Settings{Name: "q"})
		}
		must(m.Apply(1, AppendSubmission(AppendBatch(nil, 1), 0, 0, ops), &fx))
	}
	for done := 0; done < n; done += size {
		ops = ops[:0]
		for i := range min(size, n-done) {
			q := [1]entry.QueueID{entry.QueueID((done+i)%queues + 1)}
			ops = append(AppendEnqueue(ops, q[:], len(content)), content...)
		}
		payload = AppendSubmission(AppendBatch(payload[:0], 1), 0, 0, ops)
		must(m.Apply(m.Applied()+1, payload, &fx))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func heapInUse() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// The promise of the design: at most 40 bytes a waiting message, all included.
func TestAWaitingMessageTakesAtMost40Bytes(t *testing.T) {
	const n = 1_000_000
	for _, c := range []struct {
		name         string
		queues, size int
	}{
		{"100 messages an entry", 1, 100},
		{"one message an entry", 1, 1},
		{"one message an entry, 100 queues", 100, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heapInUse()
			m := NewMachine()
			fill(m, c.queues, n, c.size)
			each := float64(heapInUse()-before) / n
			t.Logf("%.1f bytes a message", each)
			if each > 40 {
				t.Errorf("%.1f bytes a message", each)
			}

			m = restored(t, m)
			each = float64(heapInUse()-before) / n
			t.Logf("%.1f bytes a message when restored", each)
			if each > 40 {
				t.Errorf("%.1f bytes a message when restored", each)
			}

			d := NewDispatcher(m)
			given := 0
			for q := range c.queues {
				must(d.Attach(Consumer{ID: ConsumerID(q + 1), Queue: entry.QueueID(q + 1)}))
			}
			d.DispatchPending(func(Delivery) { given++ })
			each = float64(heapInUse()-before) / n
			t.Logf("%.1f bytes a message when all are given out", each)
			if given != n || each > 44 { // that they are given out takes 8 of them
				t.Errorf("%.1f bytes a message with %d given out", each, given)
			}
			runtime.KeepAlive(d)
		})
	}
}

// Messages that expire may take 16 bytes more.
func TestAMessageThatExpiresTakesAtMost16BytesMore(t *testing.T) {
	const n = 1_000_000
	for _, c := range []struct {
		name     string
		size     int
		ttl, own bool
	}{
		{"TTL, 100 messages an entry", 100, true, false},
		{"TTL, one message an entry", 1, true, false},
		{"expirations, one message an entry", 1, false, true},
		{"both, one message an entry", 1, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heapInUse()
			m := NewMachine()
			var fx Effects
			settings := Settings{Expires: c.ttl, MessageTTL: time.Hour}
			must(m.Apply(1, AppendSubmission(AppendBatch(nil, 1), 0, 0, AppendCreate(nil, 1, settings)), &fx))
			var ops, payload []byte
			for i := 0; i < n; i += c.size {
				ops = ops[:0]
				for j := range c.size {
					if c.own {
						ops = AppendEnqueueExpiring(ops, time.Duration(i+j)*time.Millisecond, []entry.QueueID{1}, 0)
					} else {
						ops = AppendEnqueue(ops, []entry.QueueID{1}, 0)
					}
				}
				payload = AppendSubmission(AppendBatch(payload[:0], int64(i+1)), 0, 0, ops)
				must(m.Apply(m.Applied()+1, payload, &fx))
			}
			each := float64(heapInUse()-before) / n
			t.Logf("%.1f bytes a message", each)
			if each > 29+16 { // TestAWaitingMessageTakesAtMost40Bytes says 29
				t.Errorf("%.1f bytes a message", each)
			}
			m = restored(t, m)
			d := NewDispatcher(m)
			d.Clock(1 << 62)
			expired := uint64(0)
			for len(d.alarms) > 0 {
				d.Expired(func(_ entry.QueueID, ranges []entry.Range) {
					for _, r := range ranges {
						expired += r.Len()
					}
				})
			}
			if expired != n {
				t.Errorf("%d expired", expired)
			}
		})
	}
}

// One message of a thousand stays behind, in every queue and entry: what the
// others took must be gone with them.
func TestOldMessagesPinLittle(t *testing.T) {
	const n, keep = 1_000_000, 1000
	before := heapInUse()
	m := NewMachine()
	fill(m, 1, n, 1)
	var fx Effects
	for first := entry.MessageID(1); first < n; first += keep {
		ops := AppendSettle(nil, 1, []entry.Range{{First: first, Last: first + keep - 2}})
		must(m.Apply(m.Applied()+1, AppendSubmission(AppendBatch(nil, 1), 0, 0, ops), &fx))
	}
	info, _ := m.Queue(1)
	left := heapInUse() - before
	t.Logf("%d bytes for %d messages", left, info.Messages)
	if info.Messages != n/keep || left > 600_000 { // of which the pools have 500,000
		t.Errorf("%d bytes for %d messages", left, info.Messages)
	}
	runtime.KeepAlive(m)
}

// The bound is ten times what it takes on an idle machine of 2020.
func TestCheckpointAndRestoreAreFast(t *testing.T) {
	m := NewMachine()
	fill(m, 1, 1_000_000, 10)
	var out bytes.Buffer
	start := time.Now()
	must(m.Checkpoint(&out))
	wrote := time.Since(start)
	start = time.Now()
	_, err := Restore(&out)
	must(err)
	t.Logf("checkpoint %v, restore %v", wrote, time.Since(start))
	if took := time.Since(start) + wrote; took > 2*time.Second {
		t.Errorf("1,000,000 messages took %v", took)
	}
}

func BenchmarkApplyEnqueue(b *testing.B) {
	for _, c := range []struct {
		name         string
		queues, size int
	}{{"1queue-100perEntry", 1, 100}, {"1queue-1perEntry", 1, 1}, {"10queues-100perEntry", 10, 100}} {
		b.Run(c.name, func(b *testing.B) {
			m := NewMachine()
			fill(m, c.queues, 1, 1)
			var ops []byte
			for i := range c.size {
				q := [1]entry.QueueID{entry.QueueID(i%c.queues + 1)}
				ops = append(AppendEnqueue(ops, q[:], 32), make([]byte, 32)...)
			}
			payload := AppendSubmission(AppendBatch(nil, 1), 0, 0, ops)
			var fx Effects
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += c.size {
				must(m.Apply(m.Applied()+1, payload, &fx))
				if i%5_000_000 < c.size && i > 0 { // keep the memory bounded
					b.StopTimer()
					m = NewMachine()
					fill(m, c.queues, 1, 1)
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkThrough is the way of a message through both: applied, given out to
// one of two consumers, settled in ranges, and the settle applied, with a
// backlog of messages in the queue.
func BenchmarkThrough(b *testing.B) {
	const size = 100
	for _, c := range []struct {
		name    string
		backlog int
	}{{"empty", 0}, {"backlog1M", 1_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			m := NewMachine()
			fill(m, 1, c.backlog, size)
			if c.backlog == 0 {
				fill(m, 1, 1, 1)
			}
			d := NewDispatcher(m)
			must(d.Attach(Consumer{ID: 1, Holder: 1, Queue: 1, Prefetch: 500, Link: 1000}))
			must(d.Attach(Consumer{ID: 2, Holder: 2, Queue: 1, Prefetch: 500, Link: 1000}))
			var fx Effects
			var ops, payload []byte
			var ranges [3][]entry.Range
			var n [3]uint32
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				ops = ops[:0]
				for range size {
					ops = append(AppendEnqueue(ops, []entry.QueueID{1}, 32), zeros[:]...)
				}
				for h := range ranges {
					if len(ranges[h]) > 0 {
						d.Settled(HolderID(h), 1, ranges[h])
						d.Credit(ConsumerID(h), n[h])
						ops = AppendSettle(ops, 1, ranges[h])
						ranges[h], n[h] = ranges[h][:0], 0
					}
				}
				payload = AppendSubmission(AppendBatch(payload[:0], 1), 7, m.Applied(), ops)
				must(m.Apply(m.Applied()+1, payload, &fx))
				d.Applied(&fx)
				d.DispatchPending(func(dl Delivery) {
					ranges[dl.Holder] = entry.AppendID(ranges[dl.Holder], dl.Message)
					n[dl.Holder]++
				})
			}
		})
	}
}

var zeros [32]byte

func BenchmarkDispatch(b *testing.B) {
	const backlog = 1_000_000
	m := NewMachine()
	fill(m, 1, backlog, 100)
	var d *Dispatcher
	got := 0
	fn := func(Delivery) { got++ }
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += backlog {
		b.StopTimer()
		d = NewDispatcher(m)
		for c := range ConsumerID(10) {
			must(d.Attach(Consumer{ID: c + 1, Holder: HolderID(c), Queue: 1, Prefetch: backlog}))
		}
		b.StartTimer()
		d.Dispatch(1, fn)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(got), "ns/delivery")
}

// BenchmarkExpire expires a backlog: found, settled, and the settle applied.
func BenchmarkExpire(b *testing.B) {
	const size = 100
	for _, own := range []bool{false, true} {
		b.Run(map[bool]string{false: "ttl", true: "expiration"}[own], func(b *testing.B) {
			var fx Effects
			var ops, payload []byte
			m := NewMachine()
			settings := Settings{Expires: !own, MessageTTL: time.Millisecond}
			must(m.Apply(1, AppendSubmission(AppendBatch(nil, 1), 0, 0, AppendCreate(nil, 1, settings)), &fx))
			d := NewDispatcher(m)
			b.ReportAllocs()
			for i := 0; i < b.N; i += size {
				ops = ops[:0]
				for range size {
					if own {
						ops = AppendEnqueueExpiring(ops, time.Millisecond, []entry.QueueID{1}, 32)
					} else {
						ops = AppendEnqueue(ops, []entry.QueueID{1}, 32)
					}
					ops = append(ops, zeros[:]...)
				}
				d.Expired(func(q entry.QueueID, ranges []entry.Range) { ops = AppendSettle(ops, q, ranges) })
				payload = AppendSubmission(AppendBatch(payload[:0], int64(i)*1e6+1), 7, m.Applied(), ops)
				must(m.Apply(m.Applied()+1, payload, &fx))
				d.Applied(&fx)
				d.Clock(int64(i)*1e6 + 2e6)
			}
		})
	}
}

// BenchmarkSettleOutOfOrder settles one message at a time in no order.
func BenchmarkSettleOutOfOrder(b *testing.B) {
	const backlog = 100_000
	ids := make([]entry.MessageID, backlog)
	for i := range ids {
		ids[i] = entry.MessageID(uint64(i)*7919%backlog + 1)
	}
	var fx Effects
	b.ReportAllocs()
	for i := 0; i < b.N; i += backlog {
		b.StopTimer()
		m := NewMachine()
		fill(m, 1, backlog, 10)
		d := NewDispatcher(m)
		must(d.Attach(Consumer{ID: 1, Holder: 1, Queue: 1}))
		d.DispatchPending(func(Delivery) {})
		var payload []byte
		b.StartTimer()
		for part := range slices.Chunk(ids, 50) {
			payload = AppendBatch(payload[:0], 1)
			var ranges [50]entry.Range
			for j, id := range part {
				ranges[j] = entry.Range{First: id, Last: id}
			}
			d.Settled(1, 1, ranges[:])
			payload = AppendSubmission(payload, 0, 0, AppendSettle(nil, 1, ranges[:]))
			must(m.Apply(m.Applied()+1, payload, &fx))
			d.Applied(&fx)
		}
	}
}

func BenchmarkSnapshot1M(b *testing.B) {
	m := NewMachine()
	fill(m, 1, 1_000_000, 10)
	for b.Loop() {
		m.Snapshot()
	}
}

func BenchmarkCheckpoint1M(b *testing.B) {
	m := NewMachine()
	fill(m, 1, 1_000_000, 10)
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		must(m.Checkpoint(&out))
	}
}

func BenchmarkRestore1M(b *testing.B) {
	for _, queues := range []int{1, 10} {
		b.Run(map[int]string{1: "1queue", 10: "10queues"}[queues], func(b *testing.B) {
			m := NewMachine()
			fill(m, queues, 1_000_000, 10)
			var out bytes.Buffer
			must(m.Checkpoint(&out))
			for b.Loop() {
				_, err := Restore(bytes.NewReader(out.Bytes()))
				must(err)
			}
		})
	}
}

// BenchmarkCloseHolder closes one of 100 holders that hold 1,000,000 messages
// of a queue together: the cost that CloseHolder's comment speaks of.
func BenchmarkCloseHolder(b *testing.B) {
	m := NewMachine()
	fill(m, 1, 1_000_000, 10)
	var d *Dispatcher
	next := HolderID(100)
	for b.Loop() {
		if next == 100 {
			b.StopTimer()
			d, next = NewDispatcher(m), 0
			for h := range HolderID(100) {
				must(d.Attach(Consumer{ID: ConsumerID(h + 1), Holder: h, Queue: 1}))
			}
			d.DispatchPending(func(Delivery) {})
			b.StartTimer()
		}
		d.CloseHolder(next)
		next++
	}
}
