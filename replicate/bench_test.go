package replicate

import (
	"fmt"
	"log/slog"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// benchLog keeps nothing but what it needs to say that it is durable.
type benchLog struct {
	fakeLog
	done []func(error)
}

func (l *benchLog) Append(_ entry.GroupID, _ []Entry, _ *HardState, done func(error)) {
	l.done = append(l.done, done)
}

func (l *benchLog) sync() {
	for i, done := range l.done {
		done(nil)
		l.done[i] = nil
	}
	l.done = l.done[:0]
}

func newBenchNode(b *testing.B) (node *Node, log *benchLog, cycle func()) {
	log = &benchLog{}
	var completions []Completion
	node, err := New(Config{
		ID: 1, Voters: []uint64{1}, Log: log, Logger: slog.New(slog.DiscardHandler),
		Notify: func(c Completion) { completions = append(completions, c) },
	})
	if err != nil {
		b.Fatal(err)
	}
	apply := func(uint64, uint64, []byte) error { return nil }
	cycle = func() {
		if _, err := node.Advance(apply); err != nil {
			b.Fatal(err)
		}
		log.sync()
		for _, c := range completions {
			node.Completed(c)
		}
		completions = completions[:0]
		if _, err := node.Advance(apply); err != nil {
			b.Fatal(err)
		}
	}
	for node.Status().Role != Leader || node.Status().Commit == 0 {
		cycle()
	}
	return node, log, cycle
}

// BenchmarkEntry is one entry's way: proposed, handed over, durable, committed,
// applied; all of it but the log.
func BenchmarkEntry(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			node, _, cycle := newBenchNode(b)
			payload := make([]byte, size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := node.Propose(payload); err != nil {
					b.Fatal(err)
				}
				cycle()
			}
		})
	}
}

// BenchmarkEntriesInFlight has eight entries on their way to the disk, each in
// a write of its own.
func BenchmarkEntriesInFlight(b *testing.B) {
	node, log, cycle := newBenchNode(b)
	payload := make([]byte, 1<<10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := node.Propose(payload); err != nil {
			b.Fatal(err)
		}
		if len(log.done) < 7 {
			if _, err := node.Advance(nil); err != nil {
				b.Fatal(err)
			}
			continue
		}
		cycle()
	}
}

// BenchmarkEntryRaftAlone is the same cycle as BenchmarkEntry in raft's own
// terms, over its MemoryStorage: what the driver cannot go below.
func BenchmarkEntryRaftAlone(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			storage := raft.NewMemoryStorage()
			if err := storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1}},
			}}); err != nil {
				b.Fatal(err)
			}
			config := Config{ID: 1, MaxApply: 4 << 20, MaxMessage: 1 << 20, MaxInflight: 1 << 20}
			node, err := raft.NewRawNode(config.raft(storage, raftLogger{slog.New(slog.DiscardHandler)}))
			if err != nil {
				b.Fatal(err)
			}
			if err := node.Campaign(); err != nil {
				b.Fatal(err)
			}
			cycle := func() {
				for node.HasReady() {
					for _, m := range node.Ready().Messages {
						if m.GetTo() == raft.LocalAppendThread {
							if len(m.GetEntries()) > 0 {
								_ = storage.Append(m.GetEntries())
								if i := m.GetEntries()[0].GetIndex(); i > 100 && i%100 == 0 {
									_ = storage.Compact(i - 50)
								}
							}
						}
						for _, response := range m.GetResponses() {
							_ = node.Step(response)
						}
					}
				}
			}
			cycle()
			payload := make([]byte, size)
			b.ReportAllocs()
			for b.Loop() {
				if err := node.Propose(payload); err != nil {
					b.Fatal(err)
				}
				cycle()
			}
		})
	}
}

// BenchmarkIdleTick is what a group costs twenty times a second.
func BenchmarkIdleTick(b *testing.B) {
	node, _, cycle := newBenchNode(b)
	b.ReportAllocs()
	for b.Loop() {
		node.Tick()
		cycle()
	}
}

// BenchmarkRingGet is a reader's way to a recent entry.
func BenchmarkRingGet(b *testing.B) {
	ring := newRing(16 << 20)
	for i := range uint64(1000) {
		ring.put(fromLog(Entry{Term: 1, Index: i + 1, Payload: make([]byte, 1<<10)}))
	}
	b.RunParallel(func(pb *testing.PB) {
		for i := uint64(0); pb.Next(); i++ {
			if _, ok := ring.Get(i%1000 + 1); !ok {
				b.Error("lost")
			}
		}
	})
}
