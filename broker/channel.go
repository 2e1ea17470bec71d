package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// operationTimeout bounds how long a method waits for the topology or a queue.
const operationTimeout = 30 * time.Second

// maxHeld bounds how many queues a channel remembers: one that gets from a new
// queue each time must not grow.
const maxHeld = 1024

// The states of a channel. It closes once: open, closing, closed; closing only
// where the broker closes it and waits for the client's close-ok.
const (
	channelOpen uint32 = iota
	channelClosing
	channelClosed
)

// channelMode is how a channel treats publishes. It is chosen once.
type channelMode = uint32

const (
	modePlain channelMode = iota
	modeConfirm
	modeTx
)

// channel is one AMQP channel. Its fields belong to the connection's reader,
// but for a method that has to wait: that runs on a goroutine of its own and
// has them until busy is closed, while the reader serves other channels.
type channel struct {
	conn   *conn
	number uint16
	holder queue.HolderID
	state  atomic.Uint32
	busy   chan struct{}

	mode      atomic.Uint32 // a channelMode
	published atomic.Uint64 // publishes in confirm mode: the last one's tag
	incoming  incoming
	tx        *transaction
	lastQueue string // the queue that an empty name means

	prefetch atomic.Uint32 // of consumers to come
	shared   atomic.Uint32 // basic.qos global=true
	// lanes are the groups that know the holder; held is by queue.
	lanes []*lane
	held  map[heldKey]*held
	freed int // deliveries settled since makeRoom

	unacked unacked // has a lock of its own
	// Guarded by the outbox's mutex.
	confirms confirms
	tags     map[string]*subscriber
	window   sharedPrefetch
}

// heldKey is a queue, and whether messages were got from it or delivered.
type heldKey struct {
	queue entry.QueueID
	get   bool
}

func newChannel(c *conn, number uint16) *channel {
	ch := &channel{conn: c, number: number, holder: c.front.core.newHolder()}
	ch.confirms.channel = number
	c.front.counts.channelsOpened.Add(1)
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.listed == nil {
		c.listed = make(map[*channel]struct{})
	}
	c.listed[ch] = struct{}{}
	return ch
}

func (ch *channel) isOpen() bool { return ch.state.Load() == channelOpen }

// run lets f, which may wait, handle a method. Everything that came before on
// the connection is submitted first; what comes after on this channel waits.
func (ch *channel) run(ctx context.Context, id amqp.MethodID, f func(context.Context) error) {
	ch.conn.flush()
	busy := make(chan struct{})
	ch.busy = busy
	ch.conn.work.Go(func() {
		defer close(busy)
		ctx, cancel := context.WithTimeout(ctx, operationTimeout)
		defer cancel()
		if err := f(ctx); err != nil {
			ch.conn.report(ch, id, err)
		}
	})
}

// await waits until the channel is the reader's again.
func (ch *channel) await() {
	if ch.busy == nil {
		return
	}
	ch.conn.waiting.Store(true)
	<-ch.busy
	ch.conn.waiting.Store(false)
	ch.busy = nil
}

// reply queues a method for the client, if the channel is still open.
func (ch *channel) reply(m amqp.Method) {
	o := &ch.conn.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if ch.isOpen() {
		o.putMethod(ch.number, m)
	}
}

// fail closes the channel because of an error: channel.close, and everything
// that comes is discarded until the client's close-ok. Safe from any goroutine
// that has the channel.
func (ch *channel) fail(e *amqp.Error) {
	o := &ch.conn.out
	o.mu.Lock()
	failed := ch.state.CompareAndSwap(channelOpen, channelClosing)
	if failed {
		o.putMethod(ch.number, e.ChannelClose())
	}
	o.mu.Unlock()
	if failed {
		ch.conn.log.Info("channel closed", "channel", ch.number, "code", e.Code, "text", e.Text)
		ch.release(func() {})
	}
}

// release gives back all that the channel holds; done is called, perhaps on a
// group's goroutine, when it is back in its queues.
func (ch *channel) release(done func()) {
	o := &ch.conn.out
	o.mu.Lock()
	if _, listed := ch.conn.listed[ch]; listed {
		delete(ch.conn.listed, ch)
		ch.conn.front.counts.channelsClosed.Add(1)
	}
	for _, s := range ch.tags {
		delete(ch.conn.subscribers, s.id)
	}
	ch.tags = nil
	ch.window.parked = nil
	ch.confirms.closed = true
	o.mu.Unlock()
	ch.unacked.drop()
	lanes := ch.lanes
	ch.lanes, ch.held, ch.tx = nil, nil, nil
	ch.incoming.drop()
	wait := newCountdown(len(lanes)+1, done)
	for _, l := range lanes {
		l.group.closeHolder(ch.holder, wait.arrive)
	}
	wait.arrive()
}

// closed handles the client's channel.close: close-ok comes when what the
// channel held is back in its queues.
func (ch *channel) closed(id amqp.MethodID) {
	ch.conn.flush()
	busy := make(chan struct{})
	ch.busy = busy
	ch.state.Store(channelClosed)
	ch.conn.work.Add(1)
	ch.release(func() {
		ch.conn.closedChannels.Add(1)
		ch.conn.out.method(ch.number, &amqp.ChannelCloseOk{})
		close(busy)
		ch.conn.work.Done()
	})
}

// discard handles a frame on a channel that waits for close-ok.
func (ch *channel) discard(f amqp.Frame) {
	if f.Type != amqp.FrameMethod {
		return
	}
	switch id, _, _ := amqp.CutMethod(f.Payload); id {
	case amqp.IDChannelCloseOk:
		ch.conn.forget(ch)
	case amqp.IDChannelClose:
		// Both sides closed at once: each gets its close-ok.
		ch.conn.out.method(ch.number, &amqp.ChannelCloseOk{})
	}
}

// uses returns what the channel holds of a queue, and makes the channel known
// to the queue's group. get is for basic.get, which no prefetch limits.
func (ch *channel) uses(q *topology.Queue, l *lane, get bool) *held {
	key := heldKey{q.ID, get}
	if h := ch.held[key]; h != nil {
		return h
	}
	if len(ch.held) >= maxHeld {
		// What is in use is referred to from elsewhere; the rest is of queues
		// that this channel will perhaps never see again.
		clear(ch.held)
	}
	known := false
	for _, other := range ch.lanes {
		known = known || other == l
	}
	if !known {
		ch.lanes = append(ch.lanes, l)
		if n := ch.shared.Load(); n > 0 {
			l.group.limit(ch.holder, n)
		}
	}
	h := &held{lane: l, queue: q, channel: ch, get: get}
	_, _, _, h.deadLetters = deadLetterExchange(q)
	if ch.held == nil {
		ch.held = make(map[heldKey]*held)
	}
	ch.held[key] = h
	return h
}

// frame handles one frame of an open channel.
func (ch *channel) frame(ctx context.Context, f amqp.Frame) (amqp.MethodID, error) {
	switch f.Type {
	case amqp.FrameHeader:
		return amqp.IDBasicPublish, ch.header(ctx, f.Payload)
	case amqp.FrameBody:
		return amqp.IDBasicPublish, ch.body(ctx, f.Payload)
	}
	id, arguments, err := amqp.CutMethod(f.Payload)
	if err != nil {
		return 0, err
	}
	if ch.incoming.phase != contentNone {
		return id, ch.incoming.unexpectedMethod()
	}
	switch id {
	case amqp.IDBasicPublish:
		var v amqp.PublishView
		if err := v.Parse(arguments); err != nil {
			return id, err
		}
		return id, ch.publish(&v)
	case amqp.IDBasicAck:
		var v amqp.AckView
		if err := v.Parse(arguments); err != nil {
			return id, err
		}
		return id, ch.settle(v.DeliveryTag, v.Multiple, acked)
	case amqp.IDBasicNack:
		var v amqp.NackView
		if err := v.Parse(arguments); err != nil {
			return id, err
		}
		return id, ch.settle(v.DeliveryTag, v.Multiple, nacked(v.Requeue))
	case amqp.IDBasicReject:
		var v amqp.RejectView
		if err := v.Parse(arguments); err != nil {
			return id, err
		}
		return id, ch.settle(v.DeliveryTag, false, nacked(v.Requeue))
	}
	m, err := amqp.ParseMethod(f.Payload)
	if err != nil {
		return id, err
	}
	return id, ch.method(ctx, m)
}

// method handles the methods that are not of the hot path.
func (ch *channel) method(ctx context.Context, m amqp.Method) error {
	switch m := m.(type) {
	case *amqp.ChannelOpen:
		return amqp.ChannelError("second 'channel.open' seen")
	case *amqp.ChannelClose:
		ch.closed(m.ID())
	case *amqp.ChannelFlow:
		if !m.Active {
			return amqp.NotImplemented("active=false")
		}
		ch.reply(&amqp.ChannelFlowOk{Active: true})
	case *amqp.ExchangeDeclare:
		return ch.exchangeDeclare(ctx, m)
	case *amqp.ExchangeDelete:
		return ch.exchangeDelete(ctx, m)
	case *amqp.ExchangeBind:
		return ch.exchangeBind(ctx, m)
	case *amqp.ExchangeUnbind:
		return ch.exchangeUnbind(ctx, m)
	case *amqp.QueueDeclare:
		return ch.queueDeclare(ctx, m)
	case *amqp.QueueBind:
		return ch.queueBind(ctx, m)
	case *amqp.QueueUnbind:
		return ch.queueUnbind(ctx, m)
	case *amqp.QueuePurge:
		return ch.queuePurge(ctx, m)
	case *amqp.QueueDelete:
		return ch.queueDelete(ctx, m)
	default:
		return ch.basicMethod(ctx, m)
	}
	return nil
}

func (ch *channel) basicMethod(ctx context.Context, m amqp.Method) error {
	switch m := m.(type) {
	case *amqp.BasicQos:
		return ch.qos(m)
	case *amqp.BasicConsume:
		return ch.consume(ctx, m)
	case *amqp.BasicCancel:
		return ch.cancel(m)
	case *amqp.BasicGet:
		return ch.get(m)
	case *amqp.BasicRecover:
		return ch.recover(m.Requeue, true)
	case *amqp.BasicRecoverAsync:
		return ch.recover(m.Requeue, false)
	case *amqp.ConfirmSelect:
		return ch.confirmSelect(m)
	case *amqp.TxSelect:
		return ch.txSelect()
	case *amqp.TxCommit:
		return ch.txCommit(ctx)
	case *amqp.TxRollback:
		return ch.txRollback()
	}
	return amqp.CommandInvalid("unimplemented method")
}

// confirmSelect puts the channel into confirm mode.
func (ch *channel) confirmSelect(m *amqp.ConfirmSelect) error {
	if ch.mode.Load() == modeTx {
		return amqp.PreconditionFailed("cannot switch from tx to confirm mode")
	}
	ch.mode.Store(modeConfirm)
	if !m.NoWait {
		ch.reply(&amqp.ConfirmSelectOk{})
	}
	return nil
}
