package broker

import (
	"errors"
	"sync"
	"time"
)

// errHeartbeat is why a connection ends whose client has gone quiet.
var errHeartbeat = errors.New("missed heartbeats from client")

// pulse is a connection's heartbeats: it sends one when nothing else was sent
// for half an interval, and ends the connection when nothing was received for
// two. It has no goroutine: 10,000 idle connections cost timers only.
type pulse struct {
	mu struct {
		sync.Mutex
		timer   *time.Timer
		stopped bool
	}
	period         time.Duration // half an interval
	received, sent uint64        // at the last beat; the timer's
	quiet          int           // beats without anything received; the timer's
}

// start begins the heartbeats that were agreed on, if any were.
func (p *pulse) start(c *conn) {
	if c.session.heartbeat == 0 {
		return
	}
	p.period = c.session.heartbeat / 2
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.timer = time.AfterFunc(p.period, func() { p.beat(c) })
}

// beat runs on a timer's goroutine, one at a time.
func (p *pulse) beat(c *conn) {
	if sent := c.sent.Load(); sent == p.sent {
		c.out.heartbeat()
	} else {
		p.sent = sent
	}
	// A client that isn't read can't be heard.
	if received := c.received.Load(); received != p.received || c.waiting.Load() {
		p.received, p.quiet = received, 0
	} else {
		p.quiet++
	}
	// Four halves are two intervals; one more, for a heartbeat that is on its
	// way while the timer fires.
	if p.quiet > 4 {
		c.abort(errHeartbeat)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.stopped {
		p.mu.timer.Reset(p.period)
	}
}

func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.stopped = true
	if p.mu.timer != nil {
		p.mu.timer.Stop()
	}
}
