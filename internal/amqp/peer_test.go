package amqp

import (
	"fmt"
	"net"
)

// peer is a scripted server for one connection of a client under test.
type peer struct {
	conn       net.Conn
	reader     *Reader
	frameMax   uint32
	properties Table
	heard      chan Method  // what the client said, but for openings and closings
	published  chan content // and what it published

	tags uint64
	kept content // for the next basic.get
}

// content is a published message.
type content struct {
	exchange, key string
	mandatory     bool
	raw           []byte // properties
	properties    Properties
	body          []byte
}

// serve speaks until the client has closed the connection.
func (p *peer) serve() error {
	defer p.conn.Close()
	defer close(p.heard)
	defer close(p.published)
	if err := p.reader.ProtocolHeader(); err != nil {
		return err
	}
	if err := p.send(0, &ConnectionStart{VersionMinor: 9, ServerProperties: p.properties, Mechanisms: "PLAIN", Locales: "en_US"}); err != nil {
		return err
	}
	for {
		frame, err := p.reader.Next()
		if err != nil {
			return err
		}
		if frame.Type == FrameHeartbeat {
			continue
		}
		m, err := ParseMethod(frame.Payload)
		if err != nil {
			return err
		}
		if publish, ok := m.(*BasicPublish); ok {
			err = p.publish(frame.Channel, publish)
		} else {
			err = p.answer(frame.Channel, m)
		}
		if err != nil {
			return err
		}
		if m.ID() == IDConnectionClose {
			return nil
		}
	}
}

func (p *peer) send(channel uint16, m Method) error {
	_, err := p.conn.Write(AppendMethod(nil, channel, m))
	return err
}

func (p *peer) answer(channel uint16, m Method) error {
	var reply Method
	switch m := m.(type) {
	case *ConnectionStartOk:
		reply = &ConnectionTune{ChannelMax: 10, FrameMax: p.frameMax}
	case *ConnectionTuneOk:
		p.reader.SetMaxFrame(m.FrameMax)
		if m.FrameMax != p.frameMax {
			return fmt.Errorf("tuned to %d", m.FrameMax)
		}
		return nil
	case *ConnectionOpen:
		return p.send(0, &ConnectionOpenOk{})
	case *ConnectionClose:
		return p.send(0, &ConnectionCloseOk{})
	case *ChannelOpen:
		return p.send(channel, &ChannelOpenOk{})
	case *ChannelClose:
		return p.send(channel, &ChannelCloseOk{})
	case *QueueDeclare:
		reply = &QueueDeclareOk{Queue: m.Queue, MessageCount: 7, ConsumerCount: 8}
	case *ExchangeDeclare:
		reply = &ExchangeDeclareOk{}
	case *QueueBind:
		reply = &QueueBindOk{}
	case *ExchangeBind:
		reply = &ExchangeBindOk{}
	case *BasicQos:
		reply = &BasicQosOk{}
	case *BasicConsume:
		reply = &BasicConsumeOk{ConsumerTag: m.ConsumerTag}
	case *ConfirmSelect:
		reply = &ConfirmSelectOk{}
	case *BasicGet:
		p.heard <- m
		out := AppendGetOk(nil, channel, p.tags, false, []byte(p.kept.exchange), []byte(p.kept.key), 9)
		_, err := p.conn.Write(AppendContent(out, channel, p.frameMax, p.kept.raw, p.kept.body))
		return err
	}
	p.heard <- m
	if reply == nil {
		return nil
	}
	return p.send(channel, reply)
}

// publish reads the content, does with it what the key says, and confirms.
func (p *peer) publish(channel uint16, m *BasicPublish) error {
	c := content{exchange: m.Exchange, key: m.RoutingKey, mandatory: m.Mandatory}
	frame, err := p.reader.Next()
	if err != nil {
		return err
	}
	_, size, properties, err := ParseHeader(frame.Payload)
	if err != nil {
		return err
	}
	c.raw = append(c.raw, properties...)
	if err := c.properties.Parse(c.raw); err != nil {
		return err
	}
	for uint64(len(c.body)) < size {
		frame, err := p.reader.Next()
		if err != nil {
			return err
		}
		if frame.Type != FrameBody || frame.Channel != channel {
			return fmt.Errorf("frame of type %d within a content", frame.Type)
		}
		c.body = append(c.body, frame.Payload...)
	}
	p.published <- c
	p.tags++
	raw := c.raw
	if p.tags%2 == 0 {
		raw = c.properties.Append(nil) // as a feature would that decodes them
	}
	var out []byte
	switch c.key {
	case "deliver":
		out = AppendDeliver(out, channel, "tag", p.tags, p.tags%2 == 0, []byte(c.exchange), []byte(c.key))
		out = AppendContent(out, channel, p.frameMax, raw, c.body)
	case "return":
		out = AppendReturn(out, channel, CodeNoRoute, "NO_ROUTE", []byte(c.exchange), []byte(c.key))
		out = AppendContent(out, channel, p.frameMax, raw, c.body)
	case "get":
		p.kept = c
	}
	out = AppendHeartbeat(out)
	if p.tags%3 == 0 {
		out = AppendNack(out, channel, p.tags, false)
	} else {
		out = AppendAck(out, channel, p.tags, false)
	}
	_, err = p.conn.Write(out)
	return err
}
