package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
)

// publisher is one publishing connection of a run.
type publisher struct {
	run    *run
	id     uint32
	window *window
	out    driver.Publisher
	// interval is the time from a message to the next, 0 when there is no rate.
	interval time.Duration

	sent      atomic.Uint64
	confirmed atomic.Uint64
	nacked    atomic.Uint64
	latency   *latencyShard
	fault     chan error // capacity 1: a confirm that makes no sense
}

func newPublisher(r *run, id int, url string) (*publisher, error) {
	p := &publisher{
		run: r, id: uint32(id), window: newWindow(r.Window),
		latency: r.confirmLatency.of(id), fault: make(chan error, 1),
	}
	if r.Rate > 0 {
		p.interval = time.Duration(float64(r.Publishers) / r.Rate * float64(time.Second))
	}
	out, err := r.Driver.OpenPublisher(url, r.route(id), p.onConfirm)
	if err != nil {
		return nil, err
	}
	p.out = out
	return p, nil
}

func (p *publisher) onConfirm(tag uint64, multiple, ack bool) {
	at, measuring := now(), p.run.measuring()
	err := p.window.confirm(tag, multiple, func(sentAt int64) {
		if !ack {
			p.nacked.Add(1)
			return
		}
		p.confirmed.Add(1)
		if measuring {
			p.latency.record(at - sentAt)
		}
	})
	if ack {
		p.run.confirmGap.note(at)
	}
	if err != nil {
		select {
		case p.fault <- err:
		default:
		}
	}
}

// publish sends until stop is closed or limit messages are sent (0: no
// limit), then waits until all are confirmed.
func (p *publisher) publish(ctx context.Context, stop <-chan struct{}, limit uint64) error {
	random := rand.New(rand.NewPCG(p.run.id, uint64(p.id)))
	body := newBody(p.run.Sizes.Largest(), uint64(p.id))
	// The publishers take turns.
	due := now() + int64(p.interval)*int64(p.id)/int64(p.run.Publishers)
	for limit == 0 || p.sent.Load() < limit {
		select {
		case <-stop:
			return p.await(ctx, p.settled)
		default:
		}
		at := now()
		if p.interval > 0 {
			if at < due {
				if err := p.pause(ctx, stop, time.Duration(due-at)); err != nil {
					return err
				}
				continue // to see whether it is to stop
			}
			at, due = due, due+int64(p.interval)
		}
		if p.window.full() {
			if err := p.await(ctx, func() bool { return !p.window.full() }); err != nil {
				return err
			}
			if p.interval == 0 {
				at = now()
			}
		}
		message := body[:p.run.Sizes.pick(random)]
		stamp{from: p.id, sequence: p.sent.Add(1), sentAt: at, run: p.run.id}.put(message)
		p.window.add(at)
		if err := p.out.Publish(!p.run.Transient, message); err != nil {
			return fmt.Errorf("bench: publish: %w", err)
		}
	}
	return p.await(ctx, p.settled)
}

// pause waits for the next message's time, or until stop is closed.
func (p *publisher) pause(ctx context.Context, stop <-chan struct{}, wait time.Duration) error {
	if err := p.out.Flush(); err != nil {
		return fmt.Errorf("bench: publish: %w", err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-stop:
		return nil
	case err := <-p.out.Failed():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled says whether all is confirmed; if not, the next confirm wakes.
func (p *publisher) settled() bool {
	p.window.mu.Lock()
	defer p.window.mu.Unlock()
	p.window.mu.waiting = p.window.mu.published != p.window.mu.confirmed
	return !p.window.mu.waiting
}

// await waits until done, which it asks again after each wake.
func (p *publisher) await(ctx context.Context, done func() bool) error {
	if err := p.out.Flush(); err != nil {
		return fmt.Errorf("bench: publish: %w", err)
	}
	for !done() {
		select {
		case <-p.window.wake:
		case err := <-p.out.Failed():
			return err
		case err := <-p.fault:
			return err
		case <-ctx.Done():
			published, confirmed := p.window.counts()
			return fmt.Errorf("bench: waiting for confirms (%d of %d): %w", confirmed, published, ctx.Err())
		}
	}
	return nil
}
