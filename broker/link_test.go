package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

const linkQueue entry.QueueID = 7

// leaderUnderTest is a group whose rounds a test calls, in memory, with gateways
// whose links it breaks.
type leaderUnderTest struct {
	*group
	t     *testing.T
	clock time.Time
	peers []*peerUnderTest
}

// peerUnderTest is a broker's gateway with a channel, and what it got.
type peerUnderTest struct {
	*gateway
	leader *leaderUnderTest
	name   string
	holder queue.HolderID
	to     receiver
	// deaf and mute have what is said to it, or by it, get lost.
	deaf, mute bool
	got        []string
	cancels    int
}

func newLeaderUnderTest(t *testing.T, names ...string) *leaderUnderTest {
	u := &leaderUnderTest{t: t, clock: time.Unix(1000, 0)}
	logger := slog.New(slog.DiscardHandler)
	l := newLoop("test", logger, func(err error) { t.Error(err) })
	l.now = func() time.Time { return u.clock }
	order := newVolatile()
	g := newGroup(1, l, queue.NewMachine(), &counters{}, func() []string { return nil })
	g.order, g.bodies, g.self = order, memoryBodies{order}, "leader"
	g.leads = func(string, uint64) {}
	g.orphaned = func(_ entry.QueueID, then func()) { then() }
	u.group = g
	u.run()
	for i, name := range names {
		p := &peerUnderTest{leader: u, name: name, holder: queue.HolderID(10 * (i + 1))}
		p.to.deliver = func(deliveries []queue.Delivery, _ uint32) {
			for _, d := range deliveries {
				p.take(d)
			}
		}
		p.to.cancelled = func(queue.ConsumerID) { p.cancels++ }
		p.start(entry.SessionID(i + 1))
		u.peers = append(u.peers, p)
	}
	u.run()
	u.peers[0].submit(&submission{ops: queue.AppendCreate(takeOps(), linkQueue, queue.Settings{Vhost: "/", Name: "q"})})
	u.run()
	return u
}

// start begins with a session: a broker's process.
func (p *peerUnderTest) start(session entry.SessionID) {
	p.gateway = newGateway(1, session, 1, p.leader.logger)
	p.now = p.leader.now
	answer := func(m *wireMessage) bool {
		if !p.deaf {
			p.receive("leader", m)
		}
		return true
	}
	p.port = func(string) func(*wireMessage) bool {
		return func(m *wireMessage) bool {
			return p.mute || p.leader.call(func() { p.leader.group.receive(p.name, answer, m) })
		}
	}
	p.leads("leader", 1)
}

func (p *peerUnderTest) take(d queue.Delivery) {
	text := fmt.Sprint(d.Message)
	if d.Redelivered {
		text += "r"
	}
	p.got = append(p.got, text)
}

func (p *peerUnderTest) consume(id queue.ConsumerID, change ...func(*queue.Consumer)) {
	c := queue.Consumer{ID: id, Holder: p.holder, Queue: linkQueue, Link: 10}
	for _, f := range change {
		f(&c)
	}
	p.attach(c, &p.to, func(err error) {
		if err != nil {
			p.leader.t.Error(err)
		}
	})
}

func (p *peerUnderTest) ask() {
	p.get(linkQueue, p.holder, false, func(r getReply) {
		if r.found {
			p.take(r.delivery)
		} else {
			p.got = append(p.got, "empty")
		}
	})
}

// settle acks messages, or gives them back.
func (p *peerUnderTest) settle(back bool, ids ...entry.MessageID) {
	var ranges []entry.Range
	for _, id := range ids {
		ranges = entry.AppendID(ranges, id)
	}
	ops := takeOps()
	if back {
		ops = queue.AppendReturn(ops, linkQueue, ranges)
	} else {
		ops = queue.AppendSettle(ops, linkQueue, ranges)
	}
	p.submit(&submission{ops: ops, lasting: true, settled: []settledNote{{p.holder, linkQueue, ranges}}})
}

// expect compares what came since the last time.
func (p *peerUnderTest) expect(want string) {
	p.leader.t.Helper()
	p.leader.run()
	if got := strings.Join(p.got, " "); got != want {
		p.leader.t.Errorf("%s got %q, want %q", p.name, got, want)
	}
	p.got = nil
}

// resets ends what is between the leader and the broker, as both ends hear.
func (p *peerUnderTest) resets() {
	p.leader.attendance.broken(p.name)
	p.broken("leader")
}

// returns has a new link.
func (p *peerUnderTest) returns() {
	p.deaf, p.mute = false, false
	p.again("leader")
	p.leader.run()
}

// run plays until nothing is left to do.
func (u *leaderUnderTest) run() {
	u.t.Helper()
	for range 1000 {
		if u.round() {
			continue
		}
		select {
		case <-u.wake:
		default:
			return
		}
	}
	u.t.Fatal("it never comes to rest")
}

func (u *leaderUnderTest) publish(n int) {
	for range n {
		u.peers[0].submit(&submission{ops: append(appendPublish(takeOps(), []entry.QueueID{linkQueue}, nil, nil, []byte{0, 0}, 1), 'x')})
	}
	u.run()
}

func (u *leaderUnderTest) expectLeft(ready, unacked uint64) {
	u.t.Helper()
	u.run()
	if r, h := u.dispatcher.Ready(linkQueue), u.dispatcher.Unacked(linkQueue); r != ready || h != unacked {
		u.t.Errorf("%d ready, %d unacked, want %d, %d", r, h, ready, unacked)
	}
}

func prefetch(n uint32) func(*queue.Consumer) {
	return func(c *queue.Consumer) { c.Prefetch = n }
}

func withoutAcks(c *queue.Consumer) { c.NoAck = true }

// Everything that the consumers of a broker held was given to others when its
// link to the leader broke, though both lived.
func TestWhatABrokerHoldsStaysItsOwnWhenItsLinkBreaks(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	b1.consume(1, prefetch(2))
	b2.consume(2, prefetch(2))
	u.publish(6)
	b1.expect("1 3")
	b2.expect("2 4")

	b2.resets()
	b1.settle(false, 1, 3)
	b1.expect("5 6") // Others go on.
	u.publish(1)
	b2.settle(false, 4) // On its way when the link is new.
	b2.returns()
	b2.expect("7")
	b1.expect("")
	b1.settle(false, 5, 6)
	b2.settle(false, 2, 7)
	u.expectLeft(0, 0)
}

func TestWhatWasLostOnALinkComesAgainToWhomItWasSent(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	b1.consume(1, prefetch(3))
	b2.consume(2, prefetch(3))
	u.publish(2)
	b1.expect("1")
	b2.expect("2")
	b2.deaf = true
	u.publish(4)
	b1.expect("3 5")
	b2.resets()
	b1.settle(false, 1, 3, 5)
	b1.expect("")
	u.publish(2)
	b1.expect("7 8")
	b2.returns()
	b2.expect("4 6") // In their order, and not marked.
	b1.expect("")
	b2.settle(false, 2, 4, 6)
	b1.settle(false, 7, 8)
	u.expectLeft(0, 0)

	// And once more while it begins anew.
	b2.deaf = true
	u.publish(4)
	b1.expect("9 11")
	for range 3 {
		b2.resets()
		b2.again("leader")
		u.run()
	}
	b2.resets()
	b2.returns()
	b2.expect("10 12")
	b1.expect("")
}

func TestAcksThatWereLostOnALinkCount(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	b2.consume(2)
	u.publish(4)
	b2.expect("1 2 3 4")
	b1.consume(1)
	b2.mute = true
	b2.settle(false, 1, 2)
	b2.settle(true, 3)
	u.run()
	b2.resets()
	b1.expect("")
	b2.returns()
	b1.expect("3r")
	b2.expect("")
	u.expectLeft(0, 2)
}

func TestAnAnswerToGetThatWasLostIsGivenAgain(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	u.publish(3)
	b2.deaf = true
	b2.ask()
	u.run()
	b2.resets()
	b1.ask()
	b1.expect("2")
	b2.returns()
	b2.expect("1")
	b2.settle(false, 1)
	b2.ask()
	b2.expect("3")
	u.expectLeft(0, 2)
}

func TestAConsumerWithoutAcksGetsEachMessageOnceWhateverItsLinkLoses(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	b2.consume(2, withoutAcks)
	u.publish(3)
	b2.expect("1 2 3")
	b1.consume(1)
	b2.mute = true // It writes 1 and 2; that they are is lost.
	b2.credit(2, 2, []entry.Range{{First: 1, Last: 2}})
	u.run()
	b2.resets()
	b2.returns()
	b2.expect("")
	u.expectLeft(0, 1)
	b2.deaf = true
	u.publish(2)
	b1.expect("4")
	b2.resets()
	b2.returns()
	b2.expect("5")
	b2.credit(2, 2, []entry.Range{{First: 3, Last: 3}, {First: 5, Last: 5}})
	b1.settle(false, 4)
	u.expectLeft(0, 0)
}

func TestWhatABrokerThatIsGoneHeldComesAgainMarked(t *testing.T) {
	for name, goes := range map[string]func(*leaderUnderTest, *peerUnderTest){
		"it is lost":     func(u *leaderUnderTest, p *peerUnderTest) { u.lost(p.name) },
		"it was another": func(_ *leaderUnderTest, p *peerUnderTest) { p.start(99) },
		"it never comes": func(u *leaderUnderTest, _ *peerUnderTest) { u.clock = u.clock.Add(suspendTime); u.rouse() },
	} {
		t.Run(name, func(t *testing.T) {
			u := newLeaderUnderTest(t, "b1", "b2")
			b1, b2 := u.peers[0], u.peers[1]
			b2.consume(2)
			u.publish(2)
			b2.expect("1 2")
			b1.consume(1)
			b2.resets()
			b1.expect("")
			u.clock = u.clock.Add(suspendTime - 1)
			b1.expect("")
			goes(u, b2)
			b1.expect("1r 2r")
		})
	}
}

func TestAChannelThatClosedWhileItsLinkWasBrokenGivesAllBack(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	b2.consume(2)
	u.publish(2)
	b2.expect("1 2")
	b1.consume(1)
	b2.resets()
	b2.closeHolder(b2.holder, func() {})
	b1.expect("")
	b2.returns()
	b1.expect("1r 2r")
	if n := u.dispatcher.Consumers(linkQueue); n != 1 {
		t.Errorf("%d consumers", n)
	}
}

func TestAConsumerHearsOfItsQueuesEndWhenItsLinkIsThereAgain(t *testing.T) {
	u := newLeaderUnderTest(t, "b1", "b2")
	b1, b2 := u.peers[0], u.peers[1]
	b2.consume(2)
	u.publish(1)
	b2.expect("1")
	b2.resets()
	b1.submit(&submission{ops: queue.AppendDelete(takeOps(), linkQueue, false)})
	b2.returns()
	if b2.cancels != 1 {
		t.Errorf("told %d times", b2.cancels)
	}
}

// The limit of deliveries that wait for a socket must neither shrink with what a
// link loses nor grow.
func TestALinkThatBreaksLeavesTheCreditOfItsConsumers(t *testing.T) {
	u := newLeaderUnderTest(t, "b1")
	b1 := u.peers[0]
	b1.consume(1, func(c *queue.Consumer) { c.Link = 4 })
	u.publish(4)
	b1.expect("1 2 3 4")
	u.publish(8)
	for range 3 {
		b1.mute = true
		b1.credit(1, 1, nil)
		b1.resets()
		b1.returns()
	}
	b1.expect("5 6 7")
}
