package driver

import (
	"errors"
	"fmt"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

type leanPublisher struct {
	*leanConn
	confirmed  func(tag uint64, multiple, ack bool)
	exchange   []byte
	routingKey []byte
	transient  []byte // encoded properties
	persistent []byte
}

// OpenPublisher implements Driver.
func (Lean) OpenPublisher(url string, to Route, confirmed func(tag uint64, multiple, ack bool)) (Publisher, error) {
	c, err := dialLean(url)
	if err != nil {
		return nil, err
	}
	c.method(leanChannel, &amqp.ConfirmSelect{})
	if _, err := call[*amqp.ConfirmSelectOk](c); err != nil {
		return nil, errors.Join(fmt.Errorf("driver: confirm.select: %w", err), c.conn.Close())
	}
	properties := amqp.Properties{ContentType: "application/octet-stream"}
	to = to.published()
	p := &leanPublisher{
		leanConn: c, confirmed: confirmed, transient: properties.Append(nil),
		exchange: []byte(to.Exchange), routingKey: []byte(to.Queue),
	}
	properties.DeliveryMode = 2
	p.persistent = properties.Append(nil)
	c.listen(p.onFrame)
	return p, nil
}

func (p *leanPublisher) Publish(persistent bool, body []byte) error {
	properties := p.transient
	if persistent {
		properties = p.persistent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = amqp.AppendPublish(p.out, leanChannel, p.exchange, p.routingKey, false)
	p.out = amqp.AppendContent(p.out, leanChannel, p.frameMax, properties, body)
	if len(p.out) >= leanBuffer {
		return p.flush()
	}
	return nil
}

func (p *leanPublisher) Flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flush()
}

func (p *leanPublisher) onFrame(frame amqp.Frame) error {
	if frame.Type != amqp.FrameMethod {
		return fmt.Errorf("driver: frame of type %d at a publisher", frame.Type)
	}
	id, arguments, err := amqp.CutMethod(frame.Payload)
	if err != nil {
		return err
	}
	switch id {
	case amqp.IDBasicAck:
		var ack amqp.AckView
		if err := ack.Parse(arguments); err != nil {
			return err
		}
		p.confirmed(ack.DeliveryTag, ack.Multiple, true)
	case amqp.IDBasicNack:
		var nack amqp.NackView
		if err := nack.Parse(arguments); err != nil {
			return err
		}
		p.confirmed(nack.DeliveryTag, nack.Multiple, false)
	default:
		return refuse(frame.Payload)
	}
	return nil
}

// leanConsumer's fields belong to the reading goroutine.
type leanConsumer struct {
	*leanConn
	deliver func(Delivery)

	next    Delivery // the content of it is still to come
	missing uint64   // bytes of its body that are
	body    []byte   // a body of several frames; reused
}

// OpenConsumer implements Driver.
func (Lean) OpenConsumer(url string, from Route, prefetch int, deliver func(Delivery)) (Consumer, error) {
	c, err := dialLean(url)
	if err != nil {
		return nil, err
	}
	c.method(leanChannel, &amqp.BasicQos{PrefetchCount: uint16(prefetch)})
	if _, err := call[*amqp.BasicQosOk](c); err != nil {
		return nil, errors.Join(fmt.Errorf("driver: qos: %w", err), c.conn.Close())
	}
	c.method(leanChannel, &amqp.BasicConsume{Queue: from.Queue})
	if _, err := call[*amqp.BasicConsumeOk](c); err != nil {
		return nil, errors.Join(fmt.Errorf("driver: consume: %w", err), c.conn.Close())
	}
	consumer := &leanConsumer{leanConn: c, deliver: deliver}
	c.listen(consumer.onFrame)
	return consumer, nil
}

// Ack buffers; onFrame flushes once the socket has no further frame.
func (c *leanConsumer) Ack(tag uint64, multiple bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		return nil // a delivery that crossed the goodbye; it goes back to the queue
	}
	c.out = amqp.AppendAck(c.out, leanChannel, tag, multiple)
	return nil
}

func (c *leanConsumer) onFrame(frame amqp.Frame) error {
	if err := c.take(frame); err != nil {
		return err
	}
	if c.reader.Buffered() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush()
}

func (c *leanConsumer) take(frame amqp.Frame) error {
	switch frame.Type {
	case amqp.FrameMethod:
		id, arguments, err := amqp.CutMethod(frame.Payload)
		if err != nil {
			return err
		}
		if id != amqp.IDBasicDeliver {
			return refuse(frame.Payload)
		}
		var deliver amqp.DeliverView
		if err := deliver.Parse(arguments); err != nil {
			return err
		}
		c.next = Delivery{Tag: deliver.DeliveryTag, Redelivered: deliver.Redelivered}
	case amqp.FrameHeader:
		_, size, _, err := amqp.ParseHeader(frame.Payload)
		if err != nil {
			return err
		}
		c.missing, c.body = size, c.body[:0]
		if size == 0 {
			c.deliver(c.next)
		}
	case amqp.FrameBody:
		return c.takeBody(frame.Payload)
	default:
		return fmt.Errorf("driver: frame of type %d at a consumer", frame.Type)
	}
	return nil
}

func (c *leanConsumer) takeBody(payload []byte) error {
	if uint64(len(payload)) > c.missing {
		return errors.New("driver: a body longer than its header says")
	}
	c.missing -= uint64(len(payload))
	switch {
	case c.missing > 0:
		c.body = append(c.body, payload...)
		return nil
	case len(c.body) > 0:
		c.body = append(c.body, payload...)
		c.next.Body = c.body
	default:
		c.next.Body = payload // of one frame: no copy
	}
	c.deliver(c.next)
	return nil
}
