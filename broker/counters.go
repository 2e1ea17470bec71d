package broker

import "sync/atomic"

// counters are what the core counts since the broker's start; traffic is what
// the connections count.
type counters struct {
	// duplicates and tooOld are producers' publishes, to the groups that it leads.
	duplicates, tooOld                  atomic.Uint64
	acked, queuesCreated, queuesDeleted atomic.Uint64
}
