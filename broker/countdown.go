package broker

import "sync/atomic"

// countdown calls done when as many have arrived as it was made for.
type countdown struct {
	left atomic.Int64
	done func()
}

func newCountdown(n int, done func()) *countdown {
	c := &countdown{done: done}
	c.left.Store(int64(n))
	return c
}

func (c *countdown) arrive() {
	if c.left.Add(-1) == 0 {
		c.done()
	}
}
