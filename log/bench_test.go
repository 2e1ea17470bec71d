package log

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func benchLog(b *testing.B, o Options) *Log {
	b.Helper()
	l, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// BenchmarkAppend is one group that keeps 64 appends under way.
func BenchmarkAppend(b *testing.B) {
	for _, policy := range []Policy{Always, Never} {
		for _, size := range []int{100, 1 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%v/%d", policy, size), func(b *testing.B) {
				l := benchLog(b, Options{Fsync: policy})
				payload := make([]byte, size)
				window := make(chan struct{}, 64)
				var wg sync.WaitGroup
				done := func(err error) {
					if err != nil {
						b.Error(err)
					}
					<-window
					wg.Done()
				}
				entries := make([]Entry, b.N)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range entries {
					entries[i] = Entry{Term: 1, Index: uint64(i + 1), Payload: payload}
					window <- struct{}{}
					wg.Add(1)
					l.Append(Append{Group: 1, Entries: entries[i : i+1], Done: done})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(l.Stats().Fsyncs)/float64(b.N), "fsyncs/op")
			})
		}
	}
}

// BenchmarkAppendAlone is one append at a time: the floor is the fsync.
func BenchmarkAppendAlone(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var fsync time.Duration
			l := benchLog(b, Options{Observe: func(d time.Duration, _ int) { fsync += d }})
			payload := make([]byte, size)
			done := make(chan error, 1)
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				l.Append(Append{Group: 1, Entries: []Entry{{Term: 1, Index: uint64(i), Payload: payload}}, Done: func(err error) { done <- err }})
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(fsync.Nanoseconds())/float64(b.N), "fsync-ns/op")
		})
	}
}

// fillLog appends n entries of size bytes.
func fillLog(tb testing.TB, l *Log, n, size int) {
	tb.Helper()
	payload := make([]byte, size)
	var wg sync.WaitGroup
	var first uint64
	if _, last, ok := l.Bounds(1); ok {
		first = last.Index
	}
	for i := 1; i <= n; {
		k := min(n-i+1, 1000)
		entries := make([]Entry, k)
		for j := range entries {
			entries[j] = Entry{Term: 1, Index: first + uint64(i+j), Payload: payload}
		}
		i += k
		wg.Add(1)
		l.Append(Append{Group: 1, Entries: entries, Done: func(err error) {
			if err != nil {
				tb.Error(err)
			}
			wg.Done()
		}})
	}
	wg.Wait()
}

func BenchmarkRead(b *testing.B) {
	l := benchLog(b, Options{Fsync: Never})
	const n = 100_000
	fillLog(b, l, n, 1<<10)
	b.Run("random", func(b *testing.B) {
		b.SetBytes(1 << 10)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var buffer []byte
			random := rand.New(rand.NewPCG(1, 2))
			for pb.Next() {
				var err error
				if buffer, err = l.Read(1, 1+random.Uint64N(n), buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("range", func(b *testing.B) {
		b.SetBytes(n << 10)
		b.ReportAllocs()
		for b.Loop() {
			if err := l.ReadRange(1, 1, n, func(Entry) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen1GB opens a log of 1,000,000 entries of 1 KiB.
func BenchmarkOpen1GB(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(dir, Options{Fsync: Never})
	if err != nil {
		b.Fatal(err)
	}
	fillLog(b, l, 1_000_000, 1<<10)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if l, err = Open(dir, Options{}); err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
