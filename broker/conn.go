package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

const (
	// closeTimeout is how long a client has to answer connection.close, and to
	// take what is left to be written.
	closeTimeout = 5 * time.Second
	// releaseTimeout bounds how long the end of a connection waits for the
	// queues that it gives messages back to.
	releaseTimeout = 10 * time.Second
)

// The states of a connection once it is open.
const (
	connRunning uint32 = iota
	connClosing        // connection.close was sent: everything but its answer is discarded
	connEnded          // the socket is closed, or about to be
)

// conn is a client's connection. The goroutine of serve is its reader and owns
// what is not said to belong to another; the writer is the second goroutine.
// A method that has to wait runs on a third (see channel.run).
type conn struct {
	front   *front
	socket  net.Conn
	log     *slog.Logger
	name    string // "127.0.0.1:54084 -> 127.0.0.1:5672"
	id      string // unique in the cluster: the owner of exclusive queues
	started time.Time
	session session // what the handshake settled, fixed from then on

	user, vhost string // of session, at hand
	frameMax    uint32

	reader     *amqp.Reader
	writerDone chan struct{}
	work       sync.WaitGroup // methods that wait, and channels that close

	state   atomic.Uint32
	waiting atomic.Bool // the reader waits for something of ours, not for the client
	cause   atomic.Pointer[string]

	channels   map[uint16]*channel
	last       *channel // the channel of the last frame
	lanes      map[entry.GroupID]*lane
	dirty      []*lane // lanes with something to submit
	routes     routeCache
	permits    permitCache
	published  bool
	exclusive  bool // it declared an exclusive queue
	assembling int  // bytes of messages that have not wholly arrived

	out outbox
	// Guarded by the outbox's mutex: consumers, and the channels that are open.
	subscribers map[queue.ConsumerID]*subscriber
	listed      map[*channel]struct{}

	received, sent atomic.Uint64 // bytes
	channelCount   atomic.Int32
	closedChannels atomic.Int32 // closed and not yet forgotten
	pulse          pulse
}

// serve is the life of a connection, from the protocol header to the end of
// the socket.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.handshake(ctx); err != nil {
		c.log.Info("connection refused", "err", err)
		c.socket.Close()
		return
	}
	c.log.Info("connection opened", "user", c.user, "vhost", c.vhost, "client", c.session.clientName())
	go (&writer{conn: c, contents: c.front.contents(ctx)}).run()
	c.pulse.start(c)
	err := c.read(ctx)
	cancel()
	c.end(err)
}

// read handles frames until the connection is to end. A nil error is a close
// that both sides agreed on.
func (c *conn) read(ctx context.Context) error {
	released := false
	for {
		if len(c.dirty) > 0 && !c.reader.Buffered() {
			c.flush()
		}
		if !released && c.state.Load() != connRunning {
			// What the client holds goes back before it answers, if it does.
			c.releaseAll()
			released = true
		}
		frame, err := c.reader.Next()
		if err != nil {
			return c.unreadable(err)
		}
		c.received.Add(uint64(len(frame.Payload) + frameHead + 1))
		if c.out.pressed.Load() {
			c.flush()
			c.waiting.Store(true)
			c.out.mayRead()
			c.waiting.Store(false)
		}
		switch {
		case c.state.Load() != connRunning:
			if c.discard(frame) {
				return nil
			}
		case frame.Type == amqp.FrameHeartbeat:
		case frame.Channel == 0:
			if done, err := c.control(ctx, frame); done || err != nil {
				return err
			}
		default:
			c.channelFrame(ctx, frame)
		}
	}
}

// unreadable decides what to do when there is no next frame.
func (c *conn) unreadable(err error) error {
	var protocol *amqp.Error
	if !errors.As(err, &protocol) {
		return err
	}
	if c.state.Load() == connRunning {
		c.releaseAll()
		c.fail(protocol)
	}
	// What follows a malformed frame can't be cut into frames: the client's
	// close-ok is somewhere in it, and then its end.
	c.socket.SetReadDeadline(time.Now().Add(closeTimeout))
	io.Copy(io.Discard, c.socket)
	return protocol
}

// channelFrame handles a frame on a channel.
func (c *conn) channelFrame(ctx context.Context, f amqp.Frame) {
	ch := c.channel(f.Channel)
	switch {
	case ch == nil:
		if err := c.openChannel(f); err != nil {
			c.report(nil, 0, err)
		}
	case !ch.isOpen():
		ch.discard(f)
	default:
		if id, err := ch.frame(ctx, f); err != nil {
			// What came before counts: the group must hear of acks before it
			// hears that their holder is gone, and would give them out again.
			c.flush()
			c.report(ch, id, err)
		}
	}
}

// channel returns the channel of a number, nil if there is none. It waits while
// a method of that channel is at work.
func (c *conn) channel(number uint16) *channel {
	ch := c.last
	if ch == nil || ch.number != number {
		if ch = c.channels[number]; ch == nil {
			return nil
		}
		c.last = ch
	}
	ch.await()
	if ch.state.Load() == channelClosed {
		c.forget(ch)
		return nil
	}
	return ch
}

// openChannel handles a frame on a channel that is not open: it can only be
// channel.open.
func (c *conn) openChannel(f amqp.Frame) error {
	if f.Type != amqp.FrameMethod {
		return amqp.UnexpectedFrame("expected method frame, got non method frame instead")
	}
	m, err := amqp.ParseMethod(f.Payload)
	if err != nil {
		return err
	}
	if _, ok := m.(*amqp.ChannelOpen); !ok {
		return amqp.ChannelError("expected 'channel.open'").At(m.ID())
	}
	if c.closedChannels.Load() > 0 {
		c.sweep()
	}
	if n, most := len(c.channels), int(c.session.channelMax); n >= most {
		return amqp.NotAllowed("number of channels opened (%d) has reached the negotiated channel_max (%d)", n, most)
	}
	if c.channels == nil {
		c.channels = make(map[uint16]*channel)
	}
	ch := newChannel(c, f.Channel)
	c.channels[f.Channel] = ch
	c.channelCount.Add(1)
	c.out.method(f.Channel, &amqp.ChannelOpenOk{})
	return nil
}

// forget frees a channel's number.
func (c *conn) forget(ch *channel) {
	if c.channels[ch.number] != ch {
		return
	}
	delete(c.channels, ch.number)
	c.channelCount.Add(-1)
	if ch.state.Swap(channelClosed) == channelClosed {
		c.closedChannels.Add(-1)
	}
	if c.last == ch {
		c.last = nil
	}
}

// sweep forgets the channels that have closed since.
func (c *conn) sweep() {
	for _, ch := range c.channels {
		if ch.state.Load() != channelClosed {
			continue
		}
		select {
		case <-ch.busy:
			c.forget(ch)
		default:
		}
	}
}

// control handles a frame on channel 0. done is true after the client's close.
func (c *conn) control(ctx context.Context, f amqp.Frame) (done bool, err error) {
	if f.Type != amqp.FrameMethod {
		c.report(nil, 0, amqp.UnexpectedFrame("type %d, all octets = <<>>", f.Type))
		return false, nil
	}
	m, err := amqp.ParseMethod(f.Payload)
	if err != nil {
		c.report(nil, 0, err)
		return false, nil
	}
	switch m := m.(type) {
	case *amqp.ConnectionClose:
		c.log.Debug("client closes the connection", "code", m.ReplyCode, "text", m.ReplyText)
		c.releaseAll()
		c.out.method(0, &amqp.ConnectionCloseOk{})
		return true, nil
	case *amqp.ConnectionUpdateSecret:
		// A password is not asked for again while the connection lives.
		c.out.method(0, &amqp.ConnectionUpdateSecretOk{})
	case *amqp.ConnectionCloseOk:
		return true, nil
	default:
		c.report(nil, m.ID(), amqp.ChannelError("unexpected method in connection state running"))
	}
	return false, nil
}

// discard handles a frame while the connection closes. It is true for the end.
func (c *conn) discard(f amqp.Frame) bool {
	if f.Type != amqp.FrameMethod || f.Channel != 0 {
		return false
	}
	switch id, _, _ := amqp.CutMethod(f.Payload); id {
	case amqp.IDConnectionCloseOk:
		return true
	case amqp.IDConnectionClose:
		c.out.method(0, &amqp.ConnectionCloseOk{})
		return true
	}
	return false
}

// report acts on a method's error: it closes the channel or the connection.
// ch is nil where there is none. Safe from any goroutine that has ch.
func (c *conn) report(ch *channel, id amqp.MethodID, err error) {
	var e *amqp.Error
	if !errors.As(err, &e) {
		c.log.Error("method failed", "method", id.String(), "err", err)
		e = amqp.InternalError("%v", err)
	}
	if e.Class == 0 && id != 0 {
		e = e.At(id)
	}
	if e.Connection || ch == nil {
		c.fail(e)
	} else {
		ch.fail(e)
	}
}

// fail sends connection.close and discards what the client sends until it
// answers, for a bounded time. Safe from any goroutine.
func (c *conn) fail(e *amqp.Error) {
	c.out.mu.Lock()
	failed := c.state.CompareAndSwap(connRunning, connClosing)
	if failed {
		c.out.putMethod(0, e.ConnectionClose())
		c.out.mu.blocked = "" // The answer must be read.
		c.out.room.Broadcast()
	}
	c.out.mu.Unlock()
	if failed {
		c.log.Info("connection closed", "code", e.Code, "text", e.Text)
		c.socket.SetReadDeadline(time.Now().Add(closeTimeout))
	}
}

// abort ends the connection without a word: the socket is of no use.
func (c *conn) abort(err error) {
	text := err.Error()
	c.cause.CompareAndSwap(nil, &text)
	c.state.Store(connEnded)
	c.out.kill()
	c.socket.Close()
}

// releaseAll gives back what every channel holds and deletes the connection's
// exclusive queues. It waits until that is done, for a bounded time.
func (c *conn) releaseAll() {
	c.flush()
	done := make(chan struct{})
	wait := newCountdown(len(c.channels)+1, func() { close(done) })
	for _, ch := range c.channels {
		ch.await()
		ch.state.Store(channelClosed)
		ch.release(wait.arrive)
	}
	clear(c.channels)
	c.last = nil
	c.channelCount.Store(0)
	c.closedChannels.Store(0)
	wait.arrive()
	timeout := time.NewTimer(releaseTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		c.log.Warn("queues did not take messages back in time")
	}
	if !c.exclusive {
		return
	}
	c.exclusive = false
	// The connection's own context has ended or is about to.
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if err := c.front.deleteOwned(ctx, c.id); err != nil {
		c.log.Warn("exclusive queues not deleted", "err", err)
	}
}

// end frees everything. err is why the connection ends, nil for a close.
func (c *conn) end(err error) {
	c.releaseAll()
	c.state.Store(connEnded)
	c.pulse.stop()
	c.socket.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.out.end()
	<-c.writerDone
	c.out.kill()
	c.socket.Close()
	c.work.Wait()
	c.front.connections.remove(c)
	if cause := c.cause.Load(); cause != nil {
		err = errors.New(*cause)
	}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		c.log.Info("connection ended")
	default:
		c.log.Info("connection ended", "err", err)
	}
}

// connName is a connection's name, as RabbitMQ makes it.
func connName(socket net.Conn) string {
	return fmt.Sprintf("%s -> %s", socket.RemoteAddr(), socket.LocalAddr())
}
