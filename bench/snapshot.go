package bench

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/bench/procstat"
	"github.com/mirrormq/mirrormq/bench/report"
)

// snapshot is the counters at one time.
type snapshot struct {
	at                  int64
	confirmed, consumed uint64
	fsyncs              int64 // -1: not known
	broker, load        procstat.Usage
}

func (r *run) snapshot(ctx context.Context, target Target) (snapshot, error) {
	s := snapshot{at: now(), confirmed: r.sum(confirmedOf, nil), consumed: r.sum(nil, receivedOf), fsyncs: -1}
	var err error
	if target.Fsyncs != nil {
		if s.fsyncs, err = target.Fsyncs(ctx); err != nil {
			return s, err
		}
	}
	if len(target.PIDs) > 0 {
		if s.broker, err = procstat.Of(target.PIDs...); err != nil {
			return s, err
		}
		// Only itself: a broker that it started is its child.
		s.load, err = procstat.One(os.Getpid())
	}
	return s, err
}

// since enters what happened from before to s.
func (s snapshot) since(before snapshot, result *report.Report) {
	result.Measured = time.Duration(s.at - before.at)
	result.Confirmed = s.confirmed - before.confirmed
	result.Consumed = s.consumed - before.consumed
	result.BrokerCPU = s.broker.CPU - before.broker.CPU
	result.LoadCPU = s.load.CPU - before.load.CPU
	result.RSS, result.PeakRSS = s.broker.RSS, s.broker.PeakRSS
	if s.broker.PeakRSS > 0 && s.broker.Written >= 0 && before.broker.Written >= 0 {
		result.Written = s.broker.Written - before.broker.Written
	}
	if s.fsyncs >= 0 && before.fsyncs >= 0 {
		result.Fsyncs = s.fsyncs - before.fsyncs
	}
}

// sampleEvery is how finely a report tells the course of a run.
const sampleEvery = 100 * time.Millisecond

// sample enters the rates of every sampleEvery into the result, until the
// function that it returns is called. Times count from start.
func (r *run) sample(start snapshot, result *report.Report) (stop func()) {
	done := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		last := snapshot{at: now(), confirmed: r.sum(confirmedOf, nil), consumed: r.sum(nil, receivedOf)}
		for {
			select {
			case <-tick.C:
			case <-done:
				return
			}
			next := snapshot{at: now(), confirmed: r.sum(confirmedOf, nil), consumed: r.sum(nil, receivedOf)}
			seconds := time.Duration(next.at - last.at).Seconds()
			result.Course = append(result.Course, report.Moment{
				At:        time.Duration(next.at - start.at),
				Confirmed: float64(next.confirmed-last.confirmed) / seconds,
				Consumed:  float64(next.consumed-last.consumed) / seconds,
			})
			last = next
		}
	})
	return func() {
		close(done)
		sampling.Wait()
	}
}
