package peer

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// nullBuffer bounds what waits for a client that reads slowly, but for one
// message.
const nullBuffer = 1 << 20

// nullConn is a client's connection. All but out belongs to the goroutine that
// reads.
type nullConn struct {
	broker *nullBroker
	conn   net.Conn
	reader *amqp.Reader

	consumer *nullConsumer
	prefetch uint16

	// The publish whose content is still to come.
	exchange, key, properties, body []byte
	missing                         uint64
	confirming                      bool
	published, confirmed            uint64

	out struct {
		sync.Mutex
		changed sync.Cond
		bytes   []byte
		closed  bool
	}
}

func newNullConn(b *nullBroker, conn net.Conn) *nullConn {
	c := &nullConn{broker: b, conn: conn, reader: amqp.NewReader(conn, nullFrameMax)}
	c.out.changed.L = &c.out
	return c
}

// serve ends with the connection, or when ctx does.
func (c *nullConn) serve(ctx context.Context) {
	cut := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer cut()
	var writing sync.WaitGroup
	writing.Go(c.write)
	// Whatever ends it, the client sees a closed socket: a null broker needs no
	// better errors.
	_ = c.read()
	if c.consumer != nil {
		c.consumer.queue.detach(c.consumer)
	}
	c.out.Lock()
	c.out.closed = true
	c.out.changed.Broadcast()
	c.out.Unlock()
	writing.Wait()
	_ = c.conn.Close()
}

// write writes what append leaves, until the connection is closed and nothing
// is left.
func (c *nullConn) write() {
	var spare []byte
	for {
		c.out.Lock()
		for len(c.out.bytes) == 0 && !c.out.closed {
			c.out.changed.Wait()
		}
		bytes := c.out.bytes
		c.out.bytes = spare[:0]
		c.out.changed.Broadcast()
		c.out.Unlock()
		if len(bytes) == 0 {
			return
		}
		// A client that doesn't read for so long is not one of ours any more.
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := c.conn.Write(bytes); err != nil {
			_ = c.conn.Close() // reading notices
		}
		spare = bytes
	}
}

// append lets encode append to what is to be written, once there is room.
func (c *nullConn) append(encode func([]byte) []byte) {
	c.out.Lock()
	defer c.out.Unlock()
	for len(c.out.bytes) > nullBuffer && !c.out.closed {
		c.out.changed.Wait()
	}
	if len(c.out.bytes) == 0 {
		c.out.changed.Broadcast()
	}
	c.out.bytes = encode(c.out.bytes)
}

func (c *nullConn) send(channel uint16, m amqp.Method) {
	c.append(func(b []byte) []byte { return amqp.AppendMethod(b, channel, m) })
}

// deliver is called with the consumer's queue locked, so that tags go out in
// their order.
func (c *nullConn) deliver(to *nullConsumer, exchange, key, properties, body []byte) {
	c.append(func(b []byte) []byte {
		b = amqp.AppendDeliver(b, to.channel, to.tag, to.handed, false, exchange, key)
		return amqp.AppendContent(b, to.channel, nullFrameMax, properties, body)
	})
}

func (c *nullConn) read() error {
	if err := c.reader.ProtocolHeader(); err != nil {
		return err
	}
	c.send(0, &amqp.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN AMQPLAIN", Locales: "en_US"})
	for {
		frame, err := c.reader.Next()
		if err != nil {
			return err
		}
		switch frame.Type {
		case amqp.FrameMethod:
			err = c.method(frame)
		case amqp.FrameHeader:
			err = c.header(frame)
		case amqp.FrameBody:
			err = c.content(frame)
		}
		if err != nil {
			return err
		}
		if c.confirming && c.published > c.confirmed && !c.reader.Buffered() {
			c.confirmed = c.published
			c.append(func(b []byte) []byte { return amqp.AppendAck(b, frame.Channel, c.confirmed, true) })
		}
	}
}

// method takes the hot ones without allocating.
func (c *nullConn) method(frame amqp.Frame) error {
	id, arguments, err := amqp.CutMethod(frame.Payload)
	if err != nil {
		return err
	}
	switch id {
	case amqp.IDBasicPublish:
		var publish amqp.PublishView
		if err := publish.Parse(arguments); err != nil {
			return err
		}
		c.exchange = append(c.exchange[:0], publish.Exchange...)
		c.key = append(c.key[:0], publish.RoutingKey...)
		return nil
	case amqp.IDBasicAck:
		var ack amqp.AckView
		if err := ack.Parse(arguments); err != nil || c.consumer == nil {
			return err
		}
		c.consumer.queue.settle(c.consumer, ack.DeliveryTag, ack.Multiple)
		return nil
	}
	method, err := amqp.ParseMethod(frame.Payload)
	if err != nil {
		return err
	}
	return c.answer(frame.Channel, method)
}

// answer does what happens a few times a connection.
func (c *nullConn) answer(channel uint16, method amqp.Method) error {
	switch m := method.(type) {
	case *amqp.ConnectionStartOk:
		c.send(0, &amqp.ConnectionTune{ChannelMax: 2047, FrameMax: nullFrameMax, Heartbeat: 60})
	case *amqp.ConnectionTuneOk:
	case *amqp.ConnectionOpen:
		c.send(0, &amqp.ConnectionOpenOk{})
	case *amqp.ConnectionClose:
		c.send(0, &amqp.ConnectionCloseOk{})
		return net.ErrClosed
	case *amqp.ChannelOpen:
		c.send(channel, &amqp.ChannelOpenOk{})
	case *amqp.ChannelClose:
		c.send(channel, &amqp.ChannelCloseOk{})
	case *amqp.ConfirmSelect:
		c.confirming = true
		c.send(channel, &amqp.ConfirmSelectOk{})
	case *amqp.ExchangeDeclare:
		c.send(channel, &amqp.ExchangeDeclareOk{})
	case *amqp.ExchangeDelete:
		c.send(channel, &amqp.ExchangeDeleteOk{})
	case *amqp.QueueDeclare:
		c.send(channel, &amqp.QueueDeclareOk{Queue: m.Queue})
	case *amqp.QueueBind:
		c.broker.bind(m.Exchange, c.broker.queue(m.Queue))
		c.send(channel, &amqp.QueueBindOk{})
	case *amqp.QueueDelete:
		c.send(channel, &amqp.QueueDeleteOk{})
	case *amqp.BasicQos:
		c.prefetch = m.PrefetchCount
		c.send(channel, &amqp.BasicQosOk{})
	case *amqp.BasicConsume:
		return c.consume(channel, m)
	default:
		return fmt.Errorf("peer: the null broker knows no %T", m)
	}
	return nil
}

func (c *nullConn) consume(channel uint16, m *amqp.BasicConsume) error {
	if c.consumer != nil {
		return fmt.Errorf("peer: the null broker knows one consumer a connection")
	}
	c.consumer = &nullConsumer{
		queue: c.broker.queue(m.Queue), conn: c, channel: channel, tag: m.ConsumerTag, prefetch: uint64(c.prefetch),
	}
	if c.consumer.tag == "" {
		c.consumer.tag = "null"
	}
	if m.NoAck {
		c.consumer.prefetch = 0
	}
	c.send(channel, &amqp.BasicConsumeOk{ConsumerTag: c.consumer.tag})
	c.consumer.queue.attach(c.consumer)
	return nil
}

func (c *nullConn) header(frame amqp.Frame) error {
	_, size, properties, err := amqp.ParseHeader(frame.Payload)
	if err != nil {
		return err
	}
	c.properties = append(c.properties[:0], properties...)
	c.missing, c.body = size, c.body[:0]
	if size == 0 {
		c.hand(nil)
	}
	return nil
}

func (c *nullConn) content(frame amqp.Frame) error {
	size := uint64(len(frame.Payload))
	if size > c.missing {
		return fmt.Errorf("peer: a body longer than its header says")
	}
	c.missing -= size
	if c.missing == 0 && len(c.body) == 0 {
		c.hand(frame.Payload) // of one frame: no copy
		return nil
	}
	c.body = append(c.body, frame.Payload...)
	if c.missing == 0 {
		c.hand(c.body)
	}
	return nil
}

func (c *nullConn) hand(body []byte) {
	for _, q := range c.broker.route(string(c.exchange), string(c.key)) {
		q.hand(c.exchange, c.key, c.properties, body)
	}
	c.published++
}
