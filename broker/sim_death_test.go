package broker

import (
	"fmt"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// simDead is the name of the queue that dead letters go to.
const simDead = "dead"

// wanted is the nth queue as it is declared. Where the plan has dead letters they
// go from the first to the last.
func (s *simulation) wanted(n int) topology.Queue {
	q := topology.Queue{Vhost: "/", Name: fmt.Sprintf("q%d", n), Durable: true, Type: "quorum", Arguments: amqp.Table{}}
	switch {
	case s.plan.rejects > 0 && n == s.plan.queues-1:
		q.Name = simDead
	case n == 0:
		if s.plan.rejects > 0 {
			q.Arguments["x-dead-letter-exchange"], q.Arguments["x-dead-letter-routing-key"] = "", simDead
		}
		if s.plan.ttl > 0 {
			q.Arguments["x-message-ttl"] = s.plan.ttl.Milliseconds()
		}
	}
	return q
}

// isDead reports whether dead letters go to a queue.
func (s *simulation) isDead(id entry.QueueID) bool {
	return s.plan.rejects > 0 && len(s.queues) == s.plan.queues && id == s.queues[len(s.queues)-1]
}

// published are the queues that publishers publish to.
func (s *simulation) published() []entry.QueueID {
	if s.plan.rejects > 0 {
		return s.queues[:len(s.queues)-1]
	}
	return s.queues
}

// reject rejects a message instead of acking it, if it is to be.
func (ch *simChannel) reject(d queue.Delivery) bool {
	s := ch.p.s
	if s.plan.rejects == 0 || d.Queue != s.queues[0] || s.ending || !s.chance(s.plan.rejects) {
		return false
	}
	var record *topology.Queue
	ch.p.broker.view(func(state *topology.State) { record = state.QueueByID(d.Queue) })
	s.tell("%s rejects %d/%d", ch, d.Queue, d.Message)
	s.model.letGo(ch, d.Queue, d.Message)
	ch.settling++
	ch.p.gateway().deadLetter(ch.holder, record, []entry.Range{{First: d.Message, Last: d.Message}}, func() { ch.settling-- })
	return true
}

// acked notes that a client has acked a message, or needs not to.
func (m *simModel) acked(d queue.Delivery) {
	message := m.queues[d.Queue].messages[d.Message]
	message.seen, message.acked = true, true
}

// died reports whether a message that is settled was rejected or has expired, and
// expects that its dead letter is there by now.
func (m *simModel) died(q *simQueue, message *simMessage) bool {
	s := m.s
	if message.acked || message.queue != s.queues[0] {
		return false
	}
	expired := s.plan.ttl > 0 && m.time-message.at >= s.plan.ttl.Nanoseconds()
	if s.plan.rejects > 0 && m.deaths[message.content] == 0 || s.plan.rejects == 0 && !expired {
		return false
	}
	message.gone, message.settled = true, true
	q.live--
	return true
}
