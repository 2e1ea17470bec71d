package backbone

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// counter is a Handler that only counts and gives credit back.
type counter struct {
	*recorder
	messages atomic.Int64
	arrived  chan struct{}
	writable chan struct{}
}

func (c *counter) Message(class Class, from string, payload []byte) {
	c.b.Consumed(class, from, len(payload))
	c.messages.Add(1)
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

func (c *counter) LinkWritable(Class, string) {
	select {
	case c.writable <- struct{}{}:
	default:
	}
}

// BenchmarkOnePublisherTwoMirrors has all three brokers in this process; the
// CPU time is of all of them.
func BenchmarkOnePublisherTwoMirrors(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 512 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { benchmarkMirrors(b, size) })
	}
}

func benchmarkMirrors(b *testing.B, size int) {
	c := newCluster(b, 3, nil)
	counters := map[string]*counter{}
	for name := range c.configs {
		r := newRecorder()
		h := &counter{recorder: r, arrived: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
		config := c.configs[name]
		config.Handler = h
		r.mu.Lock()
		bb, err := Start(config)
		r.b = bb
		r.mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
		c.live[name], counters[name] = r, h
	}
	c.awaitMesh()
	b1, payload, to := counters["b1"], make([]byte, size), []string{"b2", "b3"}
	b.SetBytes(int64(size))
	before := cpu()
	b.ResetTimer()
	for range b.N {
		for !b1.b.Writable(Replication, "b2", size) || !b1.b.Writable(Replication, "b3", size) {
			<-b1.writable
		}
		if err := b1.b.SendLink(Replication, to, payload); err != nil {
			b.Fatal(err)
		}
	}
	for _, name := range to {
		for counters[name].messages.Load() < int64(b.N) {
			<-counters[name].arrived
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkRoundTrip is the time of a small message there and back again.
func BenchmarkRoundTrip(b *testing.B) {
	c := newCluster(b, 2, nil)
	back := make(chan struct{}, 1)
	c.startAll(func(r *recorder) {
		r.forget = true
		r.onArrive = func(class Class, from string, payload []byte) {
			if from == "b2" {
				back <- struct{}{}
				return
			}
			r.b.SendLink(class, []string{from}, payload)
		}
	})
	payload := make([]byte, 1<<10)
	for b.Loop() {
		if err := c.live["b1"].b.SendLink(Replication, []string{"b2"}, payload); err != nil {
			b.Fatal(err)
		}
		<-back
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBeatBesideBulk is the round trip of a beat while another class's
// links are full; p99-µs is of the same.
func BenchmarkBeatBesideBulk(b *testing.B) {
	c := newCluster(b, 3, nil)
	back := make(chan struct{}, 1)
	var bulk sync.WaitGroup
	stop := make(chan struct{})
	c.startAll(func(r *recorder) { r.forget, r.echo = true, back })
	b1 := c.live["b1"]
	bulk.Add(1)
	go func() {
		defer bulk.Done()
		payload, to := make([]byte, 256<<10), []string{"b2", "b3"}
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b1.b.SendLink(Replication, to, payload) == nil {
				continue
			}
			select {
			case <-stop:
			case <-time.After(time.Millisecond):
			}
		}
	}()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := b1.b.Send(Beats, "b2", []byte("beat")); err != nil {
			b.Fatal(err)
		}
		<-back
		took = append(took, time.Since(began))
	}
	close(stop)
	bulk.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
