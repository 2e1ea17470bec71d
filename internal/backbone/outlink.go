package backbone

import (
	"sync"
	"time"
)

type linkState uint8

const (
	linkDown    linkState = iota // the peer is down
	linkOpening                  // a new life is announced and not yet acked
	linkOpen
)

// outLink is the sending end of a link.
type outLink struct {
	state linkState
	held  bool   // broken, and the owner has not called Reopen
	epoch uint64 // the peer's, while it is up

	// Of this life:
	life     uint32
	used     bool   // a message was accepted
	accepted uint64 // number of the last frame that was accepted
	written  uint64 // number of the last frame that went to the writer
	sent     uint64 // payload bytes that went to the writer
	received uint64 // payload bytes that have arrived. Invariant: received <= sent
	cost     int64  // of messages accepted
	consumed int64  // of messages consumed; negative while the owner there owes for an earlier life
	queue    fifo[*frame]

	refused  bool      // ErrFull was returned: LinkWritable is owed
	progress time.Time // when an ack last moved, or began to be missing
	heard    time.Time // when an ack last came
}

// outgoing is the sending ends of one class's links.
type outgoing struct {
	class Class
	b     *Backbone
	w     *writer
	hold  bool
	mu    struct {
		sync.Mutex
		links []outLink // by broker number
		life  uint32    // the last one given out
	}
}

func newOutgoing(b *Backbone, c Class, w *writer, hold bool) *outgoing {
	o := &outgoing{class: c, b: b, w: w, hold: hold}
	o.mu.links = make([]outLink, len(b.names))
	return o
}

// admit says whether a link takes a message of that cost now.
// REQUIRES: mu held.
func (o *outgoing) admit(l *outLink, cost int64) error {
	waiting, window := l.cost-l.consumed, int64(o.b.config.Window)
	switch {
	case l.state == linkDown:
		return ErrDown
	case l.held:
		return ErrHeld
	case l.state == linkOpening || waiting > 0 && waiting+min(cost, window*3/4) > window:
		l.refused = true
		return ErrFull
	}
	return nil
}

// flows is true when a frame may be written at once. Invariant of its use: a
// link's frames are written in the order of their numbers.
// REQUIRES: mu held.
func (o *outgoing) flows(l *outLink, f *frame) bool {
	transit := l.sent - l.received
	return l.state == linkOpen && l.queue.len() == 0 &&
		(transit == 0 || transit+uint64(f.payload) <= uint64(o.b.config.Transit))
}

// send gives one message to several links; see Backbone.SendLink. O(bytes) for
// the copy, outside of the lock.
func (o *outgoing) send(to []uint8, total int, payload [][]byte) error {
	cost := int64(total + messageCost)
	if refusals := o.refusals(to, cost); len(refusals) == len(to) {
		return &SendError{Refusals: refusals}
	}
	room := dataHeaderSize(len(to))
	frames := gather(payload, total, o.b.frameSize(room), room)

	o.mu.Lock()
	taken, refusals := o.accept(to, cost)
	o.commit(taken, total, frames)
	o.mu.Unlock()
	if refusals != nil {
		return &SendError{Refusals: refusals}
	}
	return nil
}

// refusals asks each link without promising anything.
func (o *outgoing) refusals(to []uint8, cost int64) []Refusal {
	o.mu.Lock()
	defer o.mu.Unlock()
	var refusals []Refusal
	for _, n := range to {
		if err := o.admit(&o.mu.links[n], cost); err != nil {
			refusals = append(refusals, Refusal{o.b.names[n], err})
		}
	}
	return refusals
}

// accept charges the message to each link that takes it.
// REQUIRES: mu held.
func (o *outgoing) accept(to []uint8, cost int64) (taken []uint8, refusals []Refusal) {
	taken = make([]uint8, 0, len(to))
	for _, n := range to {
		l := &o.mu.links[n]
		if err := o.admit(l, cost); err != nil {
			refusals = append(refusals, Refusal{o.b.names[n], err})
			continue
		}
		l.used = true
		l.cost += cost
		taken = append(taken, n)
	}
	return taken, refusals
}

// commit numbers the frames, writes what may be written, once for all links
// that it may be written for, and queues the rest.
// REQUIRES: mu held.
func (o *outgoing) commit(taken []uint8, total int, frames []*frame) {
	header := make([]byte, 0, 128)
	targets := make([]target, 0, len(taken))
	offset := 0
	for _, f := range frames {
		if len(taken) == 0 {
			f.release()
			continue
		}
		targets = targets[:0]
		var now uint64 // set of brokers that the frame is written for at once
		queued := 0
		for _, n := range taken {
			l := &o.mu.links[n]
			l.accepted++
			targets = append(targets, target{recipient: n, life: l.life, number: l.accepted})
			if o.flows(l, f) {
				now |= 1 << n
			} else {
				queued++
			}
		}
		f.setHeader(appendData(header[:0], o.b.head(kindData), uint32(total), uint32(offset), targets))
		offset += f.payload
		refs := queued
		if now != 0 {
			refs++
		}
		f.refs.Store(int32(refs))
		for _, n := range taken {
			if l := &o.mu.links[n]; now&(1<<n) != 0 {
				o.wrote(l, f)
			} else {
				l.queue.push(f)
			}
		}
		if now != 0 {
			o.w.ordered(item{subject: o.b.subject(o.class, now), bytes: f.bytes, frame: f})
		}
	}
}

// wrote counts a frame that goes to the writer.
// REQUIRES: mu held.
func (o *outgoing) wrote(l *outLink, f *frame) {
	if l.sent == l.received {
		l.progress = time.Now()
	}
	l.written++
	l.sent += uint64(f.payload)
}

// pump writes what has become possible to write.
// REQUIRES: mu held.
func (o *outgoing) pump(n uint8, l *outLink) {
	for l.state == linkOpen && l.queue.len() > 0 {
		f := l.queue.head()
		transit := l.sent - l.received
		if transit != 0 && transit+uint64(f.payload) > uint64(o.b.config.Transit) {
			return
		}
		l.queue.pop()
		o.wrote(l, f)
		o.w.ordered(item{subject: o.b.subject(o.class, 1<<n), bytes: f.bytes, frame: f})
	}
}

// ack takes a receiver's counts.
func (o *outgoing) ack(from uint8, epoch uint64, c control, now time.Time) {
	o.mu.Lock()
	l := &o.mu.links[from]
	if l.state == linkDown || l.epoch != epoch || l.life != c.life || c.received > l.sent {
		o.mu.Unlock()
		return
	}
	if l.state == linkOpening {
		l.state, l.consumed, l.progress = linkOpen, c.consumed, now
	}
	if c.received > l.received {
		l.received, l.progress = c.received, now
	}
	l.heard = now
	l.consumed = max(l.consumed, c.consumed)
	o.pump(from, l)
	writable := o.owesWritable(l)
	o.mu.Unlock()
	if writable {
		o.b.config.Handler.LinkWritable(o.class, o.b.names[from])
	}
}

// renew ends a link's life and says whether the owner must hear of it.
// REQUIRES: mu held.
func (o *outgoing) renew(n uint8, state linkState, epoch uint64) (tell bool) {
	l := &o.mu.links[n]
	tell = l.used
	for l.queue.len() > 0 {
		l.queue.pop().release()
	}
	o.mu.life++
	*l = outLink{
		state: state, epoch: epoch, life: o.mu.life,
		held: l.held || tell && o.hold, refused: l.refused,
	}
	if state == linkOpening {
		o.announce(n, l)
	}
	return tell
}

// announce asks the receiver to open this life.
// REQUIRES: mu held.
func (o *outgoing) announce(n uint8, l *outLink) {
	o.ask(n, kindOpen, control{yours: l.epoch, life: l.life})
}

// ask writes a control behind the data before it, and hears at once when
// nobody is there to read it.
func (o *outgoing) ask(n uint8, k kind, c control) {
	o.w.ordered(item{
		subject: o.b.subject(o.class, 1<<n), reply: o.b.nobody(o.class, n),
		bytes: appendControl(nil, o.b.head(k), c),
	})
}

// up opens the link to a peer that is up; down ends it.
func (o *outgoing) up(n uint8, epoch uint64) { o.restart(n, linkOpening, epoch) }
func (o *outgoing) down(n uint8)             { o.restart(n, linkDown, 0) }

func (o *outgoing) restart(n uint8, state linkState, epoch uint64) {
	o.mu.Lock()
	tell := o.renew(n, state, epoch)
	o.mu.Unlock()
	if tell {
		o.broken(n, "the peer is down")
	}
}

// lost ends the life of an open link, if it is that one; life 0 is any.
func (o *outgoing) lost(n uint8, life uint32, why string) {
	o.mu.Lock()
	l := &o.mu.links[n]
	if l.state != linkOpen || life != 0 && l.life != life {
		o.mu.Unlock()
		return
	}
	tell := o.renew(n, linkOpening, l.epoch)
	o.mu.Unlock()
	if tell {
		o.broken(n, why)
	}
}

// lostAll ends the lives of all open links.
func (o *outgoing) lostAll(why string) {
	for n := range o.b.names {
		o.lost(uint8(n), 0, why)
	}
}

func (o *outgoing) broken(n uint8, why string) {
	o.b.counters.broken.Add(1)
	o.b.config.Logger.Info("a link's messages may be lost",
		"class", o.class.String(), "to", o.b.names[n], "because", why)
	o.b.config.Handler.LinkBroken(o.class, o.b.names[n])
}

// reopen ends the hold of a broken link.
func (o *outgoing) reopen(n uint8) {
	o.mu.Lock()
	l := &o.mu.links[n]
	l.held = false
	writable := l.state == linkOpen && o.owesWritable(l)
	o.mu.Unlock()
	if writable {
		o.b.config.Handler.LinkWritable(o.class, o.b.names[n])
	}
}

// owesWritable is true once when a link that refused has room again.
// REQUIRES: mu held.
func (o *outgoing) owesWritable(l *outLink) bool {
	owes := l.refused && !l.held && l.cost-l.consumed <= int64(o.b.config.Window/2)
	if owes {
		l.refused = false
	}
	return owes
}

// Times of the sender's patience.
const (
	probeAfter  = 60 * time.Millisecond  // without an ack that moves; receivers ack each tick
	creditAfter = 500 * time.Millisecond // without any ack while credit is out: one may be lost
	lostAfter   = 2 * time.Second        // of probing in vain
)

// tick announces, probes and gives up where time has come. late is how long
// this process was not running: nobody else is to blame for that time.
func (o *outgoing) tick(now time.Time, late time.Duration) {
	var lost []uint8
	o.mu.Lock()
	for n := range o.mu.links {
		l := &o.mu.links[n]
		l.progress, l.heard = l.progress.Add(late), l.heard.Add(late)
		switch unacked := l.sent > l.received; {
		case l.state == linkOpening:
			o.announce(uint8(n), l)
		case l.state != linkOpen:
		case unacked && now.Sub(l.progress) > lostAfter:
			lost = append(lost, uint8(n))
		case unacked && now.Sub(l.progress) > probeAfter,
			l.cost > l.consumed && now.Sub(l.heard) > creditAfter:
			o.probe(uint8(n), l)
		}
	}
	o.mu.Unlock()
	for _, n := range lost {
		o.lost(n, 0, "nothing was acked")
	}
}

// REQUIRES: mu held.
func (o *outgoing) probe(n uint8, l *outLink) {
	o.ask(n, kindProbe, control{yours: l.epoch, life: l.life, number: l.written})
}

// probeAll asks all receivers at once whether they are there.
func (o *outgoing) probeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for n := range o.mu.links {
		if l := &o.mu.links[n]; l.state == linkOpen {
			o.probe(uint8(n), l)
		}
	}
}
