package broker

import (
	"strings"
	"sync"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	atMajority = replicate.QuorumMajority
	atLeader   = replicate.QuorumLeader
	atAll      = replicate.QuorumAll
)

func TestAckQuorumsMeanDisks(t *testing.T) {
	for _, r := range []struct {
		copies int
		name   string
		want   replicate.Quorum
		disks  int
		early  bool
	}{
		{1, "leader", atMajority, 1, false}, {1, "1", atMajority, 1, false}, {1, "majority", atMajority, 1, false}, {1, "all", atAll, 1, false},
		{2, "leader", atLeader, 1, true}, {2, "2", atMajority, 2, false}, {2, "all", atAll, 2, false},
		{3, "leader", atLeader, 1, true}, {3, "1", atLeader, 1, true}, {3, "2", atMajority, 2, false}, {3, "3", 3, 3, false},
		{5, "", atMajority, 3, false}, {5, "2", 2, 2, true}, {5, "3", atMajority, 3, false}, {5, "4", 4, 4, false}, {5, "all", atAll, 5, false},
		{4, "2", 2, 2, true}, {4, "3", atMajority, 3, false},
		{3, "5", atAll, 3, false}, // Of a queue from when there were more.
	} {
		k := newQuorums(r.copies, "majority")
		if q := k.named(r.name); q != r.want || k.disks(q) != r.disks || k.early(q) != r.early {
			t.Errorf("%q of %d is %d: %d disks, early %v", r.name, r.copies, q, k.disks(q), k.early(q))
		}
	}
	k := newQuorums(3, "all")
	if q := k.of(&topology.Queue{Group: 1}); q != atAll {
		t.Errorf("the default is %d", q)
	}
	if q := k.of(&topology.Queue{Group: entry.Volatile + 2, AckQuorum: "all"}); q != atMajority {
		t.Errorf("in memory: %d", q)
	}
}

func TestAHeaderOnlyRaisesTheQuorum(t *testing.T) {
	k := newQuorums(5, "majority")
	for _, r := range []struct{ queue, header, want replicate.Quorum }{
		{atMajority, atLeader, atMajority}, {atMajority, 2, atMajority}, {atMajority, 4, 4}, {atMajority, atAll, atAll},
		{atLeader, atLeader, atLeader}, {atLeader, atMajority, atMajority}, {atLeader, atAll, atAll},
		{atLeader, 2, atMajority}, // No queue has it: elections would not wait for it.
		{2, atLeader, 2}, {2, 2, 2}, {2, atMajority, atMajority}, {2, 4, 4},
		{4, atMajority, 4}, {4, atAll, atAll}, {atAll, 4, atAll}, {atAll, atLeader, atAll},
	} {
		if q := k.raised(r.queue, r.header); q != r.want {
			t.Errorf("a queue's %d and a header's %d make %d, want %d", r.queue, r.header, q, r.want)
		}
	}
}

func TestTheHeaderIsReadFromWhatIsEncoded(t *testing.T) {
	k := newQuorums(5, "majority")
	for _, r := range []struct {
		value any
		want  replicate.Quorum
		text  string
	}{
		{"leader", atLeader, ""}, {"majority", atMajority, ""}, {"all", atAll, ""}, {"4", 4, ""}, {[]byte("2"), 2, ""},
		{int32(1), atLeader, ""}, {int64(3), atMajority, ""}, {uint8(5), 5, ""}, {int16(2), 2, ""},
		{"most", 0, "invalid x-ack-quorum header: it is leader, majority, all or a number of copies from 1 to 5"},
		{"", 0, "invalid"}, {int32(0), 0, "invalid"}, {int32(-1), 0, "invalid"}, {true, 0, "invalid"}, {nil, 0, "invalid"}, {2.5, 0, "invalid"},
		{int64(6), 0, "x-ack-quorum header 6 is above the 5 copies that there are"}, {"6", 0, "x-ack-quorum header 6 is above"},
	} {
		p := amqp.Properties{ContentType: "text", Headers: amqp.Table{"a": "b", ackQuorumKey: r.value}}
		raw := p.Append(nil)
		w, err := k.wishes(raw)
		if r.text != "" {
			if err == nil || !strings.Contains(err.Error(), r.text) {
				t.Errorf("%v: %v", r.value, err)
			}
			continue
		}
		if q := w.least; q != r.want || err != nil {
			t.Errorf("%v is %d, %v", r.value, q, err)
		}
		if n := testing.AllocsPerRun(10, func() { _, _ = k.wishes(raw) }); n > 0 {
			t.Errorf("%v: %v allocations", r.value, n)
		}
	}
	for _, p := range []amqp.Properties{{}, {Headers: amqp.Table{"other": "all"}}} {
		if w, err := k.wishes(p.Append(nil)); w.least != atLeader || w.sequence != 0 || err != nil {
			t.Errorf("%+v: %+v, %v", p, w, err)
		}
	}
}

func TestTheSmallestNumberInUseIsKnown(t *testing.T) {
	a, b := &topology.Queue{Group: 1, AckQuorum: "2"}, &topology.Queue{Group: 1, AckQuorum: "4"}
	others := []*topology.Queue{
		{Group: 2, AckQuorum: "all"}, {Group: 2, AckQuorum: "1"}, {Group: 2}, {Group: entry.Volatile, AckQuorum: "2"},
	}
	u := newQuorumUse(topology.New())
	for _, step := range []struct {
		added, deleted []*topology.Queue
		want           int
	}{
		{others, nil, 0}, {[]*topology.Queue{b}, nil, 4}, {[]*topology.Queue{a, a}, nil, 2},
		{nil, []*topology.Queue{a}, 2}, {nil, []*topology.Queue{a}, 4}, {nil, []*topology.Queue{b}, 0}, {nil, others, 0},
	} {
		u.change(step.added, step.deleted)
		if u.of(1) != step.want || u.of(2) != 0 || u.of(entry.Volatile) != 0 {
			t.Errorf("%d, %d, %d, want %d, 0, 0", u.of(1), u.of(2), u.of(entry.Volatile), step.want)
		}
	}
}

func TestAnElectionIsToldWhatMayBeInUse(t *testing.T) {
	b := memoryBroker(t, 2)
	b.members = &members{names: []string{"a", "b", "c", "d", "e"}, copies: 5}
	if n := b.smallestQuorum(1); n != 2 {
		t.Errorf("%d while the topology is not known", n)
	}
	if n := b.smallestQuorum(entry.Topology); n != 0 {
		t.Errorf("topology: %d", n)
	}
	b.topology.use.known.Store(true)
	b.topology.use.change([]*topology.Queue{{Group: 1, AckQuorum: "4"}}, nil)
	for usual, want := range map[string][2]int{"majority": {4, 0}, "leader": {4, 0}, "2": {2, 2}, "all": {4, 0}} {
		b.config.AckQuorum = usual
		if one, two := b.smallestQuorum(1), b.smallestQuorum(2); one != want[0] || two != want[1] {
			t.Errorf("default %s: %d and %d, want %v", usual, one, two, want)
		}
	}
}

// fiveCopies has a front over memory believe that there are five copies.
func fiveCopies(c *frontConfig) { c.copies = 5 }

func TestANumberAboveTheCopiesIsRefused(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1), fiveCopies)
	c := openChannelRaw(t, address)
	declare := func(q any, change ...func(*amqp.QueueDeclare)) {
		m := &amqp.QueueDeclare{Queue: "q"}
		ackQuorum(q)(m)
		for _, f := range change {
			f(m)
		}
		c.send(1, m)
	}
	declare(int32(6))
	c.channelError(406, "PRECONDITION_FAILED - ack quorum 6 of queue 'q' in vhost '/' is above the 5 copies of its group")
	c.openChannel(1)
	declare("most")
	if m := receive[*amqp.ChannelClose](c, 1); m.ReplyCode != 406 || !strings.Contains(m.ReplyText, "x-ack-quorum") {
		t.Errorf("%+v", m)
	}
	c.send(1, &amqp.ChannelCloseOk{})
	c.openChannel(1)
	// In memory there is one copy, and no quorum applies.
	declare(int32(6), func(m *amqp.QueueDeclare) { m.Durable = false })
	receive[*amqp.QueueDeclareOk](c, 1)
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	c.publish("", "q", "a")
	c.publish("", "q", "b", atLeast("all"))
	c.acks(1, 2)
	c.publish("", "q", "c", atLeast("most"))
	c.channelError(406, "PRECONDITION_FAILED - invalid x-ack-quorum header: it is leader, majority, all or a number of copies from 1 to 5")
}

// quorumRecorder notes the quorums of what a group is handed.
type quorumRecorder struct {
	queueGroup
	mu      *sync.Mutex
	quorums *[]replicate.Quorum
}

func (r quorumRecorder) submit(s *submission) {
	r.mu.Lock()
	*r.quorums = append(*r.quorums, s.quorum)
	r.mu.Unlock()
	r.queueGroup.submit(s)
}

// What has another quorum is submitted apart, and the rest together; what nobody
// waits for, acks among it, goes along at the majority.
func TestASubmissionHasOneQuorum(t *testing.T) {
	f, address := serveFront(t, memoryBroker(t, 1), fiveCopies)
	var mu sync.Mutex
	var quorums []replicate.Quorum
	sound := f.group
	f.group = func(id groupID) queueGroup { return quorumRecorder{sound(id), &mu, &quorums} }
	c := openChannelRaw(t, address)
	for name, q := range map[string]any{"weak": "leader", "two": 2, "usual": "majority"} {
		c.declare(name, ackQuorum(q))
	}
	call[*amqp.QueueBindOk](c, &amqp.QueueBind{Queue: "weak", Exchange: "amq.fanout"})
	call[*amqp.QueueBindOk](c, &amqp.QueueBind{Queue: "two", Exchange: "amq.fanout"})
	expect := func(what string, want ...replicate.Quorum) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if len(quorums) != len(want) {
			t.Errorf("%s: %v, want %v", what, quorums, want)
			return
		}
		for i := range want {
			if quorums[i] != want[i] {
				t.Errorf("%s: %v, want %v", what, quorums, want)
			}
		}
		quorums = quorums[:0]
	}
	publish := func(exchange, key string, least any) []byte {
		m, p := &amqp.BasicPublish{Exchange: exchange, RoutingKey: key}, &amqp.Properties{}
		if least != nil {
			atLeast(least)(m, p)
		}
		return amqp.AppendContent(amqp.AppendMethod(nil, 1, m), 1, 4096, p.Append(nil), []byte("body"))
	}
	send := func(frames ...[]byte) {
		t.Helper()
		var b []byte
		for _, f := range frames {
			b = append(b, f...)
		}
		c.write(b)
	}

	send(publish("", "weak", nil), publish("", "weak", "all"))
	c.silent()
	expect("without confirms", atMajority)

	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	send(publish("", "usual", nil), publish("", "usual", nil), publish("", "usual", "all"), publish("", "usual", nil))
	c.acks(1, 4)
	expect("a strong one among usual ones", atMajority, atAll, atMajority)
	send(publish("", "weak", nil), publish("", "weak", 2), publish("amq.fanout", "", nil))
	c.acks(5, 7)
	expect("weak ones, and the stronger of two queues", atLeader, atMajority, 2)
	c.publish("", "weak", strings.Repeat("x", 300_000), atLeast(4))
	c.acks(8, 8)
	expect("a large one by itself", 4)
	c.publish("", "weak", strings.Repeat("x", 9_000))
	c.acks(9, 9)
	expect("one of several frames", atLeader)
	ok, _, _ := c.get("weak")
	c.send(1, &amqp.BasicAck{DeliveryTag: ok.DeliveryTag})
	c.silent()
	expect("an ack", atMajority)

	d := openChannelRaw(t, address)
	call[*amqp.TxSelectOk](d, &amqp.TxSelect{})
	d.publish("", "weak", "a")
	d.publish("amq.fanout", "", "b")
	call[*amqp.TxCommitOk](d, &amqp.TxCommit{})
	expect("a transaction", 2)
	ok, _, _ = d.get("weak")
	d.publish("", "weak", "c")
	d.send(1, &amqp.BasicAck{DeliveryTag: ok.DeliveryTag})
	call[*amqp.TxCommitOk](d, &amqp.TxCommit{})
	expect("one with an ack", atMajority)
}

func TestTheTopologyTellsOfEachDeletionOnce(t *testing.T) {
	b, address := startBroker(t)
	c := openChannelRaw(t, address)
	for _, name := range []string{"a", "b", "c"} {
		c.declare(name, durableQueue)
		call[*amqp.QueueDeleteOk](c, &amqp.QueueDelete{Queue: name})
	}
	if n := b.counts.queuesDeleted.Load(); n != 3 {
		t.Errorf("%d deletions were told", n)
	}
}
