package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff are pauses that double from least to most. A pause is drawn from the
// upper half of its length, so that many clients don't come back at once.
type backoff struct {
	least, most time.Duration
	next        time.Duration
}

// pause returns how long to wait now.
func (b *backoff) pause() time.Duration {
	b.next = min(max(2*b.next, b.least), b.most)
	return b.next - rand.N(b.next/2+1)
}

func (b *backoff) reset() { b.next = 0 }

// sleep waits for d, or returns why ctx has ended.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
