package broker

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// catchupTest is a cluster of which a mirror missed more than the kept log,
// with messages that wait in a queue from before, during and after that.
type catchupTest struct {
	*testCluster
	leader, away, third string
	waiting             [][]byte
}

// passingBytes is more than the log keeps for a mirror that is away.
const passingBytes = 100 << 20

func newCatchupTest(t *testing.T) *catchupTest {
	c := &catchupTest{testCluster: startCluster(t, 3)}
	for _, name := range c.names {
		g := c.brokers[name].groups[1]
		g.call(func() { g.keep.minBytes = 1 << 20 })
	}
	c.leader = c.testCluster.leader(1)
	others := c.others(c.leader)
	c.away, c.third = others[0], others[1]
	c.wait(30, 100)
	c.applied(1, c.leader, c.away, c.third)
	return c
}

// channel opens a connection with a channel to a broker, with both queues
// declared.
func (c *catchupTest) channel(name string) (*amqp091.Channel, func()) {
	c.t.Helper()
	connection, err := amqp091.Dial("amqp://guest:guest@" + c.address(name) + "/")
	if err != nil {
		c.t.Fatal(err)
	}
	channel, err := connection.Channel()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, q := range []string{"waiting", "passing"} {
		if _, err := channel.QueueDeclare(q, true, false, false, false, nil); err != nil {
			c.t.Fatal(err)
		}
	}
	return channel, func() { connection.Close() }
}

// publish publishes bodies through a living broker and waits for their confirms.
func (c *catchupTest) publish(queue string, bodies ...[]byte) {
	c.t.Helper()
	channel, hangUp := c.channel(c.others(c.away)[0])
	defer hangUp()
	if err := channel.Confirm(false); err != nil {
		c.t.Fatal(err)
	}
	confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, 10))
	for window := range slices.Chunk(bodies, 10) {
		for _, body := range window {
			err := channel.PublishWithContext(c.t.Context(), "", queue, false, false, amqp091.Publishing{DeliveryMode: 2, Body: body})
			if err != nil {
				c.t.Fatal(err)
			}
		}
		for range window {
			if confirm := <-confirms; !confirm.Ack {
				c.t.Fatalf("%s: publish %d was not confirmed", queue, confirm.DeliveryTag)
			}
		}
	}
}

// miss has the mirror miss what the others do, though it lives, until it hears
// them again.
func (c *catchupTest) miss() (missed uint64) {
	c.t.Helper()
	c.deafen(c.leader, c.away)
	c.deafen(c.third, c.away)
	missed = c.last()
	c.wait(200, 100<<10)
	c.pass(missed)
	c.leader = c.testCluster.leader(1, c.away)
	c.third = c.others(c.leader, c.away)[0]
	c.hear(c.leader, c.away)
	c.hear(c.third, c.away)
	return missed
}

// wait publishes messages that stay.
func (c *catchupTest) wait(n, size int) {
	c.t.Helper()
	first := len(c.waiting)
	for i := range n {
		c.waiting = append(c.waiting, bytes.Repeat(fmt.Appendf(nil, "message %d;", first+i), size/10))
	}
	c.publish("waiting", c.waiting[first:]...)
}

// pass lets more pass than is kept for a mirror, until the floor is beyond it.
func (c *catchupTest) pass(missed uint64) {
	c.t.Helper()
	piece := make([][]byte, 10)
	for i := range piece {
		piece[i] = make([]byte, 100<<10)
	}
	for range passingBytes / (len(piece) * len(piece[0])) / 2 {
		c.publish("passing", piece...)
	}
	c.wait(30, 1000)
	for range passingBytes / (len(piece) * len(piece[0])) / 2 {
		c.publish("passing", piece...)
	}
	channel, hangUp := c.channel(c.leader)
	defer hangUp()
	if _, err := channel.QueuePurge("passing", false); err != nil {
		c.t.Fatal(err)
	}
	c.eventually("the floor", func() bool {
		return c.brokers[c.leader].log.Floor(1).Index > missed && c.brokers[c.third].log.Floor(1).Index > missed
	})
}

// last is the last index that the mirror's log has of the group.
func (c *catchupTest) last() uint64 {
	_, last, _ := c.brokers[c.away].log.Bounds(1)
	return last.Index
}

// arriving waits until a checkpoint is on its way to the mirror.
func (c *catchupTest) arriving() {
	c.t.Helper()
	c.eventually("a transfer", func() bool { return c.brokers[c.away].cluster.catchup.arriving(1) })
}

// installed waits until the mirror's log has a checkpoint beyond what it missed.
func (c *catchupTest) installed(missed uint64) {
	c.t.Helper()
	c.eventually("a checkpoint", func() bool { return c.brokers[c.away].log.Floor(1).Index > missed })
}

// lead has the mirror lead.
func (c *catchupTest) lead() {
	c.t.Helper()
	c.eventually("the mirror to lead", func() bool {
		leader := c.testCluster.leader(1)
		if leader == c.away {
			return true
		}
		e := c.brokers[leader].elections[entry.GroupID(1)]
		e.loop.call(func() { _ = e.elector.TransferTo(e.loop.now(), c.away) }) // Refused while one is under way.
		return false
	})
}

// serve has the mirror lead and hand out all that waits.
func (c *catchupTest) serve() {
	c.t.Helper()
	c.lead()
	channel, hangUp := c.channel(c.away)
	defer hangUp()
	deliveries, err := channel.Consume("waiting", "", true, false, false, false, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, body := range c.waiting {
		if d, ok := <-deliveries; !ok || !bytes.Equal(d.Body, body) {
			c.t.Fatalf("message %d is %.30q (%v), want %.30q", i, d.Body, ok, body)
		}
	}
}

func TestAMirrorThatWasAwayCatchesUp(t *testing.T) {
	c := newCatchupTest(t)
	missed := c.last()
	c.stop(c.away)
	c.pass(missed)
	c.start(c.away)
	c.installed(missed)
	c.wait(30, 100)
	for _, name := range []string{c.leader, c.third} { // Each of them leaves the rest to the mirror once.
		c.stop(name)
		c.lead()
		c.start(name)
	}
	c.stop(c.away) // What it got outlives a restart.
	c.start(c.away)
	c.serve()
}

func TestAMirrorCatchesUpThoughTheLeaderIsLostMeanwhile(t *testing.T) {
	c := newCatchupTest(t)
	missed := c.miss()
	c.arriving()
	c.cut(c.leader)
	c.eventually("another leader", func() bool { return c.testCluster.leader(1, c.leader) == c.third })
	c.installed(missed)
	c.stop(c.leader)
	c.start(c.leader)
	c.applied(1, c.third, c.away)
	c.serve()
}

func TestAMirrorThatStopsWhileItCatchesUpBeginsAnew(t *testing.T) {
	c := newCatchupTest(t)
	missed := c.miss()
	c.arriving()
	c.stop(c.away)
	c.start(c.away)
	c.installed(missed)
	c.serve()
}

func TestACheckpointSaysWhoTheMembersAre(t *testing.T) {
	members := replicate.Members{Voters: []uint64{3, 5}, Learners: []uint64{7}}
	state := func(w io.Writer) error { _, err := io.WriteString(w, "MMQC state"); return err }
	var with, without bytes.Buffer
	if err := withMembers(members, state)(&with); err != nil {
		t.Fatal(err)
	}
	if err := state(&without); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		file io.Reader
		want []uint64
	}{{&with, members.Voters}, {&without, nil}} {
		got, in, err := readMembers(x.file)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(in)
		if err != nil || string(rest) != "MMQC state" || !slices.Equal(got.Voters, x.want) {
			t.Errorf("members %v, state %q, %v", got, rest, err)
		}
	}
}

func FuzzTransfer(f *testing.F) {
	head := appendTransferHead(nil, transferEntries, 1, 2)
	f.Add(append(head, 1, 2, 0, 3, 'a', 'b', 'c'))
	f.Add(appendTransferHead(nil, transferEnd, 1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseTransfer(b)
		if err != nil {
			return
		}
		_, _, _ = parsePosition(m.rest)
		_, _, _ = parseAnswer(m.rest)
		_, _, _ = parseEnd(m.rest)
		entries, err := parseTransferEntries(m.rest)
		if err != nil {
			return
		}
		var again []byte
		for i := range entries {
			again = append(appendTransferEntry(again, &entries[i]), entries[i].Payload...)
		}
		if parsed, err := parseTransferEntries(again); err != nil || len(parsed) != len(entries) {
			t.Fatalf("%v: %d entries, then %d", err, len(entries), len(parsed))
		}
	})
}
