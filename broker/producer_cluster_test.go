package broker

import (
	"maps"
	"slices"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// by makes a publish a producer's, with what other headers ask for.
func by(producer string, sequence int64, others ...amqp.Table) func(*amqp.BasicPublish, *amqp.Properties) {
	return func(_ *amqp.BasicPublish, p *amqp.Properties) {
		p.Headers = amqp.Table{producerKey: producer, sequenceKey: sequence}
		for _, t := range others {
			maps.Copy(p.Headers, t)
		}
	}
}

// The leader dies with publishes that only it has. Its producer publishes all
// that it has no confirm of over the others, and more than it needs.
func TestAProducerGoesOnOverOtherBrokers(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	p := confirming(t, c.address(leader))
	p.declare("q", durableQueue)
	p.publish("", "q", "1", by("p", 1))
	p.publish("", "q", "2", by("p", 2))
	p.acks(1, 2)
	c.deafen(leader, mirrors...)
	p.publish("", "q", "3", by("p", 3))
	p.publish("", "q", "4", by("p", 4))
	p.silent()
	c.cut(leader)
	c.leader(firstGroup, leader)

	second, third := newProducer(t, c.address(mirrors[0]), "p"), newProducer(t, c.address(mirrors[1]), "p")
	second.publishes("q", 2, 3, 4, 5)
	third.publishes("q", 1, 2, 3, 4, 5, 6)
	second.publishes("q", 6, 7)
	third.has("q", 1, 2, 3, 4, 5, 6, 7)
}

// A broker stands still with what a client gave it, and comes to life when the
// client has published it again over another one.
func TestALateCopyIsPassedOver(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	slow, other := newProducer(t, c.address(mirrors[0]), "p"), newProducer(t, c.address(mirrors[1]), "p")
	slow.declare("q", nil)
	slow.publishes("q", 1)

	still := c.brokers[mirrors[0]].gateways[firstGroup]
	still.mu.Lock()
	var late []*amqp091.DeferredConfirmation
	for n := int64(2); n <= 5; n++ {
		d, err := slow.PublishWithDeferredConfirmWithContext(t.Context(), "", "q", false, false, slow.numbered(n))
		must(t, err)
		late = append(late, d)
	}
	other.publishes("q", 2, 3, 4, 5, 6)
	other.has("q", 1, 2, 3, 4, 5, 6)
	still.mu.Unlock()
	for _, d := range late {
		if acked, err := d.WaitContext(t.Context()); err != nil || !acked {
			t.Errorf("a late copy: %v, %v", acked, err)
		}
	}
	other.has("q")
}

// All brokers stop, which writes checkpoints.
func TestAClusterRemembersProducersOverARestart(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	p := newProducer(t, c.address(leader), "p")
	p.declare("q", nil)
	p.publishes("q", 1, 3)
	p.publishes("q", 4)
	c.stop(c.running()...)
	c.start(c.names...)
	p = newProducer(t, c.address(c.leader(firstGroup)), "p")
	p.publishes("q", 1, 2, 3, 4, 5)
	p.has("q", 1, 3, 4, 2, 5)
}

// Whether a publish is a producer's first, only its commit tells: so it waits for
// that also where the queue's quorum is weaker. A copy is later in the log than
// the first, so what holds for its entry holds for the first.
func TestAProducersPublishIsNotConfirmedBeforeItsCommit(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirrors := c.others(leader)
	p := confirming(t, c.address(leader))
	p.declare("weak", ackQuorum("leader"))
	p.publish("", "weak", "1", by("p", 1))
	p.acked(1)
	c.deafen(leader, mirrors...)
	p.publish("", "weak", "2", by("p", 2))
	p.publish("", "weak", "2", by("p", 2))
	p.publish("", "weak", "1", by("p", 1))
	p.publish("", "weak", "plain")
	p.acked(5)
	c.hear(leader, mirrors...)
	p.acks(2, 4)
	if got := p.drain("weak"); !slices.Equal(got, []string{"1", "2", "plain"}) {
		t.Errorf("the queue has %q", got)
	}
}

// A copy that asks for more disks than the first did is confirmed when the
// message is on them.
func TestACopyWaitsForItsOwnQuorum(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	deaf := c.others(leader)[0]
	p := confirming(t, c.address(leader))
	p.declare("q", durableQueue)
	c.deafen(leader, deaf)
	p.publish("", "q", "1", by("p", 1))
	p.acked(1)
	p.publish("", "q", "1", by("p", 1, amqp.Table{ackQuorumKey: "all"}))
	p.publish("", "q", "1", by("p", 1))
	p.acked(3)
	c.hear(leader, deaf)
	p.acked(2)
	if got := p.drain("q"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the queue has %q", got)
	}
}
