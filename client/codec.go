package client

import (
	"context"
	"encoding/json"
	"fmt"
)

// Codec turns values into bodies and back. It is used by many goroutines.
type Codec interface {
	// ContentType is that of the bodies.
	ContentType() string
	Marshal(value any) ([]byte, error)
	// Unmarshal decodes into value, a pointer.
	Unmarshal(body []byte, value any) error
}

// JSON is a Codec for whatever encoding/json takes.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) ContentType() string                    { return "application/json" }
func (jsonCodec) Marshal(value any) ([]byte, error)      { return json.Marshal(value) }
func (jsonCodec) Unmarshal(body []byte, value any) error { return json.Unmarshal(body, value) }

// Raw is a Codec for []byte and string, which are the body.
var Raw Codec = rawCodec{}

type rawCodec struct{}

func (rawCodec) ContentType() string { return "application/octet-stream" }

func (rawCodec) Marshal(value any) ([]byte, error) {
	switch value := value.(type) {
	case []byte:
		return value, nil
	case string:
		return []byte(value), nil
	}
	return nil, fmt.Errorf("client: the raw codec takes []byte and string, not %T", value)
}

func (rawCodec) Unmarshal(body []byte, value any) error {
	switch value := value.(type) {
	case *[]byte:
		*value = body
	case *string:
		*value = string(body)
	default:
		return fmt.Errorf("client: the raw codec takes *[]byte and *string, not %T", value)
	}
	return nil
}

// Sender publishes values of one type, each as a message made from a template.
type Sender[T any] struct {
	producer *Producer
	codec    Codec
	template Message
}

// NewSender makes a Sender. The template says where messages go and what they
// have besides a body and a content type.
func NewSender[T any](p *Producer, codec Codec, template Message) *Sender[T] {
	if template.ContentType == "" {
		template.ContentType = codec.ContentType()
	}
	return &Sender[T]{p, codec, template}
}

// Message is the message that a value makes, for changes before it is published.
func (s *Sender[T]) Message(value T) (Message, error) {
	m := s.template
	body, err := s.codec.Marshal(value)
	if err != nil {
		return Message{}, fmt.Errorf("client: encode a %T: %w", value, err)
	}
	m.Body = body
	return m, nil
}

// Send publishes a value as Producer.Publish does.
func (s *Sender[T]) Send(ctx context.Context, value T) error {
	m, err := s.Message(value)
	if err != nil {
		return err
	}
	return s.producer.Publish(ctx, m)
}

// SendAsync publishes a value as Producer.PublishAsync does.
func (s *Sender[T]) SendAsync(ctx context.Context, value T) (Confirmation, error) {
	m, err := s.Message(value)
	if err != nil {
		return Confirmation{}, err
	}
	return s.producer.PublishAsync(ctx, m)
}

// Decode makes a Handler of a function for values of one type. A body that can't
// be decoded is rejected: trying again would not help.
func Decode[T any](codec Codec, handle func(ctx context.Context, value T, d *Delivery) error) Handler {
	return func(ctx context.Context, d *Delivery) error {
		var value T
		if err := codec.Unmarshal(d.Body, &value); err != nil {
			return Reject(fmt.Errorf("client: decode a %T: %w", value, err))
		}
		return handle(ctx, value, d)
	}
}
