package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// simProducer is an idempotent producer. It outlives its connections: when one
// breaks, or confirms nothing for too long, it publishes all that is unconfirmed
// again over another broker. Copies that a broker got before may come later.
type simProducer struct {
	s           *simulation
	name        string
	connection  *simConnection // nil for none
	number      uint64
	window      int
	pace        time.Duration
	patience    time.Duration
	progress    time.Duration // when it was last confirmed something, or connected
	unconfirmed []simNumbered
}

// simNumbered is a publish of a producer.
type simNumbered struct {
	number uint64
	body   string
	queues []entry.QueueID
	quorum replicate.Quorum
	size   int // of what is behind the body
}

// simConnection is a producer's way to a broker, which reads in order what was
// sent, when it comes to it: also what the producer no longer waits for.
type simConnection struct {
	of   *simProducer
	p    *simProcess
	sent [][]simNumbered
}

// produce makes the producers of a run.
func (s *simulation) produce() {
	for i := range s.plan.producers {
		c := &simProducer{
			s: s, name: fmt.Sprintf("i%d", i+1), window: 1 + s.random.IntN(40),
			pace: s.between(2*time.Millisecond, 60*time.Millisecond), patience: s.between(100*time.Millisecond, 1500*time.Millisecond),
		}
		s.clients = append(s.clients, c)
		s.after(s.between(0, c.pace), c.act)
	}
}

func (c *simProducer) on() *simProcess {
	if c.connection == nil {
		return nil
	}
	return c.connection.p
}

func (c *simProducer) close() { c.disconnect("its broker stops") }
func (c *simProducer) died()  { c.disconnect("its broker died") }

func (c *simProducer) waits() string {
	if len(c.unconfirmed) > 0 {
		return fmt.Sprintf("%s has %d unconfirmed publishes", c.name, len(c.unconfirmed))
	}
	return ""
}

func (c *simProducer) disconnect(why string) {
	c.s.tell("%s leaves %s: %s", c.name, c.connection.p.of.name, why)
	c.connection = nil
}

// act does what is next.
func (c *simProducer) act() {
	s := c.s
	if s.ending && len(c.unconfirmed) == 0 {
		return
	}
	s.after(s.between(0, 2*c.pace), c.act)
	switch {
	case c.connection == nil:
		c.connect()
	case len(c.unconfirmed) > 0 && s.now-c.progress > c.patience:
		c.disconnect("nothing is confirmed")
	case !s.calm && s.chance(200):
		c.disconnect("the connection breaks")
	case !s.ending && len(c.unconfirmed) < c.window:
		c.publish()
	}
}

// connect goes to any broker that takes connections, and publishes all again.
func (c *simProducer) connect() {
	s := c.s
	b := s.brokers[s.random.IntN(len(s.brokers))]
	if b.process == nil || !b.process.ready || b.process.stopping {
		return
	}
	n := &simConnection{of: c, p: b.process}
	c.connection, c.progress = n, s.now
	s.tell("%s goes to %s with %d unconfirmed", c.name, b.name, len(c.unconfirmed))
	s.counts.repeated += len(c.unconfirmed)
	for again := range slices.Chunk(slices.Clone(c.unconfirmed), 1+s.random.IntN(5)) {
		n.send(again)
	}
}

func (c *simProducer) publish() {
	s := c.s
	// Before its commit nobody knows whether it is the first: see wishes.
	quorum := c.connection.p.broker.quorums().stronger(s.plan.quorums[s.random.IntN(len(s.plan.quorums))], replicate.QuorumMajority)
	first := len(c.unconfirmed)
	for range 1 + s.random.IntN(3) {
		c.number++
		at := s.random.IntN(len(s.published()))
		queues := []entry.QueueID{s.published()[at]}
		if s.chance(4) {
			queues = append(queues, s.published()[(at+1)%len(s.published())])
		}
		c.unconfirmed = append(c.unconfirmed, simNumbered{c.number, fmt.Sprintf("%s/%d", c.name, c.number), queues, quorum, 1 + s.random.IntN(s.plan.size+1)})
	}
	if first == 0 {
		c.progress = s.now
	}
	s.counts.published += len(c.unconfirmed) - first
	c.connection.send(slices.Clone(c.unconfirmed[first:]))
}

func (n *simConnection) send(publishes []simNumbered) {
	n.sent = append(n.sent, publishes)
	n.p.handle(n.read)
}

// read hands what was sent to the group.
func (n *simConnection) read() {
	sent := n.sent
	n.sent = nil
	for _, publishes := range sent {
		ops, quorum := takeOps(), replicate.QuorumMajority
		for _, m := range publishes {
			quorum = n.p.broker.quorums().stronger(quorum, m.quorum)
			body := m.body + strings.Repeat(" ", m.size)
			w := wishes{producer: []byte(n.of.name), sequence: m.number}
			ops = appendPublish(w.appendOnce(ops, "/"), m.queues, nil, nil, []byte{0, 0}, len(body))
			ops = append(ops, body...)
		}
		n.p.gateway().submit(&submission{ops: ops, quorum: quorum, done: func(o outcome) { n.told(publishes, quorum, o) }})
	}
}

// told takes the confirm, or the nack, of publishes. Whether the producer still
// waits for it or not, what is confirmed is there, once.
func (n *simConnection) told(publishes []simNumbered, quorum replicate.Quorum, o outcome) {
	c, s := n.of, n.of.s
	s.tell("%s told of %v: %v", c.name, publishes, o.err)
	if len(o.ops) > 0 {
		s.fatalf("%s: %v is told %+v", c.name, publishes, o.ops)
	}
	for _, m := range publishes {
		if o.err == nil {
			s.model.confirmed(&simConfirm{m.body, len(m.queues), quorum, n.p})
		}
	}
	switch {
	case c.connection != n:
	case o.err != nil:
		s.counts.refused += len(publishes)
		c.disconnect(o.err.Error())
	default:
		c.progress = s.now
		s.counts.confirmed += len(publishes)
		for _, m := range publishes {
			c.unconfirmed = slices.DeleteFunc(c.unconfirmed, func(other simNumbered) bool { return other.number == m.number })
		}
	}
}

// repeated reports whether a publish is a producer's that came before.
func (m *simModel) repeated(op *queue.Op) bool {
	if op.Sequence == 0 {
		return false
	}
	_, name := op.Producer()
	key := fmt.Sprintf("%s/%d", name, op.Sequence)
	if m.numbered[key] {
		m.s.counts.dropped++
		return true
	}
	m.numbered[key] = true
	return false
}

// unordered reports whether a publisher's publishes may be enqueued out of order:
// a producer's that were given up in between, and published again.
func (m *simModel) unordered(publisher string) bool {
	return m.s.plan.timeout > 0 && publisher[0] == 'i'
}
