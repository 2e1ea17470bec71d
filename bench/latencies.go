package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencyShards bounds how many histograms a run has, of 200 KiB each: with a
// thousand publishers they share.
const latencyShards = 8

// latencies are a run's of one kind.
type latencies [latencyShards]latencyShard

type latencyShard struct {
	mu        sync.Mutex
	histogram *hdrhistogram.Histogram // made when first needed
}

// newHistogram holds latencies from 1 µs to 10 minutes with 3 digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

func (l *latencies) of(worker int) *latencyShard { return &l[worker%latencyShards] }

// record adds a latency in nanoseconds, clipped to what the histogram holds.
func (s *latencyShard) record(nanoseconds int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.histogram == nil {
		s.histogram = newHistogram()
	}
	microseconds := min(max(nanoseconds/1000, 1), s.histogram.HighestTrackableValue())
	// The only error is a value out of range.
	_ = s.histogram.RecordValue(microseconds)
}

// merged is all of them together.
func (l *latencies) merged() *hdrhistogram.Histogram {
	all := newHistogram()
	for i := range l {
		l[i].mu.Lock()
		if l[i].histogram != nil {
			all.Merge(l[i].histogram)
		}
		l[i].mu.Unlock()
	}
	return all
}
