package main

import "time"

// timer is a time.Timer for which 0 means never.
type timer struct{ *time.Timer }

func newTimer(d time.Duration) *timer {
	t := &timer{time.NewTimer(time.Hour)}
	t.reset(d)
	return t
}

// reset starts the timer again.
func (t *timer) reset(d time.Duration) {
	if d <= 0 {
		t.Stop()
		return
	}
	t.Reset(d)
}

func (t *timer) expired() <-chan time.Time { return t.C }
func (t *timer) stop()                     { t.Stop() }
