package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ErrVerification is wrapped by what Run returns when messages were lost,
// repeated, damaged or out of order; the report tells which.
var ErrVerification = errors.New("bench: the broker broke a promise")

// Target is a broker to measure.
type Target struct {
	// Name appears in reports.
	Name string
	// URL is amqp://….
	URL string
	// PID is the broker's process on this machine, 0 when unknown.
	PID int
}

// The phases of a run.
const (
	warmingUp int32 = iota
	measuring
	draining
)

// run is the state that the workers of one Run share.
type run struct {
	Scenario
	id           uint64
	phase        atomic.Int32
	lastDelivery atomic.Int64 // by now()

	publishers []*publisher
	consumers  []*consumer
}

func (r *run) measuring() bool { return r.phase.Load() == measuring }

func (r *run) queueName(worker int) string {
	return fmt.Sprintf("mirrormq-bench-%x-%d", r.id, worker%r.Queues)
}

// Run declares queues of its own, plays the scenario on target, verifies what
// came back and deletes the queues. An error without ErrVerification means
// that the run could not be carried through and the report is incomplete.
func Run(ctx context.Context, target Target, scenario Scenario) (Report, error) {
	r, err := newRun(scenario)
	if err != nil {
		return Report{}, err
	}
	var report Report
	err = r.withQueues(target.URL, func(*admin) error {
		report, err = r.play(ctx, target)
		return err
	})
	return report, errors.Join(err, report.fault())
}

func newRun(scenario Scenario) (*run, error) {
	if err := scenario.validate(); err != nil {
		return nil, err
	}
	return &run{Scenario: scenario, id: rand.Uint64()}, nil
}

// withQueues calls do between declaring the run's queues and deleting them.
func (r *run) withQueues(url string, do func(*admin) error) error {
	admin, err := openAdmin(url)
	if err != nil {
		return err
	}
	for queue := range r.Queues {
		if err := admin.declare(r.queueName(queue), r.QueueType); err != nil {
			return errors.Join(err, admin.close())
		}
	}
	if err := do(admin); err != nil {
		// A broker that died can't be said goodbye to: only the first error
		// tells something.
		_ = admin.close()
		return err
	}
	for queue := range r.Queues {
		err = errors.Join(err, admin.delete(r.queueName(queue)))
	}
	return errors.Join(err, admin.close())
}

// play opens the workers, measures and closes them again.
func (r *run) play(ctx context.Context, target Target) (report Report, err error) {
	defer func() {
		for _, c := range r.consumers {
			err = errors.Join(err, c.in.Close())
		}
		for _, p := range r.publishers {
			err = errors.Join(err, p.out.Close())
		}
		if err == nil {
			r.verify(&report)
		}
	}()
	for id := range r.Consumers {
		c, err := newConsumer(r, id, target.URL)
		if err != nil {
			return Report{}, err
		}
		r.consumers = append(r.consumers, c)
	}
	for id := range r.Publishers {
		p, err := newPublisher(r, id, target.URL)
		if err != nil {
			return Report{}, err
		}
		r.publishers = append(r.publishers, p)
	}
	return r.measure(ctx, target)
}

// measure runs the phases: warm up, measure, let the publishers finish, let
// the consumers catch up. The first thing that goes wrong in a worker ends all.
func (r *run) measure(ctx context.Context, target Target) (Report, error) {
	report := Report{Broker: target.Name, Scenario: r.Name}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	var publishing, watching sync.WaitGroup
	stop, done := make(chan struct{}), make(chan struct{})
	for _, c := range r.consumers {
		watching.Go(func() { fail(c.watch(ctx, done)) })
	}
	for _, p := range r.publishers {
		publishing.Go(func() { fail(p.publish(ctx, stop, r.limit(p.id))) })
	}
	fail(r.phases(ctx, target, &report))
	close(stop)
	publishing.Wait()
	fail(r.catchUp(ctx))
	close(done)
	watching.Wait()
	return report, context.Cause(ctx)
}

// limit is how many messages publisher id sends in all, 0 for no limit. A
// count without warm-up or duration is exact; otherwise it only ends the
// measurement.
func (r *run) limit(id uint32) uint64 {
	if r.Count == 0 || r.WarmUp > 0 || r.Duration > 0 {
		return 0
	}
	share := uint64(r.Count / r.Publishers)
	if int(id) < r.Count%r.Publishers {
		share++
	}
	return share
}

func (r *run) phases(ctx context.Context, target Target, report *Report) error {
	if err := r.pass(ctx, r.WarmUp, 0); err != nil {
		return err
	}
	before, err := r.snapshot(target)
	if err != nil {
		return err
	}
	r.phase.Store(measuring)
	if err := r.pass(ctx, r.Duration, before.confirmed+uint64(r.Count)); err != nil {
		return err
	}
	after, err := r.snapshot(target)
	r.phase.Store(draining)
	if err != nil {
		return err
	}
	report.Measured = time.Duration(after.at - before.at)
	report.Confirmed = after.confirmed - before.confirmed
	report.Consumed = after.consumed - before.consumed
	report.BrokerCPU = after.broker.CPU - before.broker.CPU
	report.LoadCPU = after.load.CPU - before.load.CPU
	report.RSS, report.PeakRSS = after.broker.RSS, after.broker.PeakRSS
	return nil
}

// pass waits for the duration, or until confirmed messages are confirmed;
// zero is no such bound, and with neither it returns at once. With a count it
// also waits for the consumers to have seen as many.
func (r *run) pass(ctx context.Context, duration time.Duration, confirmed uint64) error {
	if duration <= 0 && (r.Count == 0 || confirmed == 0) {
		return nil
	}
	var timeout <-chan time.Time
	if duration > 0 {
		timer := time.NewTimer(duration)
		defer timer.Stop()
		timeout = timer.C
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	if r.Count == 0 || confirmed == 0 {
		poll.Stop()
	}
	for {
		select {
		case <-timeout:
			return nil
		case <-poll.C:
			if r.sum(confirmedOf, nil) >= confirmed && r.caughtUp(confirmed) {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func confirmedOf(p *publisher) uint64 { return p.confirmed.Load() + p.nacked.Load() }
func sentOf(p *publisher) uint64      { return p.sent.Load() }
func receivedOf(c *consumer) uint64   { return c.received.Load() }

// sum adds up a counter over the publishers or the consumers.
func (r *run) sum(ofPublisher func(*publisher) uint64, ofConsumer func(*consumer) uint64) uint64 {
	var total uint64
	for _, p := range r.publishers {
		if ofPublisher != nil {
			total += ofPublisher(p)
		}
	}
	for _, c := range r.consumers {
		if ofConsumer != nil {
			total += ofConsumer(c)
		}
	}
	return total
}

type snapshot struct {
	at                  int64
	confirmed, consumed uint64
	broker, load        Usage
}

func (r *run) snapshot(target Target) (snapshot, error) {
	s := snapshot{at: now(), confirmed: r.sum(confirmedOf, nil), consumed: r.sum(nil, receivedOf)}
	var err error
	if target.PID != 0 {
		if s.broker, err = ProcessUsage(target.PID); err != nil {
			return s, err
		}
		// Only itself: a broker that it started is its child.
		s.load, err = oneProcess(os.Getpid())
	}
	return s, err
}

// caughtUp says whether the consumers have received so many messages, or have
// received none for so long that verify should tell what is missing.
func (r *run) caughtUp(messages uint64) bool {
	r.lastDelivery.CompareAndSwap(0, now())
	return r.Consumers == 0 || r.sum(nil, receivedOf) >= messages ||
		time.Duration(now()-r.lastDelivery.Load()) > r.Drain
}

// catchUp waits until the consumers have received all that was sent, or
// nothing comes any more.
func (r *run) catchUp(ctx context.Context) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !r.caughtUp(r.sum(sentOf, nil)) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// verify fills in the report's totals and problems.
// REQUIRES: all workers are closed.
func (r *run) verify(report *Report) {
	confirm, endToEnd := newHistogram(), newHistogram()
	sent := make([]uint64, len(r.publishers))
	for i, p := range r.publishers {
		confirm.Merge(p.latency)
		sent[i] = p.sent.Load()
		report.Total += sent[i]
		report.Nacked += p.nacked.Load()
	}
	report.Confirm = quantiles(confirm)
	if report.Nacked > 0 {
		report.Problems = append(report.Problems, fmt.Sprintf("%d messages nacked", report.Nacked))
	}
	if r.Consumers == 0 {
		return
	}
	seen := newLedger(len(r.publishers), r.id)
	for _, c := range r.consumers {
		endToEnd.Merge(c.latency)
		seen.merge(c.seen)
	}
	report.EndToEnd = quantiles(endToEnd)
	report.Redelivered = seen.counts.redelivered
	report.Problems = append(report.Problems, seen.problems(sent)...)
}
