package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
	"github.com/mirrormq/mirrormq/bench/report"
)

// ErrVerification is wrapped by what Run returns when messages were lost,
// repeated, damaged or out of order; the report tells which.
var ErrVerification = errors.New("bench: the broker broke a promise")

// Target is a broker to measure, or several that form a cluster.
type Target struct {
	// Name appears in reports.
	Name string
	// URLs are where clients connect to, one for each broker.
	URLs []string
	// PIDs are the brokers' processes on this machine; none when unknown.
	PIDs []int
	// Driver is the one that the brokers need, nil for the scenario's.
	Driver driver.Driver
	// Leader is which of the brokers leads the queue, and Kill kills one. nil
	// when it can't be told.
	Leader func(ctx context.Context, queue string) (int, error)
	Kill   func(broker int)
	// Fsyncs is how many fsyncs the brokers made so far, nil when they don't
	// tell.
	Fsyncs func(context.Context) (int64, error)
}

// without is the target with one broker less.
func (t Target) without(broker int) Target {
	t.URLs = slices.Delete(slices.Clone(t.URLs), broker, broker+1)
	if broker < len(t.PIDs) {
		t.PIDs = slices.Delete(slices.Clone(t.PIDs), broker, broker+1)
	}
	t.Fsyncs = nil
	return t
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
	id    uint64
	phase atomic.Int32

	confirmLatency, deliveryLatency latencies
	confirmGap, deliveryGap         gap
	kill                            func() // nil: none

	publishers []*publisher
	consumers  []*consumer
}

func (r *run) measuring() bool { return r.phase.Load() == measuring }

func (r *run) queueName(worker int) string {
	return fmt.Sprintf("mirrormq-bench-%x-%d", r.id, worker%r.Queues)
}

// route is where publisher id publishes to, source where consumer id takes from.
func (r *run) route(id int) driver.Route {
	if r.FanOut {
		return driver.Route{Exchange: r.topology().Exchange}
	}
	return driver.Route{Queue: r.queueName(id)}
}

func (r *run) source(id int) driver.Route {
	return driver.Route{Exchange: r.topology().Exchange, Queue: r.queueName(id)}
}

func (r *run) topology() driver.Topology {
	t := driver.Topology{QueueType: r.QueueType, AckQuorum: r.AckQuorum, MaxUnacked: r.Prefetch * max(r.Consumers, 1)}
	for queue := range r.Queues {
		t.Queues = append(t.Queues, r.queueName(queue))
	}
	if r.FanOut {
		t.Exchange = fmt.Sprintf("mirrormq-bench-%x", r.id)
	}
	return t
}

// Run declares queues of its own, plays the scenario on target, verifies what
// came back and deletes the queues. An error without ErrVerification means
// that the run could not be carried through and the report is incomplete.
func Run(ctx context.Context, target Target, scenario Scenario) (report.Report, error) {
	if target.Driver != nil {
		scenario.Driver = target.Driver
	}
	r, err := newRun(scenario)
	if err != nil {
		return report.Report{}, err
	}
	var result report.Report
	err = r.withQueues(target, func() error {
		result, err = r.play(ctx, target)
		return err
	})
	return result, errors.Join(err, fault(result))
}

func newRun(scenario Scenario) (*run, error) {
	if err := scenario.validate(); err != nil {
		return nil, err
	}
	return &run{Scenario: scenario, id: rand.Uint64()}, nil
}

// withQueues calls do between declaring the run's queues, at the first broker,
// and deleting them at the last: a scenario may kill the first.
func (r *run) withQueues(target Target, do func() error) error {
	if err := r.administer(target.URLs[0], driver.Admin.Declare); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err // a broker that died has no queues to delete: only the first error tells something
	}
	if r.KillAfter > 0 {
		return nil // the brokers are the run's own, and one is gone
	}
	return r.administer(target.URLs[len(target.URLs)-1], driver.Admin.Delete)
}

func (r *run) administer(url string, do func(driver.Admin, driver.Topology) error) error {
	admin, err := r.Driver.OpenAdmin(url)
	if err != nil {
		return err
	}
	return errors.Join(do(admin, r.topology()), admin.Close())
}

// play opens the workers, measures and closes them again.
func (r *run) play(ctx context.Context, target Target) (result report.Report, err error) {
	victim, err := r.victim(ctx, target)
	if err != nil {
		return report.Report{}, err
	}
	if victim != nil {
		kill := target.Kill
		r.kill = func() { kill(*victim) }
		target = target.without(*victim)
	}
	defer func() {
		for _, c := range r.consumers {
			err = errors.Join(err, c.in.Close())
		}
		for _, p := range r.publishers {
			err = errors.Join(err, p.out.Close())
		}
		if err == nil {
			r.verify(&result)
		}
	}()
	if !r.Backlog {
		if err := r.openConsumers(target); err != nil {
			return report.Report{}, err
		}
	}
	for id := range r.Publishers {
		p, err := newPublisher(r, id, target.URLs[id%len(target.URLs)])
		if err != nil {
			return report.Report{}, err
		}
		r.publishers = append(r.publishers, p)
	}
	return r.measure(ctx, target)
}

// openConsumers connects the consumers to the brokers after those that the
// publishers are connected to.
func (r *run) openConsumers(target Target) error {
	for id := range r.Consumers {
		c, err := newConsumer(r, id, target.URLs[(r.Publishers+id)%len(target.URLs)])
		if err != nil {
			return err
		}
		r.consumers = append(r.consumers, c)
	}
	return nil
}

// measure runs the phases: warm up, measure, let the publishers finish, let
// the consumers catch up. The first thing that goes wrong in a worker ends all.
func (r *run) measure(ctx context.Context, target Target) (report.Report, error) {
	result := report.Report{
		Broker: target.Name, Scenario: r.Name, Brokers: len(target.URLs), Copies: 1, Written: -1, Fsyncs: -1,
	}
	if r.FanOut {
		result.Copies = r.Queues
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	var publishing, watching sync.WaitGroup
	stop, done := make(chan struct{}), make(chan struct{})
	watch := func() {
		for _, c := range r.consumers {
			watching.Go(func() { fail(c.watch(ctx, done)) })
		}
	}
	watch()
	for _, p := range r.publishers {
		publishing.Go(func() { fail(p.publish(ctx, stop, r.limit(p.id))) })
	}
	if r.Backlog {
		fail(r.fillAndDrain(ctx, target, &result, watch))
	} else {
		fail(r.phases(ctx, target, &result))
	}
	close(stop)
	publishing.Wait()
	fail(r.catchUp(ctx))
	close(done)
	watching.Wait()
	return result, context.Cause(ctx)
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

func (r *run) phases(ctx context.Context, target Target, result *report.Report) error {
	if err := r.pass(ctx, r.WarmUp, 0); err != nil {
		return err
	}
	before, err := r.snapshot(ctx, target)
	if err != nil {
		return err
	}
	r.phase.Store(measuring)
	stopSampling, finishKill := r.sample(before, result), r.scheduleKill(result)
	err = r.pass(ctx, r.Duration, before.confirmed+uint64(r.Count))
	finishKill()
	stopSampling()
	if err != nil {
		return err
	}
	after, err := r.snapshot(ctx, target)
	r.phase.Store(draining)
	if err != nil {
		return err
	}
	after.since(before, result)
	return nil
}

// fillAndDrain is phases for a backlog: what is consumed and how long that
// takes counts from the first consumer on.
func (r *run) fillAndDrain(ctx context.Context, target Target, result *report.Report, watch func()) error {
	before, err := r.snapshot(ctx, target)
	if err != nil {
		return err
	}
	r.phase.Store(measuring)
	stopSampling := r.sample(before, result)
	err = r.pass(ctx, 0, uint64(r.Count))
	stopSampling()
	if err != nil {
		return err
	}
	result.Filled = time.Duration(now() - before.at)
	if err := r.openConsumers(target); err != nil {
		return err
	}
	watch()
	drain := now()
	stopSampling = r.sample(before, result)
	err = r.catchUp(ctx)
	stopSampling()
	result.Drained = time.Duration(now() - drain)
	if err != nil {
		return err
	}
	after, err := r.snapshot(ctx, target)
	r.phase.Store(draining)
	if err != nil {
		return err
	}
	after.since(before, result)
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

// caughtUp says whether the consumers have received so many messages, or have
// received none for so long that verify should tell what is missing.
func (r *run) caughtUp(messages uint64) bool {
	if r.FanOut {
		messages *= uint64(r.Queues)
	}
	r.deliveryGap.last.CompareAndSwap(0, now())
	return len(r.consumers) == 0 || r.sum(nil, receivedOf) >= messages ||
		time.Duration(now()-r.deliveryGap.last.Load()) > r.Drain
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
func (r *run) verify(result *report.Report) {
	sent := make([]uint64, len(r.publishers))
	for i, p := range r.publishers {
		sent[i] = p.sent.Load()
		result.Total += sent[i]
		result.Nacked += p.nacked.Load()
	}
	result.Confirm = report.Summarize(r.confirmLatency.merged())
	result.EndToEnd = report.Summarize(r.deliveryLatency.merged())
	if result.Nacked > 0 {
		result.Problems = append(result.Problems, fmt.Sprintf("%d messages nacked", result.Nacked))
	}
	if r.Consumers == 0 {
		return
	}
	for _, seen := range r.ledgers() {
		result.Redelivered += seen.counts.redelivered
		result.Problems = append(result.Problems, seen.problems(sent)...)
	}
}

// ledgers are what was seen of all messages together, or with a fan-out at
// each of the queues.
func (r *run) ledgers() []*ledger {
	ledgers := []*ledger{newLedger(len(r.publishers), r.id)}
	for r.FanOut && len(ledgers) < r.Queues {
		ledgers = append(ledgers, newLedger(len(r.publishers), r.id))
	}
	for i, c := range r.consumers {
		ledgers[i%r.Queues%len(ledgers)].merge(c.seen)
	}
	return ledgers
}

// fault is ErrVerification with the report's problems, nil when there are none.
func fault(r report.Report) error { return verificationError(r.Problems) }

func verificationError(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrVerification, strings.Join(problems, "; "))
}
