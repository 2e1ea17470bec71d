package client

import "sync/atomic"

// Stats are what a client has counted since it was made.
type Stats struct {
	// Reconnects counts lost connections.
	Reconnects uint64
	// Published counts messages handed to a broker, Republished those of them
	// that were handed over again after a connection broke.
	Published, Republished uint64
	// Confirmed, Nacked and Returned are how messages ended.
	Confirmed, Nacked, Returned uint64
	// Delivered counts messages that came, Redelivered those of them that came
	// with the flag.
	Delivered, Redelivered uint64
	// Acked, Rejected and Requeued are how deliveries were settled; Retried counts
	// calls of a handler after its first for a delivery.
	Acked, Rejected, Requeued, Retried uint64
	// Stale counts deliveries that could not be settled, because their connection
	// was gone: they are delivered again.
	Stale uint64
}

type counters struct {
	reconnects                         atomic.Uint64
	published, republished             atomic.Uint64
	confirmed, nacked, returned        atomic.Uint64
	delivered, redelivered             atomic.Uint64
	acked, rejected, requeued, retried atomic.Uint64
	stale                              atomic.Uint64
}

func (c *counters) snapshot() Stats {
	return Stats{
		Reconnects: c.reconnects.Load(),
		Published:  c.published.Load(), Republished: c.republished.Load(),
		Confirmed: c.confirmed.Load(), Nacked: c.nacked.Load(), Returned: c.returned.Load(),
		Delivered: c.delivered.Load(), Redelivered: c.redelivered.Load(),
		Acked: c.acked.Load(), Rejected: c.rejected.Load(), Requeued: c.requeued.Load(), Retried: c.retried.Load(),
		Stale: c.stale.Load(),
	}
}
