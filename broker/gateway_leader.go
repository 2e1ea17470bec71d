package broker

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// helloPatience is how long a leader has to answer Hello before it is asked
// again. It has twice as long each time: one that is slower than that would never
// be heard, since it is the last Hello that has to be answered.
const (
	helloPatience    = 100 * time.Millisecond
	maxHelloPatience = 5 * time.Second
)

// leads tells who leads the group in a term. What is older than known is
// passed over.
func (w *gateway) leads(leader string, term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err != nil || term < w.mu.term || term == w.mu.term && leader == w.mu.leader && w.mu.greeted {
		return
	}
	if leader != w.mu.leader || term != w.mu.term {
		w.mu.leader, w.mu.term, w.mu.patience = leader, term, helloPatience
	}
	w.greet()
}

// newer reports whether a term is later than that of the leader that is known.
func (w *gateway) newer(term uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return term > w.mu.term
}

// broken tells that what was sent to a broker may be lost: the gateway begins
// anew with it. It is for links that reset while the leader stays.
func (w *gateway) broken(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.leader == name && w.mu.greeted {
		w.mu.greeted, w.mu.accepted = false, false
	}
}

// again begins anew with a broker at once, if it leads.
func (w *gateway) again(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.leader == name && w.mu.err == nil && !w.mu.greeted {
		w.greet()
	}
}

// tick begins anew with a leader that did not answer, and gives up what waited
// for too long.
func (w *gateway) tick() {
	w.mu.Lock()
	now := w.now()
	stopped := w.doubt.round() != w.mu.round
	if w.mu.err == nil && w.mu.leader != "" && (stopped || !w.mu.accepted && now.Sub(w.mu.asked) >= w.mu.patience) {
		if w.mu.greeted && !stopped {
			w.mu.patience = min(2*w.mu.patience, maxHelloPatience)
		}
		w.greet()
	}
	var late []*underway
	if w.timeout > 0 {
		for i, u := range w.mu.unconfirmed {
			if u == nil {
				continue
			}
			if now.Sub(u.since) < w.timeout {
				break
			}
			if u.told || u.lasting && !u.awaited {
				continue
			}
			late = append(late, u)
			if u.lasting {
				u.told = true // What is acked stays acked, whatever its publishes are told.
			} else {
				w.mu.unconfirmed[i] = nil
			}
		}
		w.trim()
	}
	w.mu.Unlock()
	for _, u := range late {
		u.finish(outcome{err: errPublishTimeout})
	}
}

// greet tells the leader all that it has to know: who we are, the consumers and
// what they hold, what is unconfirmed, what was asked. Called with mu held, so
// that nothing gets in between.
func (w *gateway) greet() {
	w.mu.greeted, w.mu.accepted, w.mu.asked, w.mu.waiting = false, false, w.now(), nil
	if w.mu.send = w.port(w.mu.leader); w.mu.send == nil {
		return
	}
	w.mu.greeted = true
	w.mu.greetings++
	w.mu.round = w.doubt.round() // Before what is held is told.
	w.toLeader(&wireMessage{kind: wireHello, session: w.session, seq: w.mu.greetings})
	w.tellHeld()
	for _, u := range w.mu.unconfirmed {
		if u != nil {
			u.again = true
			w.sendSubmission(u.submission, nil) // What is held was told without these.
		}
	}
	w.toLeader(&wireMessage{kind: wireAttached, seq: w.mu.greetings, n: flagBits(!w.mu.judgment.knows(w.mu.round))})
	order := w.mu.order
	w.mu.order = nil
	for _, n := range order {
		c := w.mu.calls[n]
		if c == nil {
			continue
		}
		w.mu.order = append(w.mu.order, n)
		if c.message.kind != wireAttach {
			m := c.message
			w.toLeader(&m)
		}
	}
}

// tellHeld tells of the consumers and of what is held. Called with mu held.
func (w *gateway) tellHeld() {
	attaching := make(map[queue.ConsumerID]uint64)
	for n, c := range w.mu.calls {
		if c.message.kind == wireAttach {
			attaching[c.message.consumer.ID] = n
		}
	}
	told := make(map[queue.HolderID]map[entry.QueueID]bool)
	for _, id := range slices.Sorted(maps.Keys(w.mu.consumers)) {
		f := w.mu.consumers[id]
		if f.gone {
			continue // What it has yet to write is told as its holder's.
		}
		m := &wireMessage{kind: wireAttach, call: attaching[id], consumer: f.Consumer, n: uint64(f.given)}
		switch v := w.mu.holders[f.Holder]; {
		case f.NoAck:
			m.ranges = slices.Clone(f.unwritten.list())
		case v != nil && v.by[f.Queue] == id && v.queues[f.Queue] != nil:
			m.ranges = slices.Clone(v.queues[f.Queue].list())
			if told[f.Holder] == nil {
				told[f.Holder] = make(map[entry.QueueID]bool)
			}
			told[f.Holder][f.Queue] = true
		}
		w.toLeader(m)
	}
	for _, h := range slices.Sorted(maps.Keys(w.mu.holders)) {
		v := w.mu.holders[h]
		if _, any := told[h]; v.limit > 0 || !any { // That it is there has to be told.
			w.toLeader(&wireMessage{kind: wireLimit, holder: h, n: uint64(v.limit)})
		}
		for _, q := range slices.Sorted(maps.Keys(v.queues)) {
			if s := v.queues[q]; !s.empty() && !told[h][q] {
				w.toLeader(&wireMessage{kind: wireHold, holder: h, queue: q, ranges: slices.Clone(s.list())})
			}
		}
	}
}

// receive takes a message from a broker that may be the leader.
func (w *gateway) receive(from string, m *wireMessage) {
	w.mu.Lock()
	if m.term != w.mu.term || from != w.mu.leader || w.mu.err != nil {
		w.mu.Unlock()
		return
	}
	if !w.mu.accepted && m.kind != wireHello && m.kind != wireRefused {
		// It answers to what was before the last Hello. The leader has taken
		// that back, or will, and is asked again for all that it matters to: a
		// call that was answered twice would leave the second message that it
		// got with nobody.
		w.mu.Unlock()
		return
	}
	switch m.kind {
	case wireHello:
		// Since it was asked, the way to the leader may have broken: then it is
		// asked anew.
		if w.mu.accepted = w.mu.greeted && m.seq == w.mu.greetings; w.mu.accepted {
			w.mu.patience = helloPatience
		}
		w.led.Broadcast()
		w.mu.Unlock()
	case wireRefused:
		w.mu.greeted, w.mu.accepted = false, false
		w.mu.Unlock()
	case wireTaken:
		w.taken(m)
		w.mu.Unlock()
	case wireAttached:
		doubtful := !w.mu.judgment.knows(w.mu.round)
		w.mu.judgment.end(w.mu.round)
		w.mu.Unlock()
		if doubtful {
			w.judged()
		}
	case wireReply:
		c := w.answered(m)
		w.mu.Unlock()
		if c != nil {
			c.answer(m)
		}
	case wireDeliver:
		w.deliver(m)
	case wireCancelled:
		f := w.mu.consumers[m.consumer.ID]
		delete(w.mu.consumers, m.consumer.ID)
		w.mu.Unlock()
		if f != nil {
			f.to.cancelled(m.consumer.ID)
		}
	case wireDone:
		w.mu.Unlock()
		for _, e := range m.ended {
			if e.early() {
				w.held(m.term, e.seq)
			} else {
				w.over(m.term, e.seq, w.outcome(e))
			}
		}
	default:
		w.mu.Unlock()
	}
}

// answered returns the call that is answered, nil if it was taken back. Called with
// mu held.
func (w *gateway) answered(m *wireMessage) *gatewayCall {
	c := w.mu.calls[m.call]
	delete(w.mu.calls, m.call)
	if c != nil && c.message.kind == wireGet {
		// Before anything can be told of what is held.
		m.round = w.mu.round
		for i := range m.deliveries {
			w.hold(&m.deliveries[i], true)
		}
	}
	return c
}

// deliver passes deliveries on to their connections. Called with mu held, which
// it gives up.
func (w *gateway) deliver(m *wireMessage) {
	type part struct {
		to         *receiver
		start, end int
	}
	var parts []part
	w.mu.enclosed.put(m)
	for i := range m.deliveries {
		d := &m.deliveries[i]
		f := w.mu.consumers[d.Consumer]
		if f == nil {
			parts = append(parts, part{nil, i, i + 1})
			continue // It is closed by now, and so is its holder.
		}
		w.hold(d, false)
		if f.NoAck {
			f.unwritten.add(d.Message)
		}
		f.given++
		if n := len(parts); n > 0 && parts[n-1].to == f.to {
			parts[n-1].end = i + 1
		} else {
			parts = append(parts, part{f.to, i, i + 1})
		}
	}
	round := w.mu.round
	w.mu.Unlock()
	for _, p := range parts {
		if p.to != nil {
			p.to.deliver(m.deliveries[p.start:p.end], round)
		}
	}
}

// body returns what came along with a delivery, once.
func (w *gateway) body(ref entry.Ref) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.enclosed.take(ref)
}

// hasBody reports whether body would return something.
func (w *gateway) hasBody(ref entry.Ref) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.enclosed.bodies[ref] != nil
}

// outcome decodes the end of a submission that came over the wire.
func (w *gateway) outcome(e ended) (o outcome) {
	o.index = e.index
	var err error
	switch {
	case e.failed != "":
		o.err = remoteError(e.failed)
	case w.id == entry.Topology:
		o.topology, err = parseTopologyResults(e.ops)
	default:
		o.ops, err = parseResults(e.ops)
	}
	o.err = cmp.Or(o.err, err)
	return o
}

// remoteError is an error that another broker told of.
type remoteError string

func (e remoteError) Error() string { return string(e) }

// leader is who led last, "" when nobody did since this broker started.
func (w *gateway) leader() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.leader
}

// known is who leads and has accepted the gateway, "" for nobody, and the last
// term that had a leader.
func (w *gateway) known() (leader string, term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.accepted {
		leader = w.mu.leader
	}
	return leader, w.mu.term
}

// ready waits until a leader has accepted the gateway.
func (w *gateway) ready(ctx context.Context) error { return w.readyAt(ctx, "") }

// readyAt waits until that broker, any when it is "", has accepted the gateway
// as the leader.
func (w *gateway) readyAt(ctx context.Context, name string) error {
	defer context.AfterFunc(ctx, func() {
		w.mu.Lock()
		w.led.Broadcast()
		w.mu.Unlock()
	})()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.mu.accepted || name != "" && w.mu.leader != name {
		if err := cmp.Or(w.mu.err, ctx.Err()); err != nil {
			return err
		}
		w.led.Wait()
	}
	return nil
}
