package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// outsider is a running broker that has no copy of a group.
func (c *testCluster) outsider(g entry.GroupID) string {
	for _, name := range c.running() {
		if !c.brokers[name].members.has(name, g) {
			return name
		}
	}
	c.t.Fatalf("all brokers have group %d", g)
	return ""
}

func threeOfFive(t testing.TB, change ...func(*Config)) *testCluster {
	t.Helper()
	return startCluster(t, 5, append(change, func(c *Config) { c.Copies, c.Groups = 3, 1 })...)
}

func TestABrokerWithoutACopyServesClientsOfTheQueue(t *testing.T) {
	c := threeOfFive(t)
	leader := c.leader(firstGroup)
	outsider := c.outsider(firstGroup)
	if c.brokers[outsider].groups[firstGroup] != nil {
		t.Fatal("it has the group")
	}
	p := confirming(t, c.address(outsider))
	p.declare("q", durableQueue)
	const publishes = 500
	for i := range publishes {
		p.publish("", "q", fmt.Sprint(i))
	}
	p.acks(1, publishes)
	if got := p.drain("q"); len(got) != publishes || got[publishes-1] != fmt.Sprint(publishes-1) {
		t.Errorf("got %d", len(got))
	}

	// The leader goes; who has no copy hears of the next, and nothing is lost.
	call[*amqp.BasicConsumeOk](p, &amqp.BasicConsume{Queue: "q", ConsumerTag: "all"})
	for i := range publishes {
		if i == publishes/2 {
			c.cut(leader)
		}
		p.publish("", "q", fmt.Sprint("again ", i))
	}
	expectAll(p, publishes, func(i int) string { return fmt.Sprint("again ", i) })
	if next := c.leader(firstGroup, leader); !c.brokers[next].members.has(next, firstGroup) {
		t.Errorf("%s leads", next)
	}
}

// expectAll takes deliveries and acks them, in order, until it has them all, with
// confirms in between.
func expectAll(p *rawClient, n int, body func(int) string) {
	p.t.Helper()
	for i := 0; i < n; {
		switch _, m := p.method(); m := m.(type) {
		case *amqp.BasicDeliver:
			if _, got := p.content(); got != body(i) || m.Redelivered {
				p.t.Fatalf("delivery %d is %.20q, redelivered %v, want %.20q", i, got, m.Redelivered, body(i))
			}
			p.send(1, &amqp.BasicAck{DeliveryTag: m.DeliveryTag})
			i++
		case *amqp.BasicAck:
		default:
			p.t.Fatalf("%T", m)
		}
	}
}

// What is no longer in the leader's memory, or too large to come along, is fetched.
func TestABrokerWithoutACopyFetchesBodies(t *testing.T) {
	c := threeOfFive(t, func(c *Config) { c.MaxMessageSize = 64 << 20 })
	c.leader(firstGroup)
	p := confirming(t, c.address(c.outsider(firstGroup)))
	if err := p.socket.SetDeadline(time.Now().Add(5 * patience)); err != nil { // 50 MB, five brokers, the race detector.
		t.Fatal(err)
	}
	p.declare("q", durableQueue)
	body := func(i int) string {
		switch {
		case i == 20:
			return strings.Repeat("L", 20<<20)
		case i%2 == 0:
			return fmt.Sprint(i, strings.Repeat("s", 100))
		}
		return fmt.Sprint(i, strings.Repeat("m", 700<<10))
	}
	const publishes = 80 // More than the ring of recent entries.
	for i := range publishes {
		p.publish("", "q", body(i))
	}
	p.acks(1, publishes)
	call[*amqp.BasicConsumeOk](p, &amqp.BasicConsume{Queue: "q", ConsumerTag: "all"})
	expectAll(p, publishes, body)
}

// The group's own members count: a number above them is refused, and a majority of
// them is enough.
func TestQuorumsAndTransfersAreOfAGroupsMembers(t *testing.T) {
	c := threeOfFive(t)
	leader := c.leader(firstGroup)
	outsider := c.outsider(firstGroup)
	p := confirming(t, c.address(outsider))
	four := &amqp.QueueDeclare{Queue: "four"}
	ackQuorum(4)(four)
	p.send(1, four)
	p.channelError(406, "PRECONDITION_FAILED - ack quorum 4 of queue 'four' in vhost '/' is above the 3 copies of its group")
	p = confirming(t, c.address(outsider))
	p.declare("all", ackQuorum("all"))
	p.publish("", "all", "0")
	p.acked(1)

	err := source{c.brokers[outsider]}.Transfer(t.Context(), uint32(firstGroup), outsider)
	if !errors.Is(err, admin.ErrRefused) || !strings.Contains(err.Error(), "has no copy") {
		t.Errorf("transfer to %s: %v", outsider, err)
	}
	var heir string
	for _, name := range c.brokers[leader].members.of(firstGroup) {
		if name != leader {
			heir = name
		}
	}
	if err := (source{c.brokers[outsider]}).Transfer(t.Context(), uint32(firstGroup), heir); err != nil {
		t.Error(err)
	}
	for _, g := range (source{c.brokers[outsider]}).Groups() {
		if g.ID == uint32(firstGroup) && (g.Role != admin.RoleNone || len(g.Members) != 3 || g.Leader != heir) {
			t.Errorf("%+v", g)
		}
	}
	// All others that have no copy may go.
	for _, name := range c.others() {
		if name != outsider && !c.brokers[name].members.has(name, firstGroup) {
			c.stop(name)
		}
	}
	p.publish("", "all", "1")
	p.acked(2)
	if got := p.drain("all"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestABrokerThatStartsWithOtherCopiesSaysSo(t *testing.T) {
	addresses := make(map[string]string)
	for _, name := range []string{"b1", "b2", "b3"} {
		addresses[name] = freeAddress(t, addresses)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var wait sync.WaitGroup
	for name := range addresses {
		config := Config{
			Name: name, Data: t.TempDir(), AMQP: "127.0.0.1:0", HTTP: "-", Fsync: "never", Cluster: addresses, Copies: 3,
		}
		if name == "b3" {
			config.Copies = 2
		}
		wait.Go(func() {
			b, err := Start(ctx, config)
			if err == nil {
				t.Cleanup(func() { _ = b.Stop(context.Background()) })
			}
			if name == "b3" { // The others may be there, or wait, or say so too.
				if err == nil || !strings.Contains(err.Error(), "give all brokers the same --copies") {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wait.Wait()
}
