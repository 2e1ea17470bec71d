package testcluster

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// timelineBound is the number of events that are kept.
const timelineBound = 400

// Timeline is what happened in a run, by the monotonic clock since its start.
// It may be used from many goroutines.
type Timeline struct {
	start time.Time
	log   func(string)
	mu    struct {
		sync.Mutex
		events []string
	}
}

// newTimeline starts now. log, if any, is told each event at once.
func newTimeline(log func(string)) *Timeline {
	return &Timeline{start: time.Now(), log: log}
}

// now is the time since the start.
func (l *Timeline) now() time.Duration { return time.Since(l.start) }

// Note enters an event.
func (l *Timeline) Note(format string, args ...any) {
	event := fmt.Sprintf("%9.3f  %s", l.now().Seconds(), fmt.Sprintf(format, args...))
	l.mu.Lock()
	if len(l.mu.events) == timelineBound {
		l.mu.events = append(l.mu.events[:0], l.mu.events[timelineBound/2:]...)
	}
	l.mu.events = append(l.mu.events, event)
	l.mu.Unlock()
	if l.log != nil {
		l.log(event)
	}
}

// String is the newest events, a line each.
func (l *Timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.mu.events, "\n")
}
