package testcluster

import (
	"sync"
	"time"
)

// Gap is the longest time between two events of a client.
type Gap struct {
	Length time.Duration
	From   time.Duration // since the start of the run
}

// meter measures how long a client stands still.
type meter struct {
	timeline *Timeline
	broker   int
	mu       struct {
		sync.Mutex
		last    time.Duration // of the newest event
		any     bool
		longest Gap
	}
}

// event notes that something came.
func (m *meter) event() {
	now := m.timeline.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.extend(now)
	m.mu.last, m.mu.any = now, true
}

// extend is called with mu held.
func (m *meter) extend(now time.Duration) {
	if gap := now - m.mu.last; m.mu.any && gap > m.mu.longest.Length {
		m.mu.longest = Gap{gap, m.mu.last}
	}
}

// begin forgets the gaps before now, but not one that is under way.
func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.longest = Gap{}
}

// end returns the longest gap since begin, one that is under way included.
func (m *meter) end() Gap {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.extend(m.timeline.now())
	return m.mu.longest
}

// newest is when the newest event came.
func (m *meter) newest() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.last
}
