package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// startBroker starts a real broker in a directory of its own, without HTTP, and
// returns its AMQP address.
func startBroker(t testing.TB, change ...func(*Config)) (*Broker, string) {
	t.Helper()
	c := Config{Name: "b1", Data: t.TempDir(), AMQP: "127.0.0.1:0", HTTP: "-", Fsync: "never"}
	for _, f := range change {
		f(&c)
	}
	b, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return b, b.AMQPAddr().String()
}

// rawClient speaks AMQP frame by frame, so that a test can say what no client
// library would, and see exactly what comes back in which order.
type rawClient struct {
	t      testing.TB
	socket net.Conn
	reader *amqp.Reader
}

// dialRaw connects and says nothing.
func dialRaw(t testing.TB, address string) *rawClient {
	t.Helper()
	socket, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &rawClient{t, socket, amqp.NewReader(socket, 0)}
}

// rawOptions are what a client says in its handshake; zero values mean the
// usual.
type rawOptions struct {
	user, password, vhost string
	mechanism, response   string
	capabilities          amqp.Table
	channelMax            uint16
	frameMax              uint32
	heartbeat             uint16
}

// login goes through the handshake up to tune-ok.
func (c *rawClient) login(o rawOptions) {
	c.t.Helper()
	c.write([]byte(amqp.ProtocolHeader))
	receive[*amqp.ConnectionStart](c, 0)
	if o.user == "" {
		o.user, o.password = "guest", "guest"
	}
	if o.mechanism == "" {
		o.mechanism, o.response = "PLAIN", "\x00"+o.user+"\x00"+o.password
	}
	c.send(0, &amqp.ConnectionStartOk{
		ClientProperties: amqp.Table{"capabilities": o.capabilities},
		Mechanism:        o.mechanism, Response: o.response, Locale: "en_US",
	})
}

// openRaw returns a client with an open connection. Its capabilities are all
// that there are unless o says otherwise.
func openRaw(t testing.TB, address string, o rawOptions) *rawClient {
	t.Helper()
	c := dialRaw(t, address)
	if o.capabilities == nil {
		o.capabilities = amqp.Table{
			"consumer_cancel_notify": true, "connection.blocked": true, "authentication_failure_close": true,
		}
	}
	c.login(o)
	tune := receive[*amqp.ConnectionTune](c, 0)
	ok := &amqp.ConnectionTuneOk{ChannelMax: o.channelMax, FrameMax: o.frameMax, Heartbeat: o.heartbeat}
	if ok.ChannelMax == 0 {
		ok.ChannelMax = tune.ChannelMax
	}
	if ok.FrameMax == 0 {
		ok.FrameMax = tune.FrameMax
	}
	c.send(0, ok)
	if o.vhost == "" {
		o.vhost = "/"
	}
	c.send(0, &amqp.ConnectionOpen{VirtualHost: o.vhost})
	receive[*amqp.ConnectionOpenOk](c, 0)
	return c
}

// openChannelRaw returns a client with channel 1 open.
func openChannelRaw(t testing.TB, address string) *rawClient {
	t.Helper()
	c := openRaw(t, address, rawOptions{})
	c.openChannel(1)
	return c
}

func (c *rawClient) openChannel(channel uint16) {
	c.t.Helper()
	c.send(channel, &amqp.ChannelOpen{})
	receive[*amqp.ChannelOpenOk](c, channel)
}

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.socket.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) send(channel uint16, methods ...amqp.Method) {
	c.t.Helper()
	var b []byte
	for _, m := range methods {
		b = amqp.AppendMethod(b, channel, m)
	}
	c.write(b)
}

// publish sends a message on channel 1.
func (c *rawClient) publish(exchange, key, body string, change ...func(*amqp.BasicPublish, *amqp.Properties)) {
	c.t.Helper()
	m, p := &amqp.BasicPublish{Exchange: exchange, RoutingKey: key}, &amqp.Properties{}
	for _, f := range change {
		f(m, p)
	}
	b := amqp.AppendMethod(nil, 1, m)
	c.write(amqp.AppendContent(b, 1, 4096, p.Append(nil), []byte(body)))
}

func mandatory(m *amqp.BasicPublish, _ *amqp.Properties) { m.Mandatory = true }

// frame returns the next frame that is not a heartbeat.
func (c *rawClient) frame() amqp.Frame {
	c.t.Helper()
	for {
		f, err := c.reader.Next()
		if err != nil {
			c.t.Fatalf("no frame: %v", err)
		}
		if f.Type != amqp.FrameHeartbeat {
			return f
		}
	}
}

// method returns the next frame, which must be a method.
func (c *rawClient) method() (uint16, amqp.Method) {
	c.t.Helper()
	f := c.frame()
	if f.Type != amqp.FrameMethod {
		c.t.Fatalf("frame of type %d, want a method", f.Type)
	}
	m, err := amqp.ParseMethod(f.Payload)
	if err != nil {
		c.t.Fatal(err)
	}
	return f.Channel, m
}

// receive returns the next frame, which must be the method M on the channel.
func receive[M amqp.Method](c *rawClient, channel uint16) M {
	c.t.Helper()
	on, m := c.method()
	want, ok := m.(M)
	if !ok || on != channel {
		c.t.Fatalf("channel %d: %T %+v, want %v on %d", on, m, m, reflect.TypeFor[M](), channel)
	}
	return want
}

// call sends a method on channel 1 and returns its answer.
func call[M amqp.Method](c *rawClient, m amqp.Method) M {
	c.t.Helper()
	c.send(1, m)
	return receive[M](c, 1)
}

// content returns the content that comes next on channel 1.
func (c *rawClient) content() (amqp.Properties, string) {
	c.t.Helper()
	f := c.frame()
	if f.Type != amqp.FrameHeader {
		c.t.Fatalf("frame of type %d, want a content header", f.Type)
	}
	_, size, raw, err := amqp.ParseHeader(f.Payload)
	if err != nil {
		c.t.Fatal(err)
	}
	var p amqp.Properties
	if err := p.Parse(raw); err != nil {
		c.t.Fatal(err)
	}
	var body []byte
	for uint64(len(body)) < size {
		f := c.frame()
		if f.Type != amqp.FrameBody {
			c.t.Fatalf("frame of type %d, want a body", f.Type)
		}
		body = append(body, f.Payload...)
	}
	return p, string(body)
}

// delivery returns the basic.deliver that comes next, with its body.
func (c *rawClient) delivery() (*amqp.BasicDeliver, string) {
	c.t.Helper()
	d := receive[*amqp.BasicDeliver](c, 1)
	_, body := c.content()
	return d, body
}

// get gets a message that must be there.
func (c *rawClient) get(queue string) (*amqp.BasicGetOk, amqp.Properties, string) {
	c.t.Helper()
	ok := call[*amqp.BasicGetOk](c, &amqp.BasicGet{Queue: queue})
	p, body := c.content()
	return ok, p, body
}

// silent proves that nothing came: the answer to a method that changes nothing
// is the next frame on channel 1.
func (c *rawClient) silent() {
	c.t.Helper()
	call[*amqp.ChannelFlowOk](c, &amqp.ChannelFlow{Active: true})
}

// channelError expects channel.close with code and text, and answers it.
func (c *rawClient) channelError(code uint16, text string) {
	c.t.Helper()
	m := receive[*amqp.ChannelClose](c, 1)
	if m.ReplyCode != code || m.ReplyText != text {
		c.t.Fatalf("channel closed with %d %q, want %d %q", m.ReplyCode, m.ReplyText, code, text)
	}
	c.send(1, &amqp.ChannelCloseOk{})
}

// connectionError expects connection.close with code and text, answers it, and
// expects the end of the socket.
func (c *rawClient) connectionError(code uint16, text string) {
	c.t.Helper()
	m := receive[*amqp.ConnectionClose](c, 0)
	if m.ReplyCode != code || m.ReplyText != text {
		c.t.Fatalf("connection closed with %d %q, want %d %q", m.ReplyCode, m.ReplyText, code, text)
	}
	c.send(0, &amqp.ConnectionCloseOk{})
	c.ended()
}

// ended expects the end of the socket.
func (c *rawClient) ended() {
	c.t.Helper()
	for {
		f, err := c.reader.Next()
		switch {
		case err == nil && f.Type == amqp.FrameHeartbeat:
		case err == nil:
			c.t.Fatalf("a frame of type %d on channel %d, want the end", f.Type, f.Channel)
		case errors.Is(err, io.EOF):
			return
		default:
			var network net.Error
			if errors.As(err, &network) && network.Timeout() {
				c.t.Fatal("the socket stays open")
			}
			return
		}
	}
}

// declare declares a queue that goes with the connection.
func (c *rawClient) declare(queue string, change ...func(*amqp.QueueDeclare)) {
	c.t.Helper()
	m := &amqp.QueueDeclare{Queue: queue, Exclusive: true}
	for _, f := range change {
		f(m)
	}
	call[*amqp.QueueDeclareOk](c, m)
}

// durable makes a declared queue a replicated one.
func durableQueue(m *amqp.QueueDeclare) { m.Exclusive, m.Durable = false, true }

// noDeadline lets a benchmark take as long as it takes.
var noDeadline time.Time
