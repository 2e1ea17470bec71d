package backbone

import (
	"sync"
)

// inLink is the receiving end of a link.
type inLink struct {
	epoch uint64 // the sender's
	life  uint32 // 0: none yet

	// Of this life:
	next     uint64 // number of the frame to come
	broken   bool   // a number was skipped: the rest is ignored
	received uint64 // payload bytes
	acked    uint64 // received, as last told
	consumed int64  // cost consumed; starts at minus what earlier lives' messages owe
	told     int64  // consumed, as last told
	partial  []byte // of a message in several frames. Invariant: len < cap == its total

	// Of all lives: messages handed up and not consumed.
	sizes fifo[uint32]
	owed  int64 // their cost
	taken int   // bytes consumed of the oldest
}

// incoming is the receiving ends of one class's links. Frames come on one
// goroutine, so that what is handed up is in order without a lock.
type incoming struct {
	class Class
	b     *Backbone
	w     *writer
	mu    struct {
		sync.Mutex
		links []inLink // by broker number
	}
}

func newIncoming(b *Backbone, c Class, w *writer) *incoming {
	in := &incoming{class: c, b: b, w: w}
	in.mu.links = make([]inLink, len(b.names))
	return in
}

// open begins a life, or acks again one that has begun.
func (in *incoming) open(from uint8, epoch uint64, life uint32) {
	in.mu.Lock()
	l := &in.mu.links[from]
	if l.epoch == epoch && life < l.life {
		in.mu.Unlock()
		return
	}
	reset := false
	if l.epoch != epoch || l.life != life {
		reset = l.life != 0
		l.begin(epoch, life)
	}
	in.tell(from, l)
	in.mu.Unlock()
	if reset {
		in.b.counters.reset.Add(1)
		in.b.config.Handler.LinkReset(in.class, in.b.names[from])
	}
}

// begin starts a life whose sender may count on nothing that earlier lives'
// messages still hold.
func (l *inLink) begin(epoch uint64, life uint32) {
	*l = inLink{
		epoch: epoch, life: life, next: 1, consumed: -l.owed,
		sizes: l.sizes, owed: l.owed, taken: l.taken,
	}
}

// tell acks all that is known.
// REQUIRES: mu held.
func (in *incoming) tell(to uint8, l *inLink) {
	l.acked, l.told = l.received, l.consumed
	in.w.control(item{
		subject: in.b.subject(in.class, 1<<to),
		bytes: appendControl(nil, in.b.head(kindAck), control{
			yours: l.epoch, life: l.life, received: l.received, consumed: l.consumed,
		}),
	})
}

// gap tells the sender that a life is over.
// REQUIRES: mu held.
func (in *incoming) gap(to uint8, epoch uint64, life uint32) {
	in.w.control(item{
		subject: in.b.subject(in.class, 1<<to),
		bytes:   appendControl(nil, in.b.head(kindGap), control{yours: epoch, life: life}),
	})
}

// data takes one frame and hands up the message that it completes.
func (in *incoming) data(from uint8, epoch uint64, b []byte) {
	d, payload, err := parseData(b)
	if err != nil {
		in.b.malformed(in.class, from)
		return
	}
	t, ours := d.target(in.b.self)
	if !ours {
		return
	}
	in.mu.Lock()
	message, complete := in.accept(from, epoch, t, d, payload)
	in.mu.Unlock()
	if complete {
		in.b.config.Handler.Message(in.class, in.b.names[from], message)
	}
}

// accept checks a frame's place and joins it to what came before.
// REQUIRES: mu held.
func (in *incoming) accept(from uint8, epoch uint64, t target, d data, payload []byte) ([]byte, bool) {
	l := &in.mu.links[from]
	switch {
	case l.epoch != epoch || l.life < t.life || l.life == 0:
		// We never saw that life's beginning.
		in.gap(from, epoch, t.life)
		return nil, false
	case l.life > t.life || l.broken:
		return nil, false
	case t.number != l.next:
		in.lose(from, l)
		return nil, false
	}
	if int(d.offset) != len(l.partial) || len(l.partial) > 0 && cap(l.partial) != int(d.total) ||
		uint64(d.total) > uint64(in.b.config.MaxMessage) {
		in.b.malformed(in.class, from)
		in.lose(from, l)
		return nil, false
	}
	l.next++
	l.received += uint64(len(payload))
	if l.received-l.acked >= uint64(in.b.config.Transit)/4 {
		in.tell(from, l)
	}
	if len(payload) < int(d.total) {
		if l.partial == nil {
			l.partial = make([]byte, 0, d.total)
		}
		l.partial = append(l.partial, payload...)
		if len(l.partial) < int(d.total) {
			return nil, false
		}
		payload, l.partial = l.partial, nil
	}
	l.sizes.push(uint32(len(payload)))
	l.owed += int64(len(payload) + messageCost)
	return payload, true
}

// lose ends a life in which something is missing.
// REQUIRES: mu held.
func (in *incoming) lose(from uint8, l *inLink) {
	l.broken, l.partial = true, nil
	in.b.counters.gaps.Add(1)
	in.gap(from, l.epoch, l.life)
}

// probe answers what a sender asks: have all frames up to that one arrived?
func (in *incoming) probe(from uint8, epoch uint64, c control) {
	in.mu.Lock()
	defer in.mu.Unlock()
	l := &in.mu.links[from]
	switch {
	case l.epoch != epoch || l.life < c.life || l.life == 0:
		in.gap(from, epoch, c.life)
	case l.life > c.life:
	case l.broken:
		in.gap(from, epoch, c.life)
	case c.number >= l.next:
		in.lose(from, l)
	default:
		in.tell(from, l)
	}
}

// consumed takes note of bytes that the owner has taken. What belongs to
// earlier lives comes first, as the owner got it first.
func (in *incoming) consumed(from uint8, bytes int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	l := &in.mu.links[from]
	l.taken += bytes
	for l.sizes.len() > 0 && int(l.sizes.head()) <= l.taken {
		size := int(l.sizes.pop())
		l.taken -= size
		l.owed -= int64(size + messageCost)
		l.consumed += int64(size + messageCost)
	}
	if l.sizes.len() == 0 {
		l.taken = 0
	}
	if l.life != 0 && !l.broken && l.consumed-l.told >= int64(in.b.config.Window/4) {
		in.tell(from, l)
	}
}

// down frees what a peer has left unfinished.
func (in *incoming) down(from uint8) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.links[from].partial = nil
	in.mu.links[from].broken = true
}

// tick tells what was not worth an ack of its own.
func (in *incoming) tick() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for n := range in.mu.links {
		if l := &in.mu.links[n]; l.life != 0 && !l.broken && (l.received != l.acked || l.consumed != l.told) {
			in.tell(uint8(n), l)
		}
	}
}
