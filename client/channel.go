package client

import (
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Headers of an idempotent producer's messages.
const (
	producerHeader = "x-producer"
	sequenceHeader = "x-producer-sequence"
)

// returnsBuffer is how many returned messages may wait to be looked at.
const returnsBuffer = 256

// channel is a producer's AMQP channel over one connection. Only the producer's
// send publishes on it.
type channel struct {
	*amqp.Channel
	session *session
	closed  chan *amqp.Error // gets why it was closed, and is closed
	why     *amqp.Error      // what send has taken from closed
	// returns get what no queue took. The library's reader puts a message in here
	// before it settles its confirmation: who sees that has only to look here to
	// know.
	returns chan amqp.Return
}

// openChannel opens a channel with confirms.
func openChannel(s *session) (*channel, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, err
	}
	c := &channel{
		Channel: ch, session: s,
		closed:  ch.NotifyClose(make(chan *amqp.Error, 1)),
		returns: ch.NotifyReturn(make(chan amqp.Return, returnsBuffer)),
	}
	if err := ch.Confirm(false); err != nil {
		_ = ch.Close() // The first error tells more.
		return nil, err
	}
	return c, nil
}

// encoder makes publishings of messages. Its headers are reused: a publishing is
// good until the next.
type encoder struct {
	name     string
	producer any // the name, boxed once; nil where it is not idempotent
	headers  Headers
}

func newEncoder(name string, idempotent bool) *encoder {
	e := &encoder{name: name, headers: Headers{}}
	if idempotent {
		e.producer = name
	}
	return e
}

// publish sends a message over a channel.
func (e *encoder) publish(ch *channel, m *Message, sequence int64) (*amqp.DeferredConfirmation, error) {
	id := m.MessageID
	if id == "" {
		id = messageID(e.name, sequence)
	}
	publishing := m.publishing(e.headersOf(m, sequence), id)
	return ch.PublishWithDeferredConfirm(m.Exchange, m.RoutingKey, !m.DropUnroutable, false, publishing)
}

// messageID is the id of a message that was given none: the same each time that
// it is sent.
func messageID(producer string, sequence int64) string {
	buffer := make([]byte, 0, maxShort)
	return string(strconv.AppendInt(append(append(buffer, producer...), '-'), sequence, 10))
}

func (e *encoder) headersOf(m *Message, sequence int64) Headers {
	_, numbered := m.Headers[producerHeader]
	if e.producer == nil && m.Delay == 0 && m.AckQuorum == "" && !numbered {
		return m.Headers
	}
	clear(e.headers)
	for name, value := range m.Headers {
		e.headers[name] = value
	}
	// A message that was consumed and goes on has those of its first publisher:
	// with them it would be taken for a copy, and dropped.
	delete(e.headers, producerHeader)
	delete(e.headers, sequenceHeader)
	if e.producer != nil {
		e.headers[producerHeader] = e.producer
		e.headers[sequenceHeader] = sequence
	}
	if m.Delay > 0 {
		e.headers["x-delay"] = m.Delay.Milliseconds()
	}
	if m.AckQuorum != "" {
		e.headers["x-ack-quorum"] = m.AckQuorum
	}
	return e.headers
}

// open opens a channel over the current connection, once there is one. It
// returns nil when the producer ends.
func (p *Producer) open() *channel {
	pauses := backoff{least: p.client.config.MinBackoff, most: p.client.config.MaxBackoff}
	for {
		s, err := p.link.session(p.running)
		if err != nil {
			return nil
		}
		ch, err := openChannel(s)
		if err == nil {
			return ch
		}
		// Mostly the connection has broken meanwhile; else it has no channel left.
		p.client.config.Logger.Debug("no channel to publish on", "broker", s.from.address, "reason", err)
		if sleep(p.running, pauses.pause()) != nil {
			return nil
		}
	}
}
