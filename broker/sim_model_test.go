package broker

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// simModel is the dumb twin of the queues: it follows the committed log as the
// first broker that applies it does, and knows what clients were told.
type simModel struct {
	s        *simulation
	declared bool
	log      []simRecord       // by index - 1
	states   map[uint64]uint64 // hash of the machine by index
	sessions map[entry.SessionID]uint64
	queues   map[entry.QueueID]*simQueue
	enqueued map[string]int // by content: in how many queues
	where    map[string]uint64
	numbered map[string]bool // publishes of producers
	confirms []*simConfirm
	time     int64          // of the batch that is applied
	deaths   map[string]int // dead letters, by content
	led      map[entry.GroupID]map[uint64]string
	newest   uint64 // term that the queues were led in
}

// simRecord is an entry of the one log that all have.
type simRecord struct {
	term, hash uint64
	by         string
}

type simQueue struct {
	last     entry.MessageID
	live     int
	messages map[entry.MessageID]*simMessage
	order    map[string]uint64 // of each publisher, the last number
}

// simMessage is one message in one queue.
type simMessage struct {
	queue   entry.QueueID
	id      entry.MessageID
	content string
	gone    bool // settled or purged
	settled bool
	seen    bool // a client had it
	acked   bool // by a client
	at      int64
	given   int // times
	term    uint64
	first   time.Duration // when it was given first
	holds   []simHold
}

// simPlace is a publisher's number, and the term in which it came.
type simPlace struct{ n, term uint64 }

// simExcuse is how long the consequences of trouble last.
const simExcuse = 3 * time.Second

// simHold says that a channel has a message.
type simHold struct {
	by   *simChannel
	term uint64
	at   time.Duration
}

func newSimModel(s *simulation) *simModel {
	return &simModel{
		s: s, states: make(map[uint64]uint64), sessions: make(map[entry.SessionID]uint64), queues: make(map[entry.QueueID]*simQueue),
		enqueued: make(map[string]int), where: make(map[string]uint64), numbered: make(map[string]bool), deaths: make(map[string]int),
		led: map[entry.GroupID]map[uint64]string{entry.Topology: {}, simGroup: {}},
	}
}

func hashOf(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// watch expects one leader a term.
func (m *simModel) watch(p *simProcess) {
	for _, id := range []entry.GroupID{entry.Topology, simGroup} {
		node := p.broker.topology.node
		if id == simGroup {
			node = p.group.node
		}
		status := node.Status()
		if status.Role != replicate.Leader {
			continue
		}
		switch was := m.led[id][status.Term]; was {
		case "":
			m.led[id][status.Term] = p.of.name
			m.s.counts.leaders++
			m.s.tell("%s leads group %d in term %d", p.of.name, id, status.Term)
		case p.of.name:
		default:
			m.s.fatalf("%s and %s both lead group %d in term %d", was, p.of.name, id, status.Term)
		}
	}
}

func (m *simModel) leads(_ *simProcess, term uint64) { m.newest = max(m.newest, term) }

// committed is told of an entry that a broker is about to apply.
func (m *simModel) committed(p *simProcess, term, index uint64, payload []byte) {
	r := simRecord{term, hashOf(payload), p.of.name}
	switch {
	case index > uint64(len(m.log))+1:
		m.s.fatalf("%s applies entry %d, and nobody %d", p.of.name, index, len(m.log)+1)
	case index <= uint64(len(m.log)):
		if was := m.log[index-1]; was.term != r.term || was.hash != r.hash {
			m.s.fatalf("%s applies %d/%d %x where %s applied %d/%d %x", p.of.name, term, index, r.hash, was.by, was.term, index, was.hash)
		}
		return
	}
	m.log = append(m.log, r)
	m.s.tell("entry %d/%d %x by %s", term, index, r.hash, p.of.name)
	if len(payload) == 0 {
		return
	}
	var b queue.Batch
	if err := b.Open(payload); err != nil {
		m.s.fatalf("entry %d: %v", index, err)
	}
	m.time = max(m.time, b.Now)
	for b.NextSubmission() {
		if b.Session != 0 {
			if b.Seq <= m.sessions[b.Session] {
				continue
			}
			m.sessions[b.Session] = b.Seq
		}
		var op queue.Op
		for b.NextOp(&op) {
			m.op(&op, payload)
		}
	}
	if err := b.Err(); err != nil {
		m.s.fatalf("entry %d: %v", index, err)
	}
}

func (m *simModel) op(op *queue.Op, payload []byte) {
	q := m.queues[op.Queue]
	switch op.Kind {
	case queue.Create:
		if q == nil {
			m.queues[op.Queue] = &simQueue{messages: make(map[entry.MessageID]*simMessage), order: make(map[string]uint64)}
			m.declared = true
		}
	case queue.Enqueue:
		if m.repeated(op) {
			return
		}
		content, err := entry.ParseContent(payload[op.Offset : op.Offset+op.Size])
		if err != nil {
			m.s.fatalf("%v", err)
		}
		for i := range op.Queues() {
			m.enqueue(op.QueueAt(i), strings.TrimRight(string(content.Body), " "))
		}
	case queue.Settle:
		for _, r := range op.Ranges {
			for id := r.First; id <= r.Last; id++ {
				m.settle(q, id)
			}
		}
	case queue.Purge:
		for id, message := range q.messages {
			spared := slices.ContainsFunc(op.Ranges, func(r entry.Range) bool { return r.First <= id && id <= r.Last })
			if id <= op.UpTo && !message.gone && !spared {
				message.gone = true
				q.live--
			}
		}
	}
}

func (m *simModel) enqueue(id entry.QueueID, content string) {
	q := m.queues[id]
	if q == nil {
		m.s.fatalf("%s goes to queue %d, which is not there", content, id)
	}
	publisher, number, _ := strings.Cut(content, "/")
	n, _ := strconv.ParseUint(number, 10, 64)
	q.last++
	q.live++
	q.messages[q.last] = &simMessage{queue: id, id: q.last, content: content, at: m.time}
	if m.s.isDead(id) {
		m.deaths[content]++ // At least once, in any order.
		m.s.counts.dead++
		return
	}
	if last := q.order[publisher]; n <= last && !m.unordered(publisher) {
		m.s.fatalf("%s is enqueued to %d behind %d", content, id, last)
	}
	q.order[publisher] = n
	m.enqueued[content]++
	m.where[content] = uint64(len(m.log))
}

func (m *simModel) settle(q *simQueue, id entry.MessageID) {
	message := q.messages[id]
	if message == nil || message.gone {
		return
	}
	if m.died(q, message) {
		return
	}
	if !message.acked {
		m.s.fatalf("message %d/%d, %s, is settled: nobody acked it, and it is no dead letter", message.queue, id, message.content)
	}
	message.gone, message.settled = true, true
	q.live--
}

// applied holds a broker's machine against others and against the model.
func (m *simModel) applied(p *simProcess, index uint64) {
	if index == uint64(len(m.log)) {
		for id, q := range m.queues {
			if info, _ := p.group.state.Queue(id); info.Messages != uint64(q.live) || info.Last != q.last {
				m.s.fatalf("queue %d of %s has %d messages up to %d at entry %d, not %d up to %d", id, p.of.name, info.Messages, info.Last, index, q.live, q.last)
			}
		}
	}
	if index%32 != 0 {
		return
	}
	var b bytes.Buffer
	if err := p.group.state.Checkpoint(&b); err != nil {
		m.s.fatalf("%v", err)
	}
	hash := hashOf(b.Bytes())
	if was, ok := m.states[index]; ok && was != hash {
		m.s.fatalf("%s has another state at entry %d", p.of.name, index)
	}
	m.states[index] = hash
}

// delivered is told that a channel has got a message.
func (m *simModel) delivered(ch *simChannel, d simDelivery) {
	s, term := m.s, d.term
	message := m.queues[d.Queue].messages[d.Message]
	if message == nil {
		s.fatalf("%s gets message %d/%d, which is not there", ch, d.Queue, d.Message)
	}
	s.counts.delivered++
	if d.Redelivered {
		s.counts.redelivered++
	}
	// Of a leader that was deposed, unless whoever leads was asked since.
	stale := term < m.newest && d.round == ch.p.broker.doubt.round()
	s.tell("%s gets %d/%d %s redelivered %v in term %d", ch, d.Queue, d.Message, message.content, d.Redelivered, term)
	excused := stale || message.given > 0 && s.troubled+simExcuse >= message.first
	for _, h := range message.holds {
		excused = excused || h.by.disturbed(h.at) || h.term != term && h.by.p.of.bumpy >= h.at
	}
	for _, h := range message.holds {
		if h.by.closed || excused {
			continue
		}
		s.fatalf("%s gets %d/%d %s (redelivered %v) in term %d, which %s has since %v, term %d",
			ch, d.Queue, d.Message, message.content, d.Redelivered, term, h.by, h.at, h.term)
	}
	// What expired meanwhile may still come out of a broker that stood still.
	if message.settled && !excused && (message.acked || !ch.disturbed(s.now-simExcuse)) {
		s.fatalf("%s gets %d/%d %s, which is settled", ch, d.Queue, d.Message, message.content)
	}
	if message.given > 0 && !d.Redelivered && message.term == term && !excused {
		s.fatalf("%s gets %d/%d %s again, and it is not marked", ch, d.Queue, d.Message, message.content)
	}
	if excused && len(message.holds) > 0 {
		s.counts.excused++
	}
	if message.given == 0 {
		message.first = s.now
	}
	message.given++
	message.term = term
	message.seen = message.seen || !d.NoAck
	message.holds = append(message.holds, simHold{ch, term, s.now})
	m.ordered(ch, message, d.Delivery)
}

// ordered expects first deliveries of one publisher to one consumer in order.
func (m *simModel) ordered(ch *simChannel, message *simMessage, d queue.Delivery) {
	if d.Redelivered || message.given > 1 || m.s.isDead(d.Queue) || max(m.s.troubled, m.s.paused)+simExcuse >= m.s.now {
		return
	}
	publisher, number, _ := strings.Cut(message.content, "/")
	if m.unordered(publisher) {
		return
	}
	n, _ := strconv.ParseUint(number, 10, 64)
	key := fmt.Sprint(d.Consumer, d.Queue, publisher)
	// What was lost on the way from one leader, or was with a broker that goes, the
	// next one gives to anybody.
	last := ch.order[key]
	if bumpy := last.term != message.term && m.s.bumpy+simExcuse >= m.s.now; n < last.n && d.Consumer != 0 && !bumpy {
		m.s.fatalf("%s gets %s of queue %d behind %d", ch, message.content, d.Queue, last.n)
	}
	ch.order[key] = simPlace{n, message.term}
}

// let go says that a channel has given a message back or settled it.
func (m *simModel) letGo(ch *simChannel, q entry.QueueID, id entry.MessageID) {
	message := m.queues[q].messages[id]
	message.holds = slices.DeleteFunc(message.holds, func(h simHold) bool { return h.by == ch })
}

// final expects that all is consumed.
func (m *simModel) final() {
	m.kept()
	for _, id := range m.s.queues {
		for i := entry.MessageID(1); i <= m.queues[id].last; i++ {
			if message := m.queues[id].messages[i]; !message.gone {
				m.s.fatalf("message %d/%d, %s, is left", id, i, message.content)
			}
		}
	}
}
