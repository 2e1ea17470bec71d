package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// progress is a line on a terminal that shows how far a command is.
type progress struct {
	w             io.Writer
	total         int64 // 0 if unknown
	sent, settled *atomic.Int64
	started       time.Time
	quit          chan struct{}
	done          sync.WaitGroup
	once          sync.Once
}

// startProgress draws on w five times a second until stop, if w is a terminal.
// Nothing is drawn in the first moments: a short command needs no bar.
func startProgress(w io.Writer, wanted bool, total int64, sent, settled *atomic.Int64) *progress {
	p := &progress{w: w, total: total, sent: sent, settled: settled, started: time.Now(), quit: make(chan struct{})}
	if !wanted || !isTerminal(w) {
		return p
	}
	p.done.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-p.quit:
				_, _ = io.WriteString(p.w, "\r\x1b[K")
				return
			case <-ticker.C:
				_, _ = io.WriteString(p.w, "\r"+p.line(time.Since(p.started))+"\x1b[K")
			}
		}
	})
	return p
}

// stop clears the line.
func (p *progress) stop() {
	p.once.Do(func() { close(p.quit) })
	p.done.Wait()
}

// line is the bar after some time.
func (p *progress) line(took time.Duration) string {
	n := p.settled.Load()
	if n == 0 {
		n = p.sent.Load() // Without confirms nothing is settled.
	}
	speed := perSecond(n, took)
	if p.total == 0 {
		return fmt.Sprintf("%s  %s", plural(n, "message"), speed)
	}
	const width = 30
	filled := int(min(n, p.total) * width / p.total)
	left := ""
	if n > 0 && n < p.total {
		left = "  " + (time.Duration(float64(took) / float64(n) * float64(p.total-n))).Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("[%s%s] %3d%%  %s/%s  %s%s",
		strings.Repeat("=", filled), strings.Repeat(" ", width-filled), n*100/p.total,
		thousands(n), thousands(p.total), speed, left)
}
