package broker

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mirrormq/mirrormq/replicate"
)

// simPlan says what may go wrong in a run, and what clients do. A number n has it
// happen about once in n chances, 0 never.
type simPlan struct {
	name    string
	brokers int
	queues  int

	// Of each occasion of trouble, about twice a second:
	crash, pause, cut, stop, stall, breaks, transfer int
	// Of messages between brokers: datagrams and frames of links that are lost,
	// messages that a full link refuses, and how long one may take.
	drop, lose, full int
	slow             time.Duration

	// How much the groups' logs grow until a checkpoint, and keep of what mirrors
	// may need, in bytes, and how large a message is.
	checkpoint int64
	keep       uint64
	size       int

	// Of clients:
	usual                       string // ack quorum of the queues
	quorums                     []replicate.Quorum
	noAck, gets, reopen, purges int
	returns                     int
	producers                   int
	// rejects has the first queue dead-letter to the last one; ttl is how long its
	// messages live, 0 for ever.
	rejects int
	ttl     time.Duration
	timeout time.Duration
}

// simPlans are the kinds of runs: each seed draws one.
var simPlans = []simPlan{
	{name: "kills", crash: 3},
	{name: "pauses", pause: 3},
	{name: "cuts", cut: 2, drop: 50},
	{name: "losses", lose: 300, drop: 30, full: 400},
	{name: "disks", stall: 2, breaks: 12, crash: 8},
	{name: "stops", stop: 3, transfer: 3},
	{name: "all", crash: 8, pause: 10, cut: 8, stop: 12, stall: 8, breaks: 30, transfer: 10, drop: 50, lose: 2000, full: 2000},
}

// drawPlan draws the rest of a run.
func drawPlan(seed uint64) simPlan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := simPlans[r.IntN(len(simPlans))]
	p.brokers, p.queues = 3, 3
	if r.IntN(4) == 0 {
		p.brokers = 5
	}
	p.slow = []time.Duration{500 * time.Microsecond, 2 * time.Millisecond, 20 * time.Millisecond}[r.IntN(3)]
	p.usual = "majority"
	p.quorums = []replicate.Quorum{replicate.QuorumMajority, replicate.QuorumMajority, replicate.QuorumLeader, replicate.QuorumAll}
	if p.brokers == 5 {
		p.quorums = append(p.quorums, 4)
		if r.IntN(2) == 0 {
			p.usual, p.quorums = "2", append(p.quorums, 2, 2, 2)
		}
	}
	p.checkpoint = 8 << 10
	if r.IntN(3) > 0 {
		p.keep, p.size = 1, 4<<10
	}
	p.returns = []int{0, 10, 30}[r.IntN(3)]
	if r.IntN(2) == 0 {
		p.gets = 2
	}
	if r.IntN(2) == 0 {
		p.reopen = 40
	}
	if r.IntN(3) == 0 {
		p.noAck = 3
	}
	if r.IntN(3) == 0 {
		p.purges = 20
	}
	if r.IntN(3) == 0 {
		p.timeout = time.Duration(500+r.IntN(4000)) * time.Millisecond
	}
	p.producers = r.IntN(3)
	if r.IntN(3) == 0 {
		p.rejects, p.queues = 5, 4
	}
	if r.IntN(4) == 0 {
		p.ttl = time.Duration(50+r.IntN(800)) * time.Millisecond
	}
	p.name = fmt.Sprintf("%s of %d", p.name, p.brokers)
	return p
}

// trouble is an occasion for something bad.
func (s *simulation) trouble() {
	if s.calm {
		return
	}
	s.after(s.between(50*time.Millisecond, 900*time.Millisecond), s.trouble)
	b := s.brokers[s.random.IntN(len(s.brokers))]
	if leader := s.leader(); leader != nil && s.chance(2) {
		b = leader // It is the interesting one.
	}
	p := b.process
	up := p != nil && !p.paused && !p.stopping
	switch {
	case up && s.chance(s.plan.crash):
		if s.chance(10) { // power is lost
			for _, other := range s.brokers {
				other.crash()
			}
		} else {
			b.crash()
		}
	case up && s.chance(s.plan.pause):
		p.pause(s.between(20*time.Millisecond, s.between(100*time.Millisecond, 4*time.Second)))
	case up && s.chance(s.plan.stop):
		p.stop()
	case s.chance(s.plan.cut):
		s.network.trouble(b)
	case up && s.chance(s.plan.stall):
		s.counts.stalls++
		d := s.between(10*time.Millisecond, s.between(50*time.Millisecond, 3*time.Second))
		s.tell("disk of %s stalls for %v", b.name, d)
		b.disk.stalled = s.now + d
	case up && s.chance(s.plan.breaks):
		s.tell("disk of %s breaks", b.name)
		s.counts.breaks++
		b.disk.broken = true
	case up && s.chance(s.plan.transfer):
		to := s.brokers[s.random.IntN(len(s.brokers))].name
		if e := p.broker.elections[simGroup]; to != b.name && e.elector.Leads() {
			err := e.transferTo(to)
			s.counts.transfers++
			s.tell("transfer from %s to %s: %v", b.name, to, err)
			e.loop.rouse()
			p.rouse()
		}
	}
}

// leader is the broker that leads the queues, as the newest term has it.
func (s *simulation) leader() (leader *simBroker) {
	var newest uint64
	for _, b := range s.brokers {
		if b.process == nil {
			continue
		}
		if term := b.process.group.loop.term; term > newest {
			leader, newest = b, term
		}
	}
	return leader
}
