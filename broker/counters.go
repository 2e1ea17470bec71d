package broker

import "sync/atomic"

// counters are what the core counts since the broker's start; traffic is what
// the connections count.
type counters struct {
	acked, queuesCreated, queuesDeleted atomic.Uint64
}
