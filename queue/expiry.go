package queue

import (
	"math"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// maxTTL is the longest time that a message may wait before it expires, in
// milliseconds.
const maxTTL = 1 << 43

// MaxTTL is the longest TTL and expiration: 279 years.
const MaxTTL = maxTTL * time.Millisecond

const (
	// never is when a message expires that doesn't.
	never = math.MaxInt64
	// atOnce is when a message expires that has no time at all: it is given to
	// a consumer that can take it when it comes, or to nobody.
	atOnce = 1
)

// milliseconds is d in whole milliseconds, from 0 to maxTTL.
func milliseconds(d time.Duration) uint64 {
	return uint64(min(max(d.Milliseconds(), 0), maxTTL))
}

// deadline is when a message expires that came at now.
func deadline(now int64, lifetime time.Duration) int64 {
	switch {
	case lifetime == 0:
		return atOnce
	case now > math.MaxInt64-int64(lifetime):
		return never
	}
	return max(now+int64(lifetime), atOnce)
}

// expires tells whether some message of the queue may expire.
func (q *state) expires() bool {
	return q.settings.Expires || q.expirations != nil && q.expirations.live > 0
}

// limit notes when the message expires that the queue has just got.
//
// Nothing is kept per message where the queue's TTL decides: the time of the
// batch is kept with its entry, as long as the entry is live. So an old message
// that stays pins no more than its own entry's.
func (m *Machine) limit(q *state, op *Op, fx *Effects) {
	own := op.Kind == EnqueueExpiring && (!q.settings.Expires || op.Lifetime < q.settings.MessageTTL)
	switch {
	case own:
		if q.expirations == nil {
			q.expirations = &table[int64]{pool: &m.times}
		}
		q.expirations.put(uint64(q.last), deadline(m.now, op.Lifetime))
	case q.settings.MessageTTL > 0:
		m.stamped = true
	}
	if q.limited != m.applied {
		q.limited = m.applied
		fx.Expiring = append(fx.Expiring, q.id)
	}
}

// expiry is when a waiting message expires.
func (m *Machine) expiry(q *state, id uint64, r record) int64 {
	if q.expirations != nil {
		if at, ok := q.expirations.get(id); ok {
			return at
		}
	}
	if !q.settings.Expires {
		return never
	}
	stamp, _ := m.stamps.get(r.index())
	return deadline(stamp, q.settings.MessageTTL)
}

// Expiry is when a waiting message expires, in nanoseconds of the Unix epoch;
// false if it doesn't or is gone. One that expires at once has a time long past.
func (m *Machine) Expiry(q entry.QueueID, id entry.MessageID) (at int64, ok bool) {
	s := m.find(q)
	if s == nil {
		return 0, false
	}
	r, ok := s.waiting.get(uint64(id))
	if !ok {
		return 0, false
	}
	at = m.expiry(s, uint64(id), r)
	return at, at != never
}
