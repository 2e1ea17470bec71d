package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// The tests of DESIGN.md's table of ack quorums, row by row, each with what it
// waits for and, where it is weak, what it does not survive.

// firstGroup is the group of a cluster's only queue group.
const firstGroup entry.GroupID = 1

func ackQuorum(q any) func(*amqp.QueueDeclare) {
	return func(m *amqp.QueueDeclare) {
		durableQueue(m)
		m.Arguments = amqp.Table{ackQuorumKey: q}
	}
}

func atLeast(q any) func(*amqp.BasicPublish, *amqp.Properties) {
	return func(_ *amqp.BasicPublish, p *amqp.Properties) { p.Headers = amqp.Table{ackQuorumKey: q} }
}

// confirming returns a client with channel 1 in confirm mode.
func confirming(t testing.TB, address string) *rawClient {
	t.Helper()
	c := openChannelRaw(t, address)
	if err := c.socket.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	return c
}

// acked expects the confirm of one publish alone.
func (c *rawClient) acked(tag uint64) {
	c.t.Helper()
	if m := receive[*amqp.BasicAck](c, 1); m.DeliveryTag != tag || m.Multiple {
		c.t.Fatalf("%+v, want the ack of %d", m, tag)
	}
}

// acks receives the confirms of n publishes, in whatever frames.
func (c *rawClient) acks(first, last uint64) {
	c.t.Helper()
	for low := first; low <= last; {
		m := receive[*amqp.BasicAck](c, 1)
		if m.DeliveryTag < low || m.DeliveryTag > low && !m.Multiple {
			c.t.Fatalf("%+v, want the ack of %d", m, low)
		}
		low = m.DeliveryTag + 1
	}
}

// drain gets all that a queue has.
func (c *rawClient) drain(queue string) (bodies []string) {
	c.t.Helper()
	for {
		c.send(1, &amqp.BasicGet{Queue: queue, NoAck: true})
		switch _, m := c.method(); m.(type) {
		case *amqp.BasicGetOk:
			_, body := c.content()
			bodies = append(bodies, body)
		case *amqp.BasicGetEmpty:
			return bodies
		default:
			c.t.Fatalf("%T", m)
		}
	}
}

func TestTheLeadersQuorumNeedsNoMirrorAndLosesWhatOnlyTheLeaderHad(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	p := confirming(t, c.address(leader))
	p.declare("weak", ackQuorum("leader"))
	p.declare("usual", durableQueue)
	p.publish("", "weak", "kept")
	p.publish("", "usual", "kept")
	p.acks(1, 2)

	c.deafen(leader, mirrors...)
	p.publish("", "usual", "waits")
	p.publish("", "weak", "waits", atLeast("majority"))
	p.publish("", "weak", "lost")
	p.acked(5)
	c.cut(leader)

	next := c.leader(firstGroup, leader)
	q := openChannelRaw(t, c.address(next))
	if got := q.drain("weak"); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("the next leader's queue has %q", got)
	}
	if got := q.drain("usual"); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("the next leader's queue has %q", got)
	}
}

func TestTheLeadersQuorumEndsWithItsMajority(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	p := confirming(t, c.address(leader))
	p.declare("weak", ackQuorum("leader"))
	c.deafen(leader, mirrors...)
	c.eventually("the leader to miss its mirrors", func() bool {
		hears := make(chan bool, 1)
		g := c.brokers[leader].groups[firstGroup]
		g.call(func() { hears <- g.node.HeardFromMajority() })
		return !<-hears
	})
	p.publish("", "weak", "waits")
	p.silent()
	c.hear(leader, mirrors...)
	p.acked(1)
	if got := p.drain("weak"); !slices.Equal(got, []string{"waits"}) {
		t.Errorf("the queue has %q", got)
	}
}

// A quorum of 2 among 5: the leader and one mirror have what is confirmed. When
// the leader is gone, that mirror has to be the one that is promoted, which a
// majority of the votes alone would not see to.
func TestTwoOfFiveSurviveTheLeadersLoss(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			c := startCluster(t, 5, func(c *Config) { c.Copies = 5 })
			leader := c.leader(firstGroup)
			mirrors := c.others(leader)
			keeps := mirrors[round%len(mirrors)]
			p := confirming(t, c.address(leader))
			p.declare("q", ackQuorum(2))
			p.publish("", "q", "first")
			p.acks(1, 1)
			c.applied(firstGroup, leader, mirrors...)
			c.deafen(leader, c.others(leader, keeps)...)
			want := []string{"first"}
			for i := range 20 {
				want = append(want, fmt.Sprint(i))
				p.publish("", "q", want[i+1])
			}
			p.acks(2, 21)
			term := c.term(leader, firstGroup)
			c.cut(leader)

			promotion := c.promotion(keeps, firstGroup, term)
			if promotion.To != keeps || !promotion.Clean || promotion.Positions[0].Broker != keeps {
				t.Errorf("%s had all: %+v", keeps, promotion)
			}
			// An election so slow that its round was numbered anew tells of its
			// winner alone.
			if n := len(promotion.Positions); n != 1 && n < 4 {
				t.Errorf("too few positions: %+v", promotion.Positions)
			}
			for _, s := range promotion.Positions[1:] {
				if s.Position.Compare(promotion.Positions[0].Position) >= 0 {
					t.Errorf("no lower position: %+v", promotion.Positions)
				}
			}
			c.leader(firstGroup, leader)
			other := c.others(leader, keeps)[0]
			if got := openChannelRaw(t, c.address(other)).drain("q"); !slices.Equal(got, want) {
				t.Errorf("the next leader has %q", got)
			}
		})
	}
}

func TestAMajorityNeedsNoMore(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	p := confirming(t, c.address(leader))
	p.declare("usual", durableQueue)
	p.declare("two", ackQuorum("2"))
	c.stop(mirrors[0])
	p.publish("", "usual", "a")
	p.publish("", "two", "a")
	p.acks(1, 2)
	c.deafen(leader, mirrors[1])
	p.publish("", "usual", "b")
	p.publish("", "two", "b")
	p.silent()
	c.hear(leader, mirrors[1])
	p.acks(3, 4)
}

func TestAllWaitForABrokerThatIsDown(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	p := confirming(t, c.address(mirrors[0]))
	p.declare("usual", durableQueue)
	p.declare("all", ackQuorum("all"))
	p.declare("three", ackQuorum(3))
	p.publish("", "all", "0")
	p.publish("", "usual", "0", atLeast(3))
	p.acks(1, 2)

	c.stop(mirrors[1])
	p.publish("", "all", "1")
	p.publish("", "three", "1")
	p.publish("", "usual", "1", atLeast("all"))
	p.publish("", "usual", "2")
	p.acked(6) // It waits for none of the others.

	// What waits also waits under the next leader, and is there once.
	g := c.brokers[leader].groups[firstGroup]
	g.call(func() {
		if err := g.node.TransferLeader(c.brokers[leader].members.ids[mirrors[0]]); err != nil {
			t.Error(err)
		}
	})
	c.eventually("the other leader", func() bool { return c.leader(firstGroup) == mirrors[0] })
	p.publish("", "usual", "3")
	p.acked(7)
	c.start(mirrors[1])
	p.acks(3, 5)
	if got := p.drain("all"); !slices.Equal(got, []string{"0", "1"}) {
		t.Errorf("all: %q", got)
	}
	if got := p.drain("usual"); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
		t.Errorf("usual: %q", got)
	}
}

func TestWhatWaitsForAllForTooLongIsNacked(t *testing.T) {
	c := startCluster(t, 3, func(c *Config) { c.PublishTimeout, c.AckQuorum = 500*time.Millisecond, "all" })
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	here, there := confirming(t, c.address(leader)), confirming(t, c.address(mirrors[0]))
	here.declare("q", durableQueue)
	c.stop(mirrors[1])
	here.publish("", "q", "here")
	there.publish("", "q", "there")
	for _, p := range []*rawClient{here, there} {
		if m := receive[*amqp.BasicNack](p, 1); m.DeliveryTag != 1 {
			t.Errorf("%+v", m)
		}
	}
	g := c.brokers[leader].groups[firstGroup]
	c.eventually("the leader to give up", func() bool {
		left := make(chan int, 1)
		g.call(func() {
			n := 0
			for _, q := range g.late {
				n += len(q.waiting)
			}
			left <- n
		})
		return <-left == 0
	})
	c.start(mirrors[1])
	here.publish("", "q", "again")
	here.acked(2)
}

func TestWhatIsPausedStepsDownBeforeItHandlesWhatWaited(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	g := c.brokers[leader].groups[firstGroup]
	roles := make(chan replicate.Role, 1)
	g.call(func() {
		g.looked = g.looked.Add(-standstill - time.Millisecond) // As if stopped until now.
		if !g.stoodStill(time.Now()) {
			t.Error("no standstill")
		}
		if _, err := g.order.advance(g.loop.apply); err != nil {
			t.Error(err)
		}
		roles <- g.node.Status().Role
	})
	if role := <-roles; role == replicate.Leader {
		t.Error("it leads still")
	}
	c.leader(firstGroup)
}
