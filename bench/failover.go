package bench

import (
	"context"
	"errors"
	"time"

	"github.com/mirrormq/mirrormq/bench/report"
)

// victim is the broker that the run is to kill, nil for none.
func (r *run) victim(ctx context.Context, target Target) (*int, error) {
	if r.KillAfter <= 0 {
		return nil, nil
	}
	if target.Leader == nil || target.Kill == nil || len(target.URLs) < 2 {
		return nil, errors.New("bench: a failover needs several brokers that the run has started")
	}
	leader, err := target.Leader(ctx, r.queueName(0))
	if err != nil {
		return nil, err
	}
	return &leader, nil
}

// scheduleKill kills the victim, if there is one, after KillAfter, and finds
// how long publishers and consumers stand still from then until the function
// that it returns is called.
func (r *run) scheduleKill(result *report.Report) (finish func()) {
	if r.kill == nil {
		return func() {}
	}
	killed := make(chan struct{})
	timer := time.AfterFunc(r.KillAfter, func() {
		defer close(killed)
		r.confirmGap.armed.Store(true)
		r.deliveryGap.armed.Store(true)
		r.kill()
	})
	return func() {
		if !timer.Stop() {
			<-killed
		}
		// One that goes on still counts, too.
		for _, g := range []*gap{&r.confirmGap, &r.deliveryGap} {
			g.note(now())
		}
		result.KilledAt = r.KillAfter
		result.ConfirmGap = time.Duration(r.confirmGap.longest.Load())
		result.DeliveryGap = time.Duration(r.deliveryGap.longest.Load())
	}
}
