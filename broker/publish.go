package broker

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// What a channel expects of a publish's content next.
type contentPhase uint8

const (
	contentNone contentPhase = iota
	contentHeader
	contentBody
)

// maxAssembling bounds the bytes of unfinished messages on one connection:
// with 2047 channels a client could have that many half-sent.
const maxAssembling = 64 << 20

// incoming is a publish whose content has not wholly arrived. Small messages
// never rest here: the body of one frame goes from the frame to the lane's
// ops. Owned by the reader.
type incoming struct {
	phase     contentPhase
	mandatory bool
	route     *route
	// wishes are what the headers ask for; the producer's memory is reused.
	wishes wishes
	// properties is copied from the header's frame; its memory is reused.
	properties []byte
	size, got  uint64
	// assembled is the body so far, of a body in several frames. If alone is
	// set it is more: ops for alone that end in the body.
	assembled []byte
	alone     *target
}

// drop forgets the publish.
func (in *incoming) drop() { *in = incoming{} }

// unexpectedMethod is the error for a method where content should come.
func (in *incoming) unexpectedMethod() error {
	if in.phase == contentBody {
		return amqp.UnexpectedFrame("expected content body, got non content body frame instead").At(amqp.IDBasicPublish)
	}
	return amqp.UnexpectedFrame("expected content header for class 60, got non content header frame instead").At(amqp.IDBasicPublish)
}

// publish handles basic.publish. The exchange is looked up at once, so that a
// publish that may not be is refused before its body is taken.
func (ch *channel) publish(v *amqp.PublishView) error {
	if v.Immediate {
		return amqp.NotImplemented("immediate=true")
	}
	c := ch.conn
	if !c.published {
		c.firstPublish()
	}
	r, err := c.routes.find(c, v.Exchange, v.RoutingKey)
	if err != nil {
		return err
	}
	in := &ch.incoming
	in.phase, in.mandatory, in.route = contentHeader, v.Mandatory, r
	return nil
}

// wish keeps what a publish's headers ask for longer than their frame is there.
func (in *incoming) wish(w wishes) {
	if w.sequence > 0 {
		w.producer = append(in.wishes.producer[:0], w.producer...)
	} else {
		w.producer = in.wishes.producer[:0]
	}
	in.wishes = w
}

// header handles a content header.
func (ch *channel) header(ctx context.Context, payload []byte) error {
	in, c := &ch.incoming, ch.conn
	if in.phase != contentHeader {
		if in.phase == contentBody {
			return in.unexpectedMethod()
		}
		return amqp.UnexpectedFrame("expected method frame, got non method frame instead")
	}
	_, size, properties, err := amqp.ParseHeader(payload)
	if err != nil {
		return err
	}
	if size > uint64(c.front.config.maxMessageSize) {
		return amqp.PreconditionFailed("message size %d is larger than configured max size %d", size, c.front.config.maxMessageSize)
	}
	if err := c.validProperties(properties); err != nil {
		return err
	}
	w, err := c.front.quorums.wishes(properties)
	if err != nil {
		return err
	}
	in.wish(w)
	if in.route.byHeaders {
		if in.route, err = c.routes.byHeaders(c, in.route, properties); err != nil {
			return err
		}
	}
	in.size, in.got = size, 0
	if size == 0 {
		ch.finish(properties, nil)
		return nil
	}
	in.phase = contentBody
	in.properties = append(in.properties[:0], properties...)
	return nil
}

// validProperties checks the properties that RabbitMQ checks of a publish.
func (c *conn) validProperties(properties amqp.RawProperties) error {
	if properties.Flags()&(amqp.FlagExpiration|amqp.FlagUserID) == 0 {
		return nil
	}
	if user, ok := properties.UserID(); ok && string(user) != c.user && !c.impersonator() {
		return amqp.PreconditionFailed("user_id property set to '%s' but authenticated user was '%s'", user, c.user)
	}
	if expiration, ok := properties.Expiration(); ok {
		return validExpiration(string(expiration))
	}
	return nil
}

// maxExpiration is ten years in milliseconds: what RabbitMQ 3.10 accepts.
const maxExpiration = 315_360_000_000

// validExpiration checks an expiration: an integer of milliseconds. The texts
// are RabbitMQ's, which show the terms of its string:to_integer.
func validExpiration(s string) error {
	digits := len(s)
	for i, r := range s {
		if (r < '0' || r > '9') && (i > 0 || r != '+' && r != '-') {
			digits = i
			break
		}
	}
	number, rest := s[:digits], s[digits:]
	n, ok := new(big.Int).SetString(number, 10)
	why := ""
	switch {
	case !ok:
		why = "no_integer"
	case rest != "":
		why = fmt.Sprintf("{leftover_string,%q}", rest)
	case n.Sign() < 0:
		why = fmt.Sprintf("{value_negative,%v}", n)
	case n.Cmp(big.NewInt(maxExpiration)) > 0:
		why = fmt.Sprintf("{value_too_large,%v}", n)
	default:
		return nil
	}
	return amqp.PreconditionFailed("invalid expiration '%s': %s", s, why)
}

// body handles a body frame.
func (ch *channel) body(ctx context.Context, payload []byte) error {
	in := &ch.incoming
	switch in.phase {
	case contentNone:
		return amqp.UnexpectedFrame("expected method frame, got non method frame instead")
	case contentHeader:
		return in.unexpectedMethod()
	}
	got := in.got + uint64(len(payload))
	if got > in.size {
		return amqp.UnexpectedFrame("content body of %d bytes is longer than the announced %d", got, in.size)
	}
	if in.got == 0 && got == in.size {
		ch.finish(in.properties, payload)
		return nil
	}
	if in.got == 0 {
		ch.assemble()
	}
	in.got = got
	if in.assembled != nil {
		in.grow(len(payload))
		in.assembled = append(in.assembled, payload...)
		if ch.conn.assembling += len(payload); ch.conn.assembling > maxAssembling+2*int(ch.conn.front.config.maxMessageSize) {
			return amqp.ResourceError("too much of unfinished messages on one connection")
		}
	}
	if got < in.size {
		return nil
	}
	if in.assembled != nil {
		ch.conn.assembling -= int(in.size)
	}
	if in.alone != nil {
		ch.finishAlone()
		return nil
	}
	ch.finish(in.properties, in.assembled)
	return nil
}

// assemble prepares for a body that comes in several frames. When it goes to
// one group it is put where it will be submitted from: nothing is copied twice.
func (ch *channel) assemble() {
	in := &ch.incoming
	switch {
	case len(in.route.targets) == 0 && !in.mandatory:
		// Counted and dropped.
	case len(in.route.targets) == 1 && ch.mode.Load() != modeTx:
		in.alone = &in.route.targets[0]
		in.assembled = in.wishes.appendOnce(takeOps(), ch.conn.vhost)
		in.assembled = appendPublish(in.assembled, in.alone.queues, in.route.exchange, in.route.key, in.properties, int(in.size))
	default:
		in.assembled = make([]byte, 0, min(in.size, flushBytes))
	}
}

// grow makes room for n more bytes of a body, of which got has been counted
// already. It doubles, up to what was announced: append's own quarter would
// leave four times a large body behind as garbage. What was announced is not
// allocated at once, because a client need not send it.
func (in *incoming) grow(n int) {
	if cap(in.assembled)-len(in.assembled) >= n {
		return
	}
	rest := int(in.size-in.got) + n
	in.assembled = slices.Grow(in.assembled, min(max(len(in.assembled), n), rest))
}

// nextTag is the confirm tag of the publish that has just arrived, 0 where the
// channel does not confirm.
func (ch *channel) nextTag() uint64 {
	if ch.mode.Load() != modeConfirm {
		return 0
	}
	return ch.published.Add(1)
}

// finish hands a whole message to the lanes of its queues.
func (ch *channel) finish(properties, body []byte) {
	in, c := &ch.incoming, ch.conn
	r, mandatory, w := in.route, in.mandatory, in.wishes
	ch.endContent()
	c.front.counts.published.Add(1)
	tag := ch.nextTag()
	switch {
	case ch.mode.Load() == modeTx:
		ch.tx.publish(ch, r, mandatory, &w, properties, body)
		return
	case len(r.targets) == 0:
		ch.unroutable(r, mandatory, tag, properties, body)
		return
	}
	var shared *sharedConfirm
	if tag != 0 && len(r.targets) > 1 {
		shared = &sharedConfirm{left: len(r.targets)}
	}
	for i := range r.targets {
		t := &r.targets[i]
		if tag != 0 {
			t.lane.require(t.required(w.least))
		}
		t.lane.enqueue(&w, t.queues, r.exchange, r.key, properties, body)
		if tag != 0 {
			t.lane.expect(&ch.confirms, tag, shared)
		}
		if len(t.lane.ops) >= flushBytes {
			t.lane.flush()
		}
	}
}

// finishAlone submits a message of several frames that was assembled in ops of
// its own, or adds it to the lane's other ops when it is small.
func (ch *channel) finishAlone() {
	in, c := &ch.incoming, ch.conn
	l, ops, quorum := in.alone.lane, in.assembled, in.alone.required(in.wishes.least)
	ch.endContent()
	c.front.counts.published.Add(1)
	tag := ch.nextTag()
	if len(ops) < aloneBytes {
		if tag != 0 {
			l.require(quorum)
		}
		if l.ops == nil {
			l.ops = ops
		} else {
			l.ops = append(l.ops, ops...)
			giveOps(ops)
		}
		l.published++
		l.mark()
		if tag != 0 {
			l.expect(&ch.confirms, tag, nil)
		}
		if len(l.ops) >= flushBytes {
			l.flush()
		}
		return
	}
	l.flush()
	var confirms []confirmRange
	if tag != 0 {
		confirms = []confirmRange{{to: &ch.confirms, first: tag, last: tag}}
	}
	l.submit(ops, confirms, quorum, nil)
}

// endContent makes the channel ready for the next method.
func (ch *channel) endContent() {
	in := &ch.incoming
	properties := in.properties
	if cap(properties) > 1024 {
		properties = nil
	}
	*in = incoming{properties: properties, wishes: wishes{producer: in.wishes.producer[:0]}}
}

// unroutable handles a message that no queue wants: it is returned if it is
// mandatory, and confirmed.
func (ch *channel) unroutable(r *route, mandatory bool, tag uint64, properties, body []byte) {
	c := ch.conn
	if mandatory {
		c.front.counts.returned.Add(1)
		c.out.frames(c.appendReturn(nil, ch.number, r, properties, body))
	} else {
		c.front.counts.dropped.Add(1)
	}
	if tag != 0 {
		c.out.mu.Lock()
		ch.confirms.settle(tag, tag, false)
		c.out.confirmed(&ch.confirms)
		c.out.mu.Unlock()
	}
}

// appendReturn appends basic.return with its content.
func (c *conn) appendReturn(dst []byte, channel uint16, r *route, properties, body []byte) []byte {
	dst = amqp.AppendReturn(dst, channel, amqp.CodeNoRoute, amqp.ReplyName(amqp.CodeNoRoute), r.exchange, r.key)
	return amqp.AppendContent(dst, channel, c.frameMax, properties, body)
}
