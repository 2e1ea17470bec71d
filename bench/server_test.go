package bench

import (
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// serverFrameMax makes a body of 5 KiB take two frames.
const serverFrameMax = 4096

// server is the smallest AMQP broker that a run can use: queues in memory,
// messages pushed to whoever consumes; it ignores acks.
type server struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu        sync.Mutex
	consumers map[string][]*serverConn
	waiting   map[string][][]byte
	conns     []net.Conn
}

type serverConn struct {
	server *server
	conn   net.Conn
	mu     sync.Mutex // guards writes
	queue  string     // of the publish whose content comes
	size   uint64
	body   []byte
	tag    uint64 // publishes seen
	out    uint64 // deliveries sent
}

func startServer(t *testing.T) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: listener, consumers: map[string][]*serverConn{}, waiting: map[string][][]byte{}}
	s.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.serving.Go(func() { (&serverConn{server: s, conn: conn}).serve() })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.dropAll()
		s.serving.Wait()
	})
	return s
}

func (s *server) url() string { return "amqp://guest:guest@" + s.listener.Addr().String() + "/" }

// dropAll closes every connection, as a broker does that dies.
func (s *server) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
}

func (c *serverConn) send(channel uint16, m amqp.Method) {
	c.write(amqp.AppendMethod(nil, channel, m))
}

func (c *serverConn) write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.conn.Write(b) // the client is gone: reading notices
}

func (c *serverConn) serve() {
	defer c.conn.Close()
	reader := amqp.NewReader(c.conn, serverFrameMax)
	if reader.ProtocolHeader() != nil {
		return
	}
	c.send(0, &amqp.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN", Locales: "en_US"})
	for {
		frame, err := reader.Next()
		if err != nil {
			return
		}
		switch frame.Type {
		case amqp.FrameMethod:
			method, err := amqp.ParseMethod(frame.Payload)
			if err != nil || !c.answer(frame.Channel, method) {
				return
			}
		case amqp.FrameHeader:
			_, c.size, _, _ = amqp.ParseHeader(frame.Payload)
			c.body = nil
		case amqp.FrameBody:
			c.body = append(c.body, frame.Payload...)
			if uint64(len(c.body)) == c.size {
				c.published(frame.Channel)
			}
		}
	}
}

// answer says whether the connection goes on.
func (c *serverConn) answer(channel uint16, method amqp.Method) bool {
	s := c.server
	switch m := method.(type) {
	case *amqp.ConnectionStartOk:
		c.send(0, &amqp.ConnectionTune{ChannelMax: 2047, FrameMax: serverFrameMax, Heartbeat: 60})
	case *amqp.ConnectionOpen:
		c.send(0, &amqp.ConnectionOpenOk{})
	case *amqp.ConnectionClose:
		s.forget(c)
		c.send(0, &amqp.ConnectionCloseOk{})
		return false
	case *amqp.ChannelOpen:
		c.send(channel, &amqp.ChannelOpenOk{})
	case *amqp.ConfirmSelect:
		c.send(channel, &amqp.ConfirmSelectOk{})
	case *amqp.QueueDeclare:
		c.send(channel, &amqp.QueueDeclareOk{Queue: m.Queue})
	case *amqp.QueueDelete:
		c.send(channel, &amqp.QueueDeleteOk{})
	case *amqp.BasicQos:
		c.send(channel, &amqp.BasicQosOk{})
	case *amqp.BasicConsume:
		c.send(channel, &amqp.BasicConsumeOk{ConsumerTag: m.ConsumerTag})
		s.attach(m.Queue, m.ConsumerTag, c)
	case *amqp.BasicPublish:
		c.queue = m.RoutingKey
	}
	return true
}

func (s *server) attach(queue, tag string, c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.queue = tag
	s.consumers[queue] = append(s.consumers[queue], c)
	for _, body := range s.waiting[queue] {
		s.deliver(queue, body)
	}
	delete(s.waiting, queue)
}

func (s *server) forget(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for queue, consumers := range s.consumers {
		s.consumers[queue] = slices.DeleteFunc(consumers, func(other *serverConn) bool { return other == c })
	}
}

// deliver hands a message to the queue's consumers in turn.
// REQUIRES: mu held.
func (s *server) deliver(queue string, body []byte) {
	consumers := s.consumers[queue]
	if len(consumers) == 0 {
		s.waiting[queue] = append(s.waiting[queue], body)
		return
	}
	c := consumers[0]
	s.consumers[queue] = append(slices.Clone(consumers[1:]), c)
	c.out++
	b := amqp.AppendDeliver(nil, 1, c.queue, c.out, false, nil, []byte(queue))
	c.write(amqp.AppendContent(b, 1, serverFrameMax, (&amqp.Properties{DeliveryMode: 2}).Append(nil), body))
}

func (c *serverConn) published(channel uint16) {
	c.server.mu.Lock()
	c.server.deliver(c.queue, c.body)
	c.server.mu.Unlock()
	c.tag++
	c.write(amqp.AppendAck(nil, channel, c.tag, false))
}
