package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/bench/procstat"
)

// IdleReport is what Idle measured.
type IdleReport struct {
	Broker                string
	Connections, Channels int
	// Opening is how long it took to open them all.
	Opening time.Duration
	// Before and After are the broker's memory without and with them.
	Before, After procstat.Usage
}

// Write prints the report for a person.
func (r IdleReport) Write(w io.Writer) error {
	grown := r.After.RSS - r.Before.RSS
	_, err := fmt.Fprintf(w, "%s: %d idle connections of %d channels, opened in %.1f s\n"+
		"  broker       RSS %s, was %s: %.1f KiB per connection; peak %s\n",
		r.Broker, r.Connections, r.Channels, r.Opening.Seconds(),
		procstat.MiB(r.After.RSS), procstat.MiB(r.Before.RSS), float64(grown)/1024/float64(r.Connections), procstat.MiB(r.After.PeakRSS))
	return err
}

// FilesFor raises the limit of open files of this process, and of brokers that
// it starts later, so that so many connections fit. It may need a privilege.
func FilesFor(connections int) error { return raiseFileLimit(uint64(connections) + 1024) }

// Idle opens so many connections of so many channels each, leaves them idle
// for settle, and reports the broker's memory. Each connection costs this
// process a few goroutines and buffers of amqp091-go.
func Idle(ctx context.Context, target Target, connections, channels int, settle time.Duration) (IdleReport, error) {
	report := IdleReport{Broker: target.Name, Connections: connections, Channels: channels}
	if len(target.PIDs) == 0 {
		return report, errors.New("bench: idle measures a process: say which (--pid)")
	}
	if connections < 1 || channels < 0 {
		return report, fmt.Errorf("bench: %d connections of %d channels make no sense", connections, channels)
	}
	var err error
	if report.Before, err = procstat.Of(target.PIDs...); err != nil {
		return report, err
	}
	start := now()
	open, err := openIdle(ctx, target.URLs[0], connections, channels)
	defer closeIdle(open)
	if err != nil {
		return report, fmt.Errorf("bench: %d of %d connections: %w", len(open), connections, err)
	}
	report.Opening = time.Duration(now() - start)
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return report, ctx.Err()
	}
	for _, conn := range open {
		if conn.IsClosed() {
			return report, errors.New("bench: the broker closed an idle connection")
		}
	}
	report.After, err = procstat.Of(target.PIDs...)
	return report, err
}

// dialers is how many connections are opened or closed at the same time.
const dialers = 16

func openIdle(ctx context.Context, url string, connections, channels int) ([]*amqp.Connection, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var open []*amqp.Connection
	var dialing sync.WaitGroup
	for worker := range dialers {
		dialing.Go(func() {
			for i := worker; i < connections && ctx.Err() == nil; i += dialers {
				conn, err := amqp.Dial(url)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				open = append(open, conn)
				mu.Unlock()
				for range channels {
					if _, err := conn.Channel(); err != nil {
						cancel(err)
						return
					}
				}
			}
		})
	}
	dialing.Wait()
	return open, context.Cause(ctx)
}

func closeIdle(open []*amqp.Connection) {
	var closing sync.WaitGroup
	for worker := range dialers {
		closing.Go(func() {
			for i := worker; i < len(open); i += dialers {
				_ = open[i].Close() // it has served its purpose
			}
		})
	}
	closing.Wait()
}
