package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// simClient is something that uses a broker's gateway.
type simClient interface {
	on() *simProcess
	close()
	died()
	// waits says what it still waits for, "" for nothing.
	waits() string
}

func (p *simProcess) gateway() *gateway { return p.broker.gateways[simGroup] }

// populate gives a broker its clients.
func (p *simProcess) populate() {
	for _, q := range p.s.queues {
		if !p.knows(q) {
			p.later(10*time.Millisecond, p.populate) // A client would be told that it is not there.
			return
		}
	}
	for range 1 + p.s.random.IntN(2) {
		p.newPublisher()
	}
	for range 1 + p.s.random.IntN(3) {
		p.newChannel()
	}
	p.rouse()
}

// knows reports whether a queue is in the topology as the broker has it.
func (p *simProcess) knows(id entry.QueueID) (known bool) {
	p.broker.view(func(s *topology.State) { known = s.QueueByID(id) != nil })
	return known
}

// simPublisher publishes with confirms.
type simPublisher struct {
	p           *simProcess
	name        string
	number      uint64
	window      int
	pace        time.Duration
	outstanding int
	closed      bool
}

func (p *simProcess) newPublisher() {
	s := p.s
	s.publishers++
	c := &simPublisher{
		p: p, name: fmt.Sprintf("p%d", s.publishers), window: 1 + s.random.IntN(20),
		pace: s.between(2*time.Millisecond, 80*time.Millisecond),
	}
	s.clients = append(s.clients, c)
	p.later(s.between(0, c.pace), c.publish)
}

func (c *simPublisher) on() *simProcess { return c.p }
func (c *simPublisher) close()          { c.closed = true }
func (c *simPublisher) died()           { c.closed = true }

func (c *simPublisher) waits() string {
	if c.outstanding > 0 {
		return fmt.Sprintf("%s of %s waits for %d submissions", c.name, c.p.of.name, c.outstanding)
	}
	return ""
}

func (c *simPublisher) publish() {
	s := c.p.s
	if c.closed || s.ending {
		return
	}
	c.p.later(s.between(0, 2*c.pace), c.publish)
	if c.outstanding >= c.window {
		return
	}
	quorum := s.plan.quorums[s.random.IntN(len(s.plan.quorums))]
	ops := takeOps()
	type sent struct {
		content string
		queues  int
	}
	var messages []sent
	for range 1 + s.random.IntN(3) {
		c.number++
		body := fmt.Sprintf("%s/%d", c.name, c.number)
		to := s.published()
		first := s.random.IntN(len(to))
		queues := []entry.QueueID{to[first]}
		if s.chance(4) {
			queues = append(queues, to[(first+1)%len(to)])
		}
		messages = append(messages, sent{body, len(queues)})
		body += strings.Repeat(" ", 1+s.random.IntN(s.plan.size+1))
		ops = appendPublish(ops, queues, nil, nil, []byte{0, 0}, len(body))
		ops = append(ops, body...)
	}
	c.outstanding++
	s.counts.published += len(messages)
	ended := false
	c.p.gateway().submit(&submission{ops: ops, quorum: quorum, done: func(o outcome) {
		if ended {
			s.fatalf("%s is told twice of %v", c.name, messages)
		}
		ended = true
		c.outstanding--
		s.tell("%s told of %v: %v", c.name, messages, o.err)
		if o.err != nil {
			s.counts.refused += len(messages)
			if s.calm && o.err.Error() != errPublishTimeout.Error() && o.err != errStopping {
				s.fatalf("%s: %v is refused: %v", c.name, messages, o.err)
			}
			return
		}
		for _, m := range messages {
			s.counts.confirmed++
			s.model.confirmed(&simConfirm{m.content, m.queues, quorum, c.p})
		}
	}})
}

// simChannel is a channel with consumers.
type simChannel struct {
	p         *simProcess
	name      string
	holder    queue.HolderID
	consumers []*simConsumer
	receiver  receiver
	unwritten []simDelivery
	writing   bool
	calls     int
	settling  int
	unacked   int
	drains    bool
	closed    bool
	order     map[string]simPlace
}

// simDelivery is a delivery on its way to a client.
type simDelivery struct {
	queue.Delivery
	term  uint64
	round uint32
}

// judge is what the connection's writer asks before it writes.
func (ch *simChannel) judge(d *simDelivery) verdict {
	now := ch.p.broker.doubt.round()
	if d.round == now {
		return ours
	}
	v := ch.p.gateway().judge(claim{ch.holder, d.Queue}, d.Message, d.round, now)
	if v == others {
		ch.p.s.counts.overtaken++
		ch.p.s.tell("%s drops %d/%d", ch, d.Queue, d.Message)
	}
	return v
}

type simConsumer struct {
	queue.Consumer
	attached, cancelled bool
}

func (ch *simChannel) String() string { return ch.name + "@" + ch.p.of.name }

func (p *simProcess) newChannel() *simChannel {
	s := p.s
	s.channels++
	ch := &simChannel{p: p, name: fmt.Sprintf("c%d", s.channels), holder: p.broker.newHolder(), order: make(map[string]simPlace)}
	ch.receiver.deliver = ch.deliver
	ch.receiver.cancelled = func(id queue.ConsumerID) { s.fatalf("%s: consumer %d is cancelled", ch, id) }
	s.clients = append(s.clients, ch)
	if s.chance(5) {
		p.gateway().limit(ch.holder, uint32(1+s.random.IntN(20)))
	}
	for range 1 + s.random.IntN(2) {
		ch.consume(s.queues[s.random.IntN(len(s.queues))], s.chance(s.plan.noAck))
	}
	p.later(s.between(0, 100*time.Millisecond), ch.act)
	return ch
}

func (ch *simChannel) on() *simProcess { return ch.p }

func (ch *simChannel) died() { ch.closed = true }

func (ch *simChannel) waits() string {
	switch {
	case ch.calls > 0:
		return fmt.Sprintf("%s waits for %d calls", ch, ch.calls)
	case ch.settling > 0:
		return fmt.Sprintf("%s waits for %d acks", ch, ch.settling)
	case ch.closed:
	case len(ch.unwritten) > 0:
		return fmt.Sprintf("%s has %d unwritten", ch, len(ch.unwritten))
	case ch.unacked > 0:
		return fmt.Sprintf("%s has %d unacked", ch, ch.unacked)
	}
	return ""
}

// disturbed reports whether others may have given up what the broker holds since.
func (ch *simChannel) disturbed(since time.Duration) bool {
	return ch.p.dead || ch.p.of.disturbed >= since
}

func (ch *simChannel) consume(q entry.QueueID, noAck bool) {
	s := ch.p.s
	c := &simConsumer{Consumer: queue.Consumer{
		ID: ch.p.broker.newConsumer(), Holder: ch.holder, Queue: q, NoAck: noAck,
		Prefetch: uint32(s.random.IntN(20)), Link: uint32(1 + s.random.IntN(30)),
	}}
	if noAck {
		c.Prefetch = 0
	}
	ch.consumers = append(ch.consumers, c)
	ch.calls++
	ch.p.gateway().attach(c.Consumer, &ch.receiver, func(err error) {
		ch.calls--
		c.attached = true
		if err != nil && err != errStopping && !ch.closed {
			s.fatalf("%s can't attach: %v", ch, err)
		}
	})
}

// deliver takes deliveries, as a lane does.
func (ch *simChannel) deliver(deliveries []queue.Delivery, round uint32) {
	s := ch.p.s
	for _, d := range deliveries {
		if ch.closed {
			s.fatalf("%s is closed and gets %d/%d", ch, d.Queue, d.Message)
		}
		i := slices.IndexFunc(ch.consumers, func(c *simConsumer) bool { return c.ID == d.Consumer })
		if i < 0 || !ch.consumers[i].attached || ch.consumers[i].cancelled {
			s.fatalf("%s gets %d/%d for consumer %d, which it has not", ch, d.Queue, d.Message, d.Consumer)
		}
		ch.unwritten = append(ch.unwritten, simDelivery{d, ch.p.gateway().mu.term, round})
	}
	ch.write()
}

// write has the oldest deliveries written after a time.
func (ch *simChannel) write() {
	if ch.writing || len(ch.unwritten) == 0 {
		return
	}
	ch.writing = true
	ch.p.later(ch.p.s.between(10*time.Microsecond, time.Millisecond), func() {
		ch.writing = false
		if ch.closed {
			return
		}
		n := 1 + ch.p.s.random.IntN(len(ch.unwritten))
		for n > 0 && len(ch.unwritten) > 0 && ch.readable(ch.unwritten[0]) {
			d := ch.unwritten[0]
			v := ch.judge(&d)
			if v == doubtful {
				break
			}
			ch.unwritten = ch.unwritten[1:]
			n--
			if v == ours {
				ch.written(d)
			} else if !d.NoAck {
				ch.p.gateway().credit(d.Consumer, 1, nil)
			}
		}
		ch.write()
	})
}

// readable reports whether the entry of a delivery is here.
func (ch *simChannel) readable(d simDelivery) bool {
	return ch.p.group.applied.Load() >= d.Ref.Index
}

// written is what happens when a delivery is in the socket.
func (ch *simChannel) written(d simDelivery) {
	ch.p.s.model.delivered(ch, d)
	ch.check(d.Delivery)
	if d.NoAck {
		ch.p.s.model.acked(d.Delivery)
		ch.p.s.model.letGo(ch, d.Queue, d.Message)
		ch.p.gateway().credit(d.Consumer, 1, []entry.Range{{First: d.Message, Last: d.Message}})
		return
	}
	ch.p.gateway().credit(d.Consumer, 1, nil)
	ch.process(d.Delivery)
}

// check reads the body.
func (ch *simChannel) check(d queue.Delivery) {
	s := ch.p.s
	message := s.model.queues[d.Queue].messages[d.Message]
	bodies := ch.p.bodies
	payload, ok := bodies.recent(d.Ref.Index)
	if !ok {
		var err error
		if payload, err = bodies.read(d.Ref.Index, nil); err != nil {
			if message.gone && (!message.settled || ch.disturbed(0) || len(message.holds) > 1) {
				return // Purged, or given to another too.
			}
			s.fatalf("%s can't read %d/%d %s in entry %d: %v", ch, d.Queue, d.Message, message.content, d.Ref.Index, err)
		}
	}
	content, err := entry.ParseContent(payload[d.Ref.Offset : d.Ref.Offset+d.Ref.Size])
	if err != nil || strings.TrimRight(string(content.Body), " ") != message.content {
		s.fatalf("%s reads %q, %v for %d/%d %s", ch, content.Body, err, d.Queue, d.Message, message.content)
	}
}

// process acks or returns a message after a time.
func (ch *simChannel) process(d queue.Delivery) {
	s := ch.p.s
	ch.unacked++
	ch.p.later(s.between(0, 10*time.Millisecond), func() {
		if ch.closed {
			return
		}
		ch.unacked--
		if ch.reject(d) {
			return
		}
		one := []entry.Range{{First: d.Message, Last: d.Message}}
		ops := takeOps()
		back := !s.ending && s.chance(s.plan.returns)
		if back {
			ops = queue.AppendReturn(ops, d.Queue, one)
		} else {
			ops = queue.AppendSettle(ops, d.Queue, one)
			s.counts.acked++
			s.model.acked(d)
		}
		s.tell("%s settles %d/%d back %v", ch, d.Queue, d.Message, back)
		s.model.letGo(ch, d.Queue, d.Message)
		ch.settling++
		g := ch.p.gateway()
		g.submit(&submission{
			ops: ops, settled: []settledNote{{ch.holder, d.Queue, one}}, lasting: true,
			done: func(outcome) { ch.settling-- },
		})
	})
}

// act does one of the other things that clients do.
func (ch *simChannel) act() {
	s := ch.p.s
	if ch.closed || s.ending {
		return
	}
	ch.p.later(s.between(0, 200*time.Millisecond), ch.act)
	switch {
	case s.chance(s.plan.reopen):
		if s.chance(3) {
			ch.cancel()
			return
		}
		ch.close()
		ch.p.newChannel()
	case s.chance(s.plan.gets):
		ch.get()
	case s.chance(s.plan.purges) && s.chance(10):
		ch.calls++
		ch.p.gateway().ask(wireMessage{kind: wirePurge, queue: s.queues[s.random.IntN(len(s.queues))]}, func(*wireMessage) { ch.calls-- })
	}
}

func (ch *simChannel) get() {
	s := ch.p.s
	q := s.queues[s.random.IntN(len(s.queues))]
	noAck := s.chance(s.plan.noAck)
	ch.calls++
	ch.p.gateway().get(q, ch.holder, noAck, func(r getReply) {
		ch.calls--
		if !r.found {
			return
		}
		s.counts.got++
		if ch.closed {
			return // Its holder gives it back.
		}
		d := simDelivery{r.delivery, ch.p.gateway().mu.term, r.round}
		d.NoAck = noAck
		ch.unacked++
		var write func()
		write = func() {
			if ch.closed {
				return
			}
			v := ch.judge(&d)
			if v == doubtful || !ch.readable(d) {
				ch.p.later(time.Millisecond, write)
				return
			}
			ch.unacked--
			if v == others {
				return
			}
			s.model.delivered(ch, d)
			ch.check(d.Delivery)
			if r.written != nil {
				s.model.acked(d.Delivery)
				s.model.letGo(ch, d.Queue, d.Message)
				r.written()
				return
			}
			ch.process(d.Delivery)
		}
		ch.p.later(s.between(0, time.Millisecond), write)
	})
}

func (ch *simChannel) cancel() {
	for _, c := range ch.consumers {
		if c.attached && !c.cancelled {
			ch.calls++
			ch.p.gateway().detach(c.ID, func() {
				ch.calls--
				c.cancelled = true
			})
			return
		}
	}
}

// close closes the channel: its holder gives all back.
func (ch *simChannel) close() {
	if ch.closed {
		return
	}
	ch.closed = true
	ch.calls++
	ch.p.s.tell("%s closes", ch)
	ch.p.gateway().closeHolder(ch.holder, func() { ch.calls-- })
}

// done has the rest consumed, and says what is not over yet.
func (s *simulation) done() string {
	for i, q := range s.queues {
		p := s.brokers[i%len(s.brokers)].process
		drains := slices.ContainsFunc(s.clients, func(c simClient) bool {
			ch, is := c.(*simChannel)
			return is && ch.drains && ch.consumers[0].Queue == q
		})
		if !drains {
			s.channels++
			ch := &simChannel{p: p, name: fmt.Sprintf("c%d", s.channels), holder: p.broker.newHolder(), order: make(map[string]simPlace), drains: true}
			ch.receiver.deliver, ch.receiver.cancelled = ch.deliver, func(queue.ConsumerID) {}
			s.clients = append(s.clients, ch)
			ch.consume(q, false)
			p.rouse()
		}
	}
	for _, c := range s.clients {
		if why := c.waits(); why != "" {
			return why
		}
	}
	for _, q := range s.queues {
		if n := s.model.queues[q].live; n > 0 {
			return fmt.Sprintf("queue %d has %d messages: %s", q, n, s.describe(q))
		}
	}
	for _, b := range s.brokers {
		w := b.process.gateway()
		if len(w.mu.unconfirmed) > 0 || len(w.mu.calls) > 0 {
			return fmt.Sprintf("gateway of %s has %d submissions and %d calls", b.name, len(w.mu.unconfirmed), len(w.mu.calls))
		}
		if n := b.process.group.applied.Load(); n != uint64(len(s.model.log)) {
			return fmt.Sprintf("%s has applied %d of %d", b.name, n, len(s.model.log))
		}
	}
	return ""
}

// standing tells what a broker's gateway and loop wait for.
func (p *simProcess) standing() string {
	w, l := p.gateway(), p.group.loop
	waiting := 0
	for _, u := range w.mu.unconfirmed {
		if u != nil {
			waiting++
		}
	}
	text := fmt.Sprintf("%s: leader %q term %d greeted %v accepted %v, %d unconfirmed from %d to %d, calls %v; loop term %d, %d pending, %d sent, %d late, %d consumers",
		p.of.name, w.mu.leader, w.mu.term, w.mu.greeted, w.mu.accepted, waiting, w.mu.base, w.mu.seq, slices.Sorted(maps.Keys(w.mu.calls)),
		l.term, len(l.pending), len(l.sent)-l.sentHead, len(l.late), len(p.group.consumers))
	for _, n := range slices.Sorted(maps.Keys(w.mu.calls)) {
		text += fmt.Sprintf(" %+v", w.mu.calls[n].message)
	}
	return text
}

// describe tells how the leader sees a queue.
func (s *simulation) describe(q entry.QueueID) string {
	leader := s.leader()
	if leader == nil || leader.process.group.dispatcher == nil {
		return "nobody leads"
	}
	d := leader.process.group.dispatcher
	return fmt.Sprintf("%s says %d ready, %d unacked, %d consumers", leader.name, d.Ready(q), d.Unacked(q), d.Consumers(q))
}

var _ = replicate.QuorumAll
