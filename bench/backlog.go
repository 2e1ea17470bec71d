package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
	"github.com/mirrormq/mirrormq/bench/procstat"
	benchreport "github.com/mirrormq/mirrormq/bench/report"
	"github.com/mirrormq/mirrormq/internal/launch"
)

// BacklogReport is what Backlog measured.
type BacklogReport struct {
	Broker         string
	Messages, Size int
	// Filling took so long; Filled is the broker's use of memory then, and
	// Disk the bytes of its data directory.
	Filling time.Duration
	Filled  procstat.Usage
	Disk    int64
	// Killed says whether the broker was killed instead of stopped, which
	// took Stopping.
	Killed   bool
	Stopping time.Duration
	// Serving is the time from starting the process again until it said that
	// it serves, FirstMessage until a consumer had the first one.
	Serving, FirstMessage time.Duration
	// Restarted is the use of memory when it served again.
	Restarted procstat.Usage
	// Draining took so long, and Drained is the use of memory after it.
	Draining time.Duration
	Drained  procstat.Usage
	// Problems say in words what the verification found wrong.
	Problems []string
}

// Write prints the report for a person.
func (r BacklogReport) Write(w io.Writer) error {
	how := "stopped"
	if r.Killed {
		how = "killed"
	}
	verdict := "all there, once each, in order, intact"
	if len(r.Problems) > 0 {
		verdict = "WRONG: " + strings.Join(r.Problems, "; ")
	}
	rate := func(d time.Duration) float64 { return float64(r.Messages) / d.Seconds() }
	_, err := fmt.Fprintf(w, "%s: a backlog of %d messages of %d bytes\n"+
		"  filled       %.0f msgs/s; RSS %s, peak %s; disk %s\n"+
		"  %-12s in %.2f s\n"+
		"  restarted    serving after %.2f s, first message after %.2f s; RSS %s\n"+
		"  drained      %.0f msgs/s; RSS %s\n"+
		"  verified     %s\n",
		r.Broker, r.Messages, r.Size,
		rate(r.Filling), procstat.MiB(r.Filled.RSS), procstat.MiB(r.Filled.PeakRSS), procstat.MiB(r.Disk),
		how, r.Stopping.Seconds(),
		r.Serving.Seconds(), r.FirstMessage.Seconds(), procstat.MiB(r.Restarted.RSS),
		rate(r.Draining), procstat.MiB(r.Drained.RSS), verdict)
	return err
}

// BacklogOptions say how Backlog goes about it.
type BacklogOptions struct {
	Messages, Size int
	QueueType      string
	// Kill restarts with SIGKILL instead of a clean stop.
	Kill bool
	// Driver to use, AMQP091 when nil.
	Driver driver.Driver
}

// Backlog starts the peer, fills a queue, restarts the broker, and drains the
// queue with one consumer, checking that all is there in order.
func Backlog(ctx context.Context, peer Peer, config launch.Config, o BacklogOptions) (BacklogReport, error) {
	report := BacklogReport{Broker: peer.Program.Name(), Messages: o.Messages, Size: o.Size, Killed: o.Kill}
	scenario := Throughput()
	scenario.Name, scenario.Publishers, scenario.Consumers, scenario.Window = "backlog", 2, 0, 1000
	scenario.Sizes, scenario.QueueType, scenario.Driver = Fixed(o.Size), o.QueueType, o.Driver
	scenario.WarmUp, scenario.Duration, scenario.Count = 0, 0, o.Messages
	if peer.driver != nil {
		scenario.Driver = peer.driver(1)
	}
	r, err := newRun(scenario)
	if err != nil {
		return report, err
	}
	broker, err := launch.Start(ctx, peer.Program, config)
	if err != nil {
		return report, err
	}
	defer func() { broker.Kill() }() // the one that runs then
	if err := r.fill(ctx, broker, &report); err != nil {
		return report, err
	}
	broker, err = restart(ctx, broker, &report)
	if err != nil {
		return report, err
	}
	restarted := now()
	if report.Restarted, err = procstat.Of(broker.PID()); err != nil {
		return report, err
	}
	if err := r.drain(ctx, broker, restarted, &report); err != nil {
		return report, err
	}
	return report, errors.Join(verificationError(report.Problems), stop(ctx, broker))
}

// fill publishes the backlog and closes its connections.
func (r *run) fill(ctx context.Context, broker *launch.Broker, report *BacklogReport) error {
	if err := r.administer(broker.URL(), driver.Admin.Declare); err != nil {
		return err
	}
	start := now()
	filled, err := r.play(ctx, Target{Name: report.Broker, URLs: []string{broker.URL()}, PIDs: []int{broker.PID()}})
	if err != nil {
		return err
	}
	report.Filling = time.Duration(now() - start)
	report.Problems = append(report.Problems, filled.Problems...)
	if report.Filled, err = procstat.Of(broker.PID()); err != nil {
		return err
	}
	report.Disk, err = directorySize(broker.Config.DataDir())
	return err
}

func restart(ctx context.Context, broker *launch.Broker, report *BacklogReport) (*launch.Broker, error) {
	start := now()
	if report.Killed {
		broker.Kill()
	} else if err := stop(ctx, broker); err != nil {
		return broker, err
	}
	report.Stopping = time.Duration(now() - start)
	start = now()
	again, err := launch.Start(ctx, broker.Program, broker.Config)
	if err != nil {
		return broker, err
	}
	report.Serving = time.Duration(now() - start)
	return again, nil
}

// stop gives brokers two minutes: RabbitMQ takes its time with a backlog.
func stop(ctx context.Context, brokers interface{ Stop(context.Context) error }) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return brokers.Stop(ctx)
}

// drain consumes what fill published, from the moment since on.
func (r *run) drain(ctx context.Context, broker *launch.Broker, since int64, report *BacklogReport) error {
	r.Consumers = 1
	c, err := newConsumer(r, 0, broker.URL())
	if err != nil {
		return err
	}
	r.consumers = []*consumer{c}
	start := now()
	if err := r.awaitFirst(ctx); err != nil {
		return errors.Join(err, c.in.Close())
	}
	report.FirstMessage = report.Serving + time.Duration(now()-since)
	err = errors.Join(r.watchedCatchUp(ctx, c), c.in.Close())
	report.Draining = time.Duration(now() - start)
	if err != nil {
		return err
	}
	var verified benchreport.Report
	r.verify(&verified)
	report.Problems = append(report.Problems, verified.Problems...)
	report.Drained, err = procstat.Of(broker.PID())
	return err
}

// awaitFirst waits for the first delivery, at most as long as Drain.
func (r *run) awaitFirst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Drain)
	defer cancel()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for r.sum(nil, receivedOf) == 0 {
		select {
		case <-poll.C:
		case err := <-r.consumers[0].in.Failed():
			return err
		case <-ctx.Done():
			return fmt.Errorf("bench: no message after the restart: %w", ctx.Err())
		}
	}
	return nil
}

// watchedCatchUp is catchUp, ended by what goes wrong with the consumer.
func (r *run) watchedCatchUp(ctx context.Context, c *consumer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	done := make(chan struct{})
	watching.Go(func() {
		if err := c.watch(ctx, done); err != nil {
			cancel(err)
		}
	})
	err := r.catchUp(ctx)
	close(done)
	watching.Wait()
	return err
}
