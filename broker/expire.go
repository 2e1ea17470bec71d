package broker

import (
	"strconv"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// settingsOf is what q's group has to know of it.
func settingsOf(q *topology.Queue) queue.Settings {
	s := queue.Settings{Vhost: q.Vhost, Name: q.Name, AckQuorum: q.AckQuorum}
	if ttl, ok := integer(q.Arguments["x-message-ttl"]); ok {
		s.Expires, s.MessageTTL = true, time.Duration(ttl)*time.Millisecond
	}
	return s
}

// appendEnqueue appends an enqueue up to its content, with the message's
// expiration if it has one.
func appendEnqueue(ops []byte, queues []entry.QueueID, properties amqp.RawProperties, size int) []byte {
	if properties.Flags()&amqp.FlagExpiration != 0 {
		if text, ok := properties.Expiration(); ok {
			// It was checked when it was published: see validExpiration.
			if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
				return queue.AppendEnqueueExpiring(ops, time.Duration(n)*time.Millisecond, queues, size)
			}
		}
	}
	return queue.AppendEnqueue(ops, queues, size)
}

// expire has what expired leave its queue. It is called every turn, and so at
// each tick at least.
func (g *group) expire() {
	g.dispatcher.Expired(func(q entry.QueueID, ranges []entry.Range) {
		var record *topology.Queue
		g.view(func(s *topology.State) { record = s.QueueByID(q) })
		if record != nil {
			if _, _, _, ok := deadLetterExchange(record); ok {
				g.die(record, deathExpired, ranges, func() {})
				return
			}
		}
		g.own = queue.AppendSettle(g.own, q, ranges)
	})
}
