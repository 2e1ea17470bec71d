package broker

// sharedPrefetch is basic.qos with global=true: how many deliveries all
// consumers of a channel may have unacked together.
//
// Each group keeps to the limit by itself (queue.Dispatcher.HolderLimit). Where
// a channel consumes from queues of several groups they may give more between
// them: what is too much is parked here until acks make room. Guarded by the
// outbox's mutex; not used while there is no limit.
type sharedPrefetch struct {
	limit  int
	given  int // deliveries sent or on their way, and not settled
	parked []delivery
}

// set changes the limit, 0 for none. held is how many deliveries the channel
// has when the first limit is set. REQUIRES: outbox's mu held.
func (s *sharedPrefetch) set(limit, held int, o *outbox) {
	if s.limit == 0 {
		s.given = held
	}
	s.limit = limit
	s.release(o)
}

// offer sends a delivery or parks it. REQUIRES: outbox's mu held.
func (s *sharedPrefetch) offer(d delivery, o *outbox) {
	if s.given >= s.limit {
		s.parked = append(s.parked, d)
		return
	}
	s.given++
	o.putDelivery(d)
}

// settled makes room for n more. REQUIRES: outbox's mu held.
func (s *sharedPrefetch) settled(n int, o *outbox) {
	s.given = max(s.given-n, 0)
	s.release(o)
}

func (s *sharedPrefetch) release(o *outbox) {
	for len(s.parked) > 0 && (s.limit == 0 || s.given < s.limit) {
		o.putDelivery(s.parked[0])
		s.parked[0] = delivery{}
		s.parked = s.parked[1:]
		s.given++
	}
	if len(s.parked) == 0 {
		s.parked = nil
	}
}

// leave takes out what is parked for a consumer that goes. It is sent all the
// same, beyond the limit, unless its queue is gone. REQUIRES: outbox's mu held.
func (s *sharedPrefetch) leave(to *subscriber, o *outbox) {
	kept := s.parked[:0]
	for _, d := range s.parked {
		switch {
		case d.to != to:
			kept = append(kept, d)
		case o != nil:
			s.given++
			o.putDelivery(d)
		}
	}
	clear(s.parked[len(kept):])
	s.parked = kept
}

// makeRoom tells the shared prefetch of the deliveries that were settled.
func (ch *channel) makeRoom() {
	n := ch.freed
	ch.freed = 0
	if n == 0 || ch.shared.Load() == 0 {
		return
	}
	o := &ch.conn.out
	o.mu.Lock()
	ch.window.settled(n, o)
	o.mu.Unlock()
}
