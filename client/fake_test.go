package client_test

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// fakeBroker plays an AMQP broker that does with publishes what a test says.
type fakeBroker struct {
	t         testing.TB
	listener  net.Listener
	onPublish func(*fakeChannel, published)
	serve     func(*fakeConn) error
	wait      sync.WaitGroup

	mu struct {
		sync.Mutex
		conns  map[net.Conn]struct{}
		closed bool
	}
	properties amqp.Table
}

// published is a publish as it came.
type published struct {
	tag           uint64 // on its channel
	exchange, key string
	mandatory     bool
	sequence      int64
	producer      string
	id            string
	body          string
	properties    []byte
}

// fakeChannel is one channel of one connection; its methods are called by
// onPublish, or later.
type fakeChannel struct {
	conn *fakeConn
	id   uint16
	tag  uint64
	next published
	size int
}

type fakeConn struct {
	broker   *fakeBroker
	socket   net.Conn
	channels map[uint16]*fakeChannel
	mu       sync.Mutex // writes
}

// startFake starts one; onPublish is called by one goroutine a connection.
func startFake(t testing.TB, onPublish func(*fakeChannel, published)) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{t: t, listener: l, onPublish: onPublish, serve: (*fakeConn).play, properties: amqp.Table{}}
	f.mu.conns = make(map[net.Conn]struct{})
	f.wait.Go(f.accept)
	t.Cleanup(f.stop)
	return f
}

func (f *fakeBroker) url() string { return "amqp://guest:guest@" + f.listener.Addr().String() + "/" }

// stop ends it and all its connections.
func (f *fakeBroker) stop() {
	f.listener.Close()
	f.drop()
	f.mu.Lock()
	f.mu.closed = true
	f.mu.Unlock()
	f.drop()
	f.wait.Wait()
}

// drop closes all sockets.
func (f *fakeBroker) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for socket := range f.mu.conns {
		socket.Close()
	}
}

func (f *fakeBroker) accept() {
	for {
		socket, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		if f.mu.closed {
			socket.Close()
		}
		f.mu.conns[socket] = struct{}{}
		f.mu.Unlock()
		f.wait.Go(func() {
			c := &fakeConn{broker: f, socket: socket, channels: map[uint16]*fakeChannel{}}
			_ = f.serve(c) // The client has gone, or the test has cut it off.
			socket.Close()
			f.mu.Lock()
			delete(f.mu.conns, socket)
			f.mu.Unlock()
		})
	}
}

func (c *fakeConn) tell(channel uint16, m amqp.Method) { c.write(amqp.AppendMethod(nil, channel, m)) }

func (c *fakeConn) write(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.socket.Write(frame) // What fails here fails where it is read.
}

func (c *fakeConn) start() {
	c.tell(0, &amqp.ConnectionStart{VersionMinor: 9, ServerProperties: c.broker.properties, Mechanisms: "PLAIN", Locales: "en_US"})
}

// play serves a connection and hands publishes to onPublish.
func (c *fakeConn) play() error {
	reader := amqp.NewReader(c.socket, 131072)
	if err := reader.ProtocolHeader(); err != nil {
		return err
	}
	c.start()
	for {
		frame, err := reader.Next()
		if err != nil {
			return err
		}
		switch frame.Type {
		case amqp.FrameMethod:
			if err := c.method(frame); err != nil {
				return err
			}
		case amqp.FrameHeader:
			if err := c.channels[frame.Channel].header(frame.Payload); err != nil {
				return err
			}
		case amqp.FrameBody:
			if ch := c.channels[frame.Channel]; ch != nil {
				ch.content(frame.Payload)
			}
		}
	}
}

// answers are what methods get whose arguments don't matter here.
var answers = map[amqp.MethodID]amqp.Method{
	amqp.IDConnectionStartOk: &amqp.ConnectionTune{ChannelMax: 100, FrameMax: 131072},
	amqp.IDConnectionTuneOk:  nil,
	amqp.IDConnectionOpen:    &amqp.ConnectionOpenOk{},
	amqp.IDConnectionClose:   &amqp.ConnectionCloseOk{},
	amqp.IDConnectionCloseOk: nil,
	amqp.IDChannelCloseOk:    nil,
	amqp.IDConfirmSelect:     &amqp.ConfirmSelectOk{},
}

func (c *fakeConn) method(frame amqp.Frame) error {
	id, arguments, err := amqp.CutMethod(frame.Payload)
	if err != nil {
		return err
	}
	switch id {
	case amqp.IDChannelOpen:
		c.channels[frame.Channel] = &fakeChannel{conn: c, id: frame.Channel}
		c.tell(frame.Channel, &amqp.ChannelOpenOk{})
	case amqp.IDChannelClose:
		delete(c.channels, frame.Channel)
		c.tell(frame.Channel, &amqp.ChannelCloseOk{})
	case amqp.IDBasicPublish:
		ch := c.channels[frame.Channel]
		if ch == nil {
			return nil // Closed while this was on its way.
		}
		var m amqp.PublishView
		if err := m.Parse(arguments); err != nil {
			return err
		}
		ch.tag++
		ch.next = published{tag: ch.tag, exchange: string(m.Exchange), key: string(m.RoutingKey), mandatory: m.Mandatory}
	default:
		answer, known := answers[id]
		if !known {
			return fmt.Errorf("unexpected method %v", id)
		}
		if answer != nil {
			c.tell(frame.Channel, answer)
		}
	}
	return nil
}

func (ch *fakeChannel) header(payload []byte) error {
	if ch == nil {
		return nil
	}
	_, size, properties, err := amqp.ParseHeader(payload)
	if err != nil {
		return err
	}
	raw := amqp.RawProperties(properties)
	if id, has := raw.MessageID(); has {
		ch.next.id = string(id)
	}
	if headers, has := raw.Headers(); has {
		if f, has := headers.Lookup("x-producer-sequence"); has {
			ch.next.sequence, _ = f.Integer()
		}
		if f, has := headers.Lookup("x-producer"); has {
			name, _ := f.Text()
			ch.next.producer = string(name)
		}
	}
	ch.next.properties = append([]byte(nil), properties...)
	if ch.size = int(size); size == 0 {
		ch.conn.broker.onPublish(ch, ch.next)
	}
	return nil
}

func (ch *fakeChannel) content(body []byte) {
	ch.next.body += string(body)
	if len(ch.next.body) == ch.size {
		ch.conn.broker.onPublish(ch, ch.next)
	}
}

func (ch *fakeChannel) ack(tag uint64)  { ch.conn.write(amqp.AppendAck(nil, ch.id, tag, false)) }
func (ch *fakeChannel) nack(tag uint64) { ch.conn.write(amqp.AppendNack(nil, ch.id, tag, false)) }

// giveBack returns a message as unroutable.
func (ch *fakeChannel) giveBack(p published) {
	frames := amqp.AppendReturn(nil, ch.id, 312, "NO_ROUTE", []byte(p.exchange), []byte(p.key))
	ch.conn.write(amqp.AppendContent(frames, ch.id, 131072, p.properties, []byte(p.body)))
}

// drop closes the connection's socket without a word.
func (ch *fakeChannel) drop() { ch.conn.socket.Close() }
