package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/time/rate"
)

// newHistogram holds latencies from 1 µs to 10 minutes with 3 digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

// record adds a latency in nanoseconds, clipped to what the histogram holds.
func record(h *hdrhistogram.Histogram, nanoseconds int64) {
	microseconds := min(max(nanoseconds/1000, 1), h.HighestTrackableValue())
	// The only error is a value out of range.
	_ = h.RecordValue(microseconds)
}

// window bounds a publisher's unconfirmed messages and remembers when each
// was sent. One goroutine sends, another confirms.
type window struct {
	sentAt []atomic.Int64 // by tag modulo its length; 0 once confirmed

	mu struct {
		sync.Mutex
		published, confirmed uint64 // Invariant: published-confirmed <= len(sentAt)
		oldest               uint64 // every tag before it is confirmed
		waiting              bool
	}
	wake chan struct{} // capacity 1
}

func newWindow(size int) *window {
	// Twice the size: with tags confirmed out of order, the oldest may lag
	// while newer ones take its successors' places. add waits for that too.
	w := &window{sentAt: make([]atomic.Int64, 2*size), wake: make(chan struct{}, 1)}
	w.mu.oldest = 1
	return w
}

// full says whether another message must wait, and if so arranges for wake.
func (w *window) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := uint64(len(w.sentAt))
	w.mu.waiting = w.mu.published-w.mu.confirmed >= size/2 || w.mu.published+1-w.mu.oldest >= size
	return w.mu.waiting
}

// add notes a message sent at the given time and returns its tag.
// REQUIRES: !full()
func (w *window) add(at int64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.published++
	w.sentAt[w.mu.published%uint64(len(w.sentAt))].Store(at)
	return w.mu.published
}

// confirm settles tag, or all up to it, and calls each with the time that
// every newly settled message was sent at.
func (w *window) confirm(tag uint64, multiple bool, each func(sentAt int64)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if tag == 0 || tag > w.mu.published {
		return fmt.Errorf("bench: confirm of tag %d, published %d", tag, w.mu.published)
	}
	size := uint64(len(w.sentAt))
	first := tag
	if multiple {
		first = w.mu.oldest
	}
	for t := max(first, w.mu.oldest); t <= tag; t++ {
		if at := w.sentAt[t%size].Swap(0); at != 0 {
			w.mu.confirmed++
			each(at)
		}
	}
	for w.mu.oldest <= w.mu.published && w.sentAt[w.mu.oldest%size].Load() == 0 {
		w.mu.oldest++
	}
	// An eighth of the window must be free before the publisher is woken: to
	// wake it for every single confirm would cost the machine more than the
	// publishing itself.
	room := max(1, size/16)
	if w.mu.waiting && w.mu.published-w.mu.confirmed <= size/2-room {
		w.mu.waiting = false
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (w *window) counts() (published, confirmed uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.published, w.mu.confirmed
}

// publisher is one publishing connection of a run.
type publisher struct {
	run    *run
	id     uint32
	queue  string
	window *window
	out    Publisher
	limit  *rate.Limiter // nil: none

	sent      atomic.Uint64
	confirmed atomic.Uint64
	nacked    atomic.Uint64
	// latency is written by the confirming goroutine only; read after Close.
	latency *hdrhistogram.Histogram
	fault   chan error // capacity 1: a confirm that makes no sense
}

func newPublisher(r *run, id int, url string) (*publisher, error) {
	p := &publisher{
		run: r, id: uint32(id), queue: r.queueName(id), window: newWindow(r.Window),
		latency: newHistogram(), fault: make(chan error, 1),
	}
	if r.Rate > 0 {
		p.limit = rate.NewLimiter(rate.Limit(r.Rate/float64(r.Publishers)), 1)
	}
	out, err := r.Driver.OpenPublisher(url, p.onConfirm)
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
			record(p.latency, at-sentAt)
		}
	})
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
	body := newBody(p.run.Size, uint64(p.id))
	for limit == 0 || p.sent.Load() < limit {
		select {
		case <-stop:
			return p.await(ctx, p.settled)
		default:
		}
		if p.limit != nil {
			if err := p.limit.Wait(ctx); err != nil {
				return err
			}
		}
		if p.window.full() {
			if err := p.await(ctx, func() bool { return !p.window.full() }); err != nil {
				return err
			}
		}
		sequence := p.sent.Add(1)
		at := now()
		stamp{from: p.id, sequence: sequence, sentAt: at, run: p.run.id}.put(body)
		p.window.add(at)
		if err := p.out.Publish(p.queue, !p.run.Transient, body); err != nil {
			return fmt.Errorf("bench: publish: %w", err)
		}
	}
	return p.await(ctx, p.settled)
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
