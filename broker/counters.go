package broker

import "sync/atomic"

// counters are a broker's totals since its start. What the connections count
// (publishes, confirms, returns) and what the groups count (deliveries, acks)
// stand together because they are read together.
type counters struct {
	delivered, redelivered, acked                atomic.Uint64
	queuesDeclared, queuesCreated, queuesDeleted atomic.Uint64
}
