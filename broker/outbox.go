package broker

import (
	"sync"
	"sync/atomic"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	// maxControlBytes is how much may wait for a client that publishes without
	// reading its confirms and returns: past it the connection isn't read.
	maxControlBytes = 4 << 20
	// idleControl and idleDeliveries bound what an idle connection keeps of
	// the memory that its last burst took.
	idleControl    = 512
	idleDeliveries = 8
)

// delivery is a message on its way to a client. It refers to the body, which
// the writer reads when it gets there.
type delivery struct {
	to          *subscriber
	message     entry.MessageID
	ref         entry.Ref
	deliveries  uint32 // how often the message was returned before
	remaining   uint32 // messages left in the queue; basic.get only
	round       uint32 // of doubt, when it came
	redelivered bool
}

// stretch is so many bytes of control frames, or so many deliveries.
// Invariant: one of them is 0.
type stretch struct{ control, deliveries int }

// batch is what the writer takes at a time. The order says how control frames
// and deliveries follow one another.
type batch struct {
	control    []byte
	deliveries []delivery
	order      []stretch
}

// reset empties b and keeps its memory.
func (b *batch) reset() {
	clear(b.deliveries)
	b.control, b.deliveries, b.order = b.control[:0], b.deliveries[:0], b.order[:0]
}

// trim lets go of memory that an idle connection need not keep.
func (b *batch) trim() {
	if cap(b.control) > idleControl {
		b.control = nil
	}
	if cap(b.deliveries) > idleDeliveries {
		b.deliveries = nil
	}
	if cap(b.order) > idleDeliveries {
		b.order = nil
	}
}

// outbox is the ordered queue between all who have something for a client and
// the connection's writer. It also knows what the connection's reader has to
// wait for, because the same events end both waits: groups confirm, the writer
// writes.
//
// Control frames are bounded in bytes by stopping the reader, which causes
// them; deliveries are bounded in count by the consumers' link credit.
type outbox struct {
	mu struct {
		sync.Mutex
		next      batch
		unwritten int         // bytes of control frames that the writer has
		confirms  []*confirms // trackers with something to tell
		inFlight  inFlight
		blocked   string // why publishers are blocked, "" when they are not
		published bool   // the client has published: it can be blocked
		canBlock  bool   // the client understands connection.blocked
		told      bool   // connection.blocked was sent
		judged    bool   // the writer is to look at what was doubtful
		ending    bool   // the writer ends when all is written
		dead      bool   // nothing can be written any more
	}
	ready sync.Cond // something to write, or ending, or dead
	room  sync.Cond // the reader may look again
	// pressed is set when the reader has to look whether it may go on.
	pressed atomic.Bool
}

func (o *outbox) init() {
	o.ready.L = &o.mu
	o.room.L = &o.mu
}

// method queues a method's frame.
func (o *outbox) method(channel uint16, m amqp.Method) {
	o.mu.Lock()
	o.putMethod(channel, m)
	o.mu.Unlock()
}

// putMethod queues a method's frame. REQUIRES: mu held.
func (o *outbox) putMethod(channel uint16, m amqp.Method) {
	before := len(o.mu.next.control)
	o.mu.next.control = amqp.AppendMethod(o.mu.next.control, channel, m)
	o.grown(before)
}

// frames queues frames that are encoded already.
func (o *outbox) frames(encoded []byte) {
	o.mu.Lock()
	before := len(o.mu.next.control)
	o.mu.next.control = append(o.mu.next.control, encoded...)
	o.grown(before)
	o.mu.Unlock()
}

// heartbeat queues a heartbeat unless something else is about to be written.
func (o *outbox) heartbeat() {
	o.mu.Lock()
	if before := len(o.mu.next.control); len(o.mu.next.order) == 0 {
		o.mu.next.control = amqp.AppendHeartbeat(o.mu.next.control)
		o.grown(before)
	}
	o.mu.Unlock()
}

// grown records that control frames were appended. REQUIRES: mu held.
func (o *outbox) grown(before int) {
	if o.mu.dead || o.mu.ending {
		o.mu.next.control = o.mu.next.control[:before]
		return
	}
	n := len(o.mu.next.control) - before
	if last := len(o.mu.next.order) - 1; last >= 0 && o.mu.next.order[last].deliveries == 0 {
		o.mu.next.order[last].control += n
	} else {
		o.mu.next.order = append(o.mu.next.order, stretch{control: n})
	}
	if len(o.mu.next.control) > maxControlBytes/2 {
		o.pressed.Store(true)
	}
	o.ready.Signal()
}

// putDelivery queues a delivery. REQUIRES: mu held.
func (o *outbox) putDelivery(d delivery) {
	if o.mu.dead || o.mu.ending {
		return
	}
	o.mu.next.deliveries = append(o.mu.next.deliveries, d)
	if last := len(o.mu.next.order) - 1; last >= 0 && o.mu.next.order[last].control == 0 {
		o.mu.next.order[last].deliveries++
	} else {
		o.mu.next.order = append(o.mu.next.order, stretch{deliveries: 1})
	}
	o.ready.Signal()
}

// confirmed lists a tracker that has something to tell. The writer encodes it
// when it takes the next batch: what was confirmed until then becomes one
// frame. REQUIRES: mu held.
func (o *outbox) confirmed(c *confirms) {
	if !c.listed {
		c.listed = true
		o.mu.confirms = append(o.mu.confirms, c)
	}
	o.ready.Signal()
}

// take waits for something to write and returns it, or false when the writer
// must end. last is the batch taken before, which has been written.
//
// Confirms are put behind everything that was queued before: so a basic.return
// goes out before its publish's confirm.
func (o *outbox) take(last batch) (batch, bool) {
	last.reset()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.unwritten = 0
	o.room.Broadcast()
	for len(o.mu.next.order) == 0 && len(o.mu.confirms) == 0 && !o.mu.dead && !o.mu.judged {
		if o.mu.ending {
			return batch{}, false
		}
		last.trim()
		o.mu.next.trim()
		o.ready.Wait()
	}
	if o.mu.dead {
		return batch{}, false
	}
	o.mu.judged = false
	for _, c := range o.mu.confirms {
		c.listed = false
		before := len(o.mu.next.control)
		o.mu.next.control = c.appendTold(o.mu.next.control)
		if n := len(o.mu.next.control) - before; n > 0 {
			o.mu.next.order = append(o.mu.next.order, stretch{control: n})
		}
	}
	clear(o.mu.confirms)
	o.mu.confirms = o.mu.confirms[:0]
	taken := o.mu.next
	o.mu.next = last
	o.mu.unwritten = len(taken.control)
	return taken, true
}

// judged has the writer look at what was doubtful.
func (o *outbox) judged() {
	o.mu.Lock()
	o.mu.judged = true
	o.ready.Signal()
	o.mu.Unlock()
}

// end lets the writer write what is queued and then end. What comes later is
// dropped.
func (o *outbox) end() {
	o.mu.Lock()
	o.mu.ending = true
	o.ready.Broadcast()
	o.room.Broadcast()
	o.mu.Unlock()
}

// kill ends the writer and the reader's waits at once.
func (o *outbox) kill() {
	o.mu.Lock()
	o.mu.dead = true
	o.mu.next = batch{}
	o.ready.Broadcast()
	o.room.Broadcast()
	o.mu.Unlock()
}
