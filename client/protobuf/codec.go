// Package protobuf is the SDK's codec for protocol buffers. It is a package of
// its own so that who does without them does not link them.
package protobuf

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/mirrormq/mirrormq/client"
)

// Codec is a client.Codec for generated messages: a Sender[*Order], a
// Decode[*Order].
var Codec client.Codec = codec{}

type codec struct{}

func (codec) ContentType() string { return "application/x-protobuf" }

func (codec) Marshal(value any) ([]byte, error) {
	m, ok := value.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("protobuf: a %T is no message", value)
	}
	return proto.Marshal(m)
}

// Unmarshal decodes into a message, or into a pointer to one, which it makes.
func (codec) Unmarshal(body []byte, value any) error {
	if m, ok := value.(proto.Message); ok {
		return proto.Unmarshal(body, m)
	}
	pointer := reflect.ValueOf(value)
	if pointer.Kind() != reflect.Pointer || pointer.Elem().Kind() != reflect.Pointer {
		return fmt.Errorf("protobuf: a %T is no message and no pointer to one", value)
	}
	fresh := reflect.New(pointer.Elem().Type().Elem())
	m, ok := fresh.Interface().(proto.Message)
	if !ok {
		return fmt.Errorf("protobuf: a %T is no pointer to a message", value)
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return err
	}
	pointer.Elem().Set(fresh)
	return nil
}
