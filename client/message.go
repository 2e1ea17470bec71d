package client

import (
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// maxShort is the largest length of AMQP's short strings: names, keys and
// properties.
const maxShort = 255

// Message is what a producer publishes and a consumer gets. Only a routing key,
// or an exchange, is needed.
type Message struct {
	// Exchange routes the message by RoutingKey; the default exchange "" to the
	// queue of that name.
	Exchange, RoutingKey string
	Body                 []byte
	Headers              Headers

	// Properties that the broker hands on as they are.
	ContentType, ContentEncoding string
	CorrelationID, ReplyTo       string
	Type, AppID                  string
	Timestamp                    time.Time // kept to the second
	// MessageID is made up from the producer's name and the sequence where it is
	// "", so that a message that was published again can be recognized.
	MessageID string
	// UserID, unless "", must be the user that is logged in.
	UserID string

	// Priority counts in queues with a MaxPriority.
	Priority uint8
	// TTL is how long the message may wait in a queue; 0 is as long as the queue
	// says. It counts in whole milliseconds.
	TTL time.Duration
	// Delay is how long a delayed-message exchange keeps the message (header
	// x-delay, in whole milliseconds).
	Delay time.Duration
	// AckQuorum raises the queue's ack quorum for this message: "majority", "all"
	// or a number of copies on disk (header x-ack-quorum). MirrorMQ only.
	AckQuorum string
	// Transient says that the message need not survive a restart. MirrorMQ's
	// durable queues keep it all the same.
	Transient bool
	// DropUnroutable has a message that no queue takes confirmed and forgotten,
	// where Publish would return an *UnroutableError.
	DropUnroutable bool
}

// size is what a message counts in a window of bytes.
func (m *Message) size() int64 { return int64(len(m.Body)) }

// validate refuses what can't be encoded: amqp091-go would close the connection.
func (m *Message) validate() error {
	for _, short := range []struct{ name, value string }{
		{"Exchange", m.Exchange}, {"RoutingKey", m.RoutingKey}, {"ContentType", m.ContentType},
		{"ContentEncoding", m.ContentEncoding}, {"CorrelationID", m.CorrelationID}, {"ReplyTo", m.ReplyTo},
		{"Type", m.Type}, {"AppID", m.AppID}, {"MessageID", m.MessageID}, {"UserID", m.UserID},
	} {
		if len(short.value) > maxShort {
			return fmt.Errorf("client: %s has %d bytes: at most %d", short.name, len(short.value), maxShort)
		}
	}
	if m.TTL < 0 || m.Delay < 0 {
		return fmt.Errorf("client: TTL %v, Delay %v: not below 0", m.TTL, m.Delay)
	}
	if len(m.Headers) == 0 {
		return nil
	}
	if err := m.Headers.Validate(); err != nil {
		return fmt.Errorf("client: headers: %w", err)
	}
	return validateKeys(m.Headers)
}

// validateKeys refuses names of headers that are too long, at any depth.
func validateKeys(value any) error {
	switch value := value.(type) {
	case Headers:
		for name, inner := range value {
			if len(name) > maxShort {
				return fmt.Errorf("client: the name of a header has %d bytes: at most %d", len(name), maxShort)
			}
			if err := validateKeys(inner); err != nil {
				return err
			}
		}
	case []any:
		for _, inner := range value {
			if err := validateKeys(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// publishing is the message as amqp091-go has it, with other headers and id.
func (m *Message) publishing(headers Headers, id string) amqp.Publishing {
	p := amqp.Publishing{
		Headers: headers, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding,
		DeliveryMode: amqp.Persistent, Priority: m.Priority, CorrelationId: m.CorrelationID, ReplyTo: m.ReplyTo,
		MessageId: id, Timestamp: m.Timestamp, Type: m.Type, UserId: m.UserID, AppId: m.AppID, Body: m.Body,
	}
	if m.Transient {
		p.DeliveryMode = amqp.Transient
	}
	if m.TTL > 0 {
		p.Expiration = strconv.FormatInt(m.TTL.Milliseconds(), 10)
	}
	return p
}

// newMessage is a delivery's message.
func newMessage(d *amqp.Delivery) Message {
	m := Message{
		Exchange: d.Exchange, RoutingKey: d.RoutingKey, Body: d.Body, Headers: d.Headers,
		ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, CorrelationID: d.CorrelationId,
		ReplyTo: d.ReplyTo, Type: d.Type, AppID: d.AppId, Timestamp: d.Timestamp, MessageID: d.MessageId,
		UserID: d.UserId, Priority: d.Priority, Transient: d.DeliveryMode != amqp.Persistent,
	}
	if ttl, err := strconv.ParseInt(d.Expiration, 10, 64); err == nil {
		m.TTL = time.Duration(ttl) * time.Millisecond
	}
	m.AckQuorum, _ = d.Headers["x-ack-quorum"].(string)
	return m
}
