package driver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// Lean is a Driver that costs a fifth of AMQP091: it speaks AMQP through our
// own codec, reuses its buffers, writes publishes together until the window
// is full, and acks together once the socket has no further delivery. On a
// small machine the load generator otherwise takes the cores from the broker
// that it measures. It sends the broker the same methods.
type Lean struct{}

const (
	// leanChannel is the one channel of a lean connection.
	leanChannel = 1
	// leanBuffer is how many bytes are written together at most, about.
	leanBuffer = 32 << 10
	// leanPatience bounds the handshake, each call and the goodbye.
	leanPatience = 10 * time.Second
)

// leanConn is a connection with a channel. Its reading goroutine starts with
// listen; until then the caller reads.
type leanConn struct {
	conn     net.Conn
	reader   *amqp.Reader
	frameMax uint32
	failed   chan error // capacity 1
	closing  atomic.Bool
	reading  sync.WaitGroup

	// mu guards out: publishes, acks and the goodbye come from several
	// goroutines. Writing happens under it, so that the bytes keep their order.
	mu  sync.Mutex
	out []byte
}

func dialLean(url string) (*leanConn, error) {
	uri, err := amqp091.ParseURI(url)
	if err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	if uri.Scheme != "amqp" {
		return nil, fmt.Errorf("driver: the lean driver speaks amqp only, not %s", uri.Scheme)
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)), leanPatience)
	if err != nil {
		return nil, fmt.Errorf("driver: connect: %w", err)
	}
	c := &leanConn{conn: conn, reader: amqp.NewReader(conn, 128<<10), failed: make(chan error, 1)}
	err = errors.Join(conn.SetDeadline(time.Now().Add(leanPatience)), c.handshake(uri), conn.SetDeadline(time.Time{}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("driver: connect: %w", err), conn.Close())
	}
	return c, nil
}

// handshake opens connection and channel (AMQP 0-9-1 section 2.2.4).
func (c *leanConn) handshake(uri amqp091.URI) error {
	c.out = append(c.out, amqp.ProtocolHeader...)
	if err := c.flush(); err != nil {
		return err
	}
	if _, err := expect[*amqp.ConnectionStart](c); err != nil {
		return err
	}
	c.method(0, &amqp.ConnectionStartOk{
		ClientProperties: amqp.Table{"product": "mirrormq bench", "capabilities": amqp.Table{
			"basic.nack": true, "publisher_confirms": true, "authentication_failure_close": true,
		}},
		Mechanism: "PLAIN", Response: "\x00" + uri.Username + "\x00" + uri.Password, Locale: "en_US",
	})
	tune, err := call[*amqp.ConnectionTune](c)
	if err != nil {
		return err
	}
	c.frameMax = tune.FrameMax
	c.reader.SetMaxFrame(tune.FrameMax)
	// Heartbeat 0: a run is short and notices a dead broker by its silence.
	c.method(0, &amqp.ConnectionTuneOk{ChannelMax: tune.ChannelMax, FrameMax: tune.FrameMax})
	c.method(0, &amqp.ConnectionOpen{VirtualHost: uri.Vhost})
	if _, err := call[*amqp.ConnectionOpenOk](c); err != nil {
		return err
	}
	c.method(leanChannel, &amqp.ChannelOpen{})
	_, err = call[*amqp.ChannelOpenOk](c)
	return err
}

// method buffers a method.
// REQUIRES: mu held, or no other goroutine knows the connection yet.
func (c *leanConn) method(channel uint16, m amqp.Method) {
	c.out = amqp.AppendMethod(c.out, channel, m)
}

// flush writes what is buffered. The same is required.
func (c *leanConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// call flushes and expects the answer.
func call[M amqp.Method](c *leanConn) (M, error) {
	if err := c.flush(); err != nil {
		var none M
		return none, err
	}
	return expect[M](c)
}

// expect reads the next method, which must be an M.
func expect[M amqp.Method](c *leanConn) (M, error) {
	var none M
	for {
		frame, err := c.reader.Next()
		if err != nil {
			return none, err
		}
		if frame.Type == amqp.FrameHeartbeat {
			continue
		}
		method, err := amqp.ParseMethod(frame.Payload)
		if err != nil {
			return none, err
		}
		if wanted, ok := method.(M); ok {
			return wanted, nil
		}
		return none, unexpected(method)
	}
}

// unexpected makes the broker's reason an error, if it gives one.
func unexpected(m amqp.Method) error {
	switch m := m.(type) {
	case *amqp.ConnectionClose:
		return fmt.Errorf("driver: the broker closed the connection: %d %s", m.ReplyCode, m.ReplyText)
	case *amqp.ChannelClose:
		return fmt.Errorf("driver: the broker closed the channel: %d %s", m.ReplyCode, m.ReplyText)
	case *amqp.BasicCancel:
		return errors.New("driver: the broker cancelled the consumer")
	default:
		return fmt.Errorf("driver: unexpected method %T", m)
	}
}

// listen hands every frame to handle on a goroutine, until close.
func (c *leanConn) listen(handle func(amqp.Frame) error) {
	c.reading.Go(func() {
		err := c.readAll(handle)
		if err != nil && !c.closing.Load() {
			c.failed <- err
		}
	})
}

func (c *leanConn) readAll(handle func(amqp.Frame) error) error {
	for {
		frame, err := c.reader.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("driver: the broker closed the socket")
		}
		if err != nil {
			return fmt.Errorf("driver: read: %w", err)
		}
		if frame.Type == amqp.FrameHeartbeat {
			continue
		}
		if c.closing.Load() && frame.Type == amqp.FrameMethod {
			if id, _, err := amqp.CutMethod(frame.Payload); err == nil && id == amqp.IDConnectionCloseOk {
				return nil
			}
		}
		if err := handle(frame); err != nil {
			return err
		}
	}
}

// refuse is what handle returns for a method that it has no use for.
func refuse(payload []byte) error {
	method, err := amqp.ParseMethod(payload)
	if err != nil {
		return err
	}
	return unexpected(method)
}

// Failed is part of Publisher and Consumer.
func (c *leanConn) Failed() <-chan error { return c.failed }

// Close says goodbye, waits for the answer and joins the reading goroutine.
func (c *leanConn) Close() error {
	if c.closing.Swap(true) {
		return nil
	}
	c.mu.Lock()
	c.method(0, &amqp.ConnectionClose{ReplyCode: amqp.CodeReplySuccess, ReplyText: "bye"})
	// A broker that has gone can't answer: Failed has told that already.
	_ = c.flush()
	c.mu.Unlock()
	_ = c.conn.SetReadDeadline(time.Now().Add(leanPatience))
	c.reading.Wait()
	return c.conn.Close()
}
