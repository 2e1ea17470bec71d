package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
)

const (
	// writeBytes is how much is gathered for one write to the socket.
	writeBytes = 64 << 10
	// largeBody is the size from which a body is not copied on its way.
	largeBody = 64 << 10
	// maxPooledWrite bounds what a pooled buffer keeps.
	maxPooledWrite = 256 << 10
	// bodyFrames is how many frames of a large body are written at a time.
	bodyFrames = 64
	// frameHead and frameEnd are what a frame has before and after its payload.
	frameHead = 7
)

var writeBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeBytes+largeBody)
	return &b
}}

// contents reads message bodies; a *contentReader but in tests.
type contents interface {
	content(entry.GroupID, entry.Ref) (entry.Content, error)
	// expect tells which contents will be asked for next.
	expect([]delivery)
	rest()
}

// writer is a connection's writing goroutine: it turns what is in the outbox
// into frames. It reads bodies, from disk if need be; the groups' goroutines
// never do.
type writer struct {
	conn     *conn
	contents contents
	buffer   []byte
	large    net.Buffers
	credited []*subscriber // with deliveries to be credited
	encoded  []encoded     // deliveries in the buffer
	// round is the doubt's, as it is known: what came in an earlier one is not
	// written before it has been judged. withheld waits for that.
	round    uint32
	withheld []delivery
	// Of the batch: deliveries to consumers that ack, to those that don't,
	// and repeated ones.
	delivered, noAck, redelivered uint64
}

// encoded is a delivery whose frames are buffer[from:to]: none of a large one, of
// which some is written already.
type encoded struct {
	delivery *delivery
	tag      uint64
	from, to int
}

// run writes until the outbox ends or the socket fails.
func (w *writer) run() {
	defer close(w.conn.writerDone)
	var b batch
	for {
		var ok bool
		if b, ok = w.conn.out.take(b); !ok {
			return
		}
		if err := w.write(&b); err != nil {
			w.conn.abort(fmt.Errorf("write: %w", err))
			return
		}
	}
}

// write writes a batch and gives credit for its deliveries.
func (w *writer) write(b *batch) error {
	pooled := writeBuffers.Get().(*[]byte)
	w.buffer = (*pooled)[:0]
	w.round = w.conn.front.config.doubt.round()
	err := w.release()
	w.contents.expect(b.deliveries)
	if err == nil {
		err = w.stretches(b)
	}
	if err == nil {
		err = w.flush()
	}
	if cap(w.buffer) <= maxPooledWrite {
		*pooled = w.buffer[:0]
		writeBuffers.Put(pooled)
	}
	w.buffer = nil
	if len(b.deliveries) > 0 {
		w.contents.rest()
	}
	if cap(w.encoded) > idleDeliveries {
		w.encoded = nil
	}
	w.credit()
	w.count()
	return err
}

func (w *writer) count() {
	counts := &w.conn.front.counts
	counts.delivered.Add(w.delivered)
	counts.deliveredNoAck.Add(w.noAck)
	counts.redelivered.Add(w.redelivered)
	w.delivered, w.noAck, w.redelivered = 0, 0, 0
}

func (w *writer) stretches(b *batch) error {
	control, deliveries := b.control, b.deliveries
	for _, s := range b.order {
		for control := control[:s.control]; len(control) > 0; {
			n := min(len(control), writeBytes)
			w.buffer = append(w.buffer, control[:n]...)
			control = control[n:]
			if err := w.flushFull(); err != nil {
				return err
			}
		}
		for i := range deliveries[:s.deliveries] {
			if err := w.delivery(&deliveries[i]); err != nil {
				return err
			}
			if err := w.flushFull(); err != nil {
				return err
			}
		}
		control, deliveries = control[s.control:], deliveries[s.deliveries:]
	}
	return nil
}

// delivery appends a basic.deliver or basic.get-ok with its content.
func (w *writer) delivery(d *delivery) error {
	to := d.to
	channel := to.channel
	if !channel.isOpen() || w.conn.state.Load() != connRunning {
		return nil // Its holder gives the message back.
	}
	if (d.round != w.round || to.waiting > 0) && !w.ours(d) {
		return nil
	}
	content, err := w.contents.content(to.held.lane.id, d.ref)
	switch {
	case err != nil && !channel.isOpen():
		return nil // It closed while another broker was asked.
	case err != nil:
		return w.unreadable(d, err)
	}
	if len(content.Body) >= largeBody {
		// What is written of it can't be withheld any more.
		if err := w.flush(); err != nil || d.round != w.round && !w.ours(d) {
			return err
		}
	}
	e := encoded{delivery: d, from: len(w.buffer)}
	if to.noAck {
		e.tag = channel.unacked.skip()
	} else {
		e.tag = channel.unacked.add(to.held, d.message)
	}
	if to.get {
		w.buffer = amqp.AppendGetOk(w.buffer, channel.number, e.tag, d.redelivered, content.Exchange, content.RoutingKey, d.remaining)
	} else {
		w.buffer = amqp.AppendDeliver(w.buffer, channel.number, to.tag, e.tag, d.redelivered, content.Exchange, content.RoutingKey)
	}
	properties := content.Properties
	if d.deliveries > 0 && to.queue.Type == "quorum" {
		properties = withDeliveryCount(properties, d.deliveries)
	}
	if len(content.Body) >= largeBody {
		if err := w.largeContent(channel.number, properties, content.Body); err != nil {
			return err
		}
		e.from, e.to = len(w.buffer), len(w.buffer)
		w.encoded = append(w.encoded, e)
		return nil
	}
	w.buffer = amqp.AppendContent(w.buffer, channel.number, w.conn.frameMax, properties, content.Body)
	e.to = len(w.buffer)
	w.encoded = append(w.encoded, e)
	return nil
}

// wrote notes that a delivery is in the socket, or about to be.
func (w *writer) wrote(e *encoded) {
	d, to := e.delivery, e.delivery.to
	if d.redelivered {
		w.redelivered++
	}
	switch {
	case to.get:
		if to.written != nil {
			to.written()
		}
		return
	case to.noAck:
		to.unsettled = entry.AppendID(to.unsettled, d.message)
		w.noAck++
	default:
		w.delivered++
	}
	w.creditOne(to)
}

// unreadable handles a message whose body can't be read. Its queue may have
// been deleted meanwhile: then it is passed over. Otherwise something is wrong
// with this broker's disk: the operator and the client are told, the connection
// is closed, and the message goes back to its queue.
func (w *writer) unreadable(d *delivery, err error) error {
	lane := d.to.held.lane
	if !errors.Is(err, log.ErrNotFound) && lane.id < entry.Volatile {
		q := d.to.queue
		w.conn.log.Error("a message can't be read", "queue", q.Name, "vhost", q.Vhost, "message", uint64(d.message), "err", err)
		w.conn.fail(amqp.InternalError("a message of queue '%s' in vhost '%s' can't be read", q.Name, q.Vhost))
		return nil
	}
	if d.to.get {
		// The client waits for an answer.
		w.buffer = amqp.AppendMethod(w.buffer, d.to.channel.number, &amqp.BasicGetEmpty{})
		return nil
	}
	w.conn.log.Debug("message was deleted before it was sent", "queue", d.to.queue.Name, "message", d.message)
	w.passed(d.to)
	return nil
}

// creditOne notes that a consumer's delivery needs its link no more.
func (w *writer) creditOne(to *subscriber) {
	if to.uncredited++; !to.listed {
		to.listed = true
		w.credited = append(w.credited, to)
	}
}

// flushFull writes the buffer when it is full enough for one write.
func (w *writer) flushFull() error {
	if len(w.buffer) < writeBytes {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	if round := w.conn.front.config.doubt.round(); round != w.round {
		w.round = round
		w.withhold()
	}
	if len(w.buffer) > 0 {
		n, err := w.conn.socket.Write(w.buffer)
		w.conn.sent.Add(uint64(n))
		if err != nil {
			return err
		}
		w.buffer = w.buffer[:0]
	}
	for i := range w.encoded {
		w.wrote(&w.encoded[i])
	}
	clear(w.encoded)
	w.encoded = w.encoded[:0]
	return nil
}

// largeContent writes what is in the buffer and a large content, without
// copying the body where the socket takes several slices at once.
func (w *writer) largeContent(channel uint16, properties, body []byte) error {
	w.buffer = amqp.AppendHeader(w.buffer, channel, uint64(len(body)), properties)
	limit := amqp.MaxBody(w.conn.frameMax)
	if _, gathers := w.conn.socket.(*net.TCPConn); !gathers || limit < writeBytes {
		for len(body) > 0 {
			n := min(len(body), limit)
			w.buffer = amqp.AppendFrame(w.buffer, amqp.FrameBody, channel, body[:n])
			body = body[n:]
			if err := w.flushFull(); err != nil {
				return err
			}
		}
		return nil
	}
	for len(body) > 0 {
		if err := w.gather(channel, limit, &body); err != nil {
			return err
		}
	}
	return nil
}

// gather writes the buffer and up to bodyFrames frames of a body in one go.
func (w *writer) gather(channel uint16, limit int, body *[]byte) error {
	// What is appended below must not move the buffer: slices of it are kept.
	if need := len(w.buffer) + bodyFrames*(frameHead+1); cap(w.buffer) < need {
		w.buffer = append(make([]byte, 0, need), w.buffer...)
	}
	w.large = w.large[:0]
	start := 0
	for frames := 0; frames < bodyFrames && len(*body) > 0; frames++ {
		n := min(len(*body), limit)
		w.buffer = append(w.buffer, amqp.FrameBody, byte(channel>>8), byte(channel))
		w.buffer = binary.BigEndian.AppendUint32(w.buffer, uint32(n))
		w.large = append(w.large, w.buffer[start:], (*body)[:n])
		start = len(w.buffer)
		w.buffer = append(w.buffer, amqp.FrameEnd)
		*body = (*body)[n:]
	}
	w.large = append(w.large, w.buffer[start:])
	buffers := w.large // WriteTo consumes its receiver.
	n, err := buffers.WriteTo(w.conn.socket)
	w.conn.sent.Add(uint64(n))
	clear(w.large)
	w.buffer = w.buffer[:0]
	if err != nil {
		return err
	}
	return w.flush()
}

// credit tells the groups what was written. Consumers without acks are told of
// at once: writing is what settles their messages.
func (w *writer) credit() {
	for i, to := range w.credited {
		w.credited[i] = nil
		to.listed = false
		if to.noAck || to.uncredited >= to.link/4 {
			to.held.lane.group.credit(to.id, to.uncredited, to.unsettled)
			to.uncredited, to.unsettled = 0, nil
		}
	}
	w.credited = w.credited[:0]
}

// withDeliveryCount returns properties with the header x-delivery-count set,
// as RabbitMQ's quorum queues do on redelivery.
func withDeliveryCount(properties []byte, count uint32) []byte {
	var p amqp.Properties
	if err := p.Parse(properties); err != nil {
		return properties
	}
	headers := make(amqp.Table, len(p.Headers)+1)
	for k, v := range p.Headers {
		headers[k] = v
	}
	headers["x-delivery-count"] = int64(count)
	p.Headers = headers
	return p.Append(make([]byte, 0, len(properties)+64))
}
