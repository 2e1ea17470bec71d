package protobuf_test

import (
	"context"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/client/protobuf"
)

func TestMessagesThereAndBack(t *testing.T) {
	body, err := protobuf.Codec.Marshal(wrapperspb.String("hello"))
	if err != nil {
		t.Fatal(err)
	}
	var got string
	handler := client.Decode(protobuf.Codec, func(_ context.Context, m *wrapperspb.StringValue, _ *client.Delivery) error {
		got = m.Value
		return nil
	})
	d := &client.Delivery{Message: client.Message{Body: body}}
	if err := handler(t.Context(), d); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	var direct wrapperspb.StringValue
	if err := protobuf.Codec.Unmarshal(body, &direct); err != nil || direct.Value != "hello" {
		t.Errorf("got %q, %v", direct.Value, err)
	}
	d.Body = []byte{0xff}
	if err := handler(t.Context(), d); err == nil {
		t.Error("a malformed body is decoded")
	}
	if _, err := protobuf.Codec.Marshal("text"); err == nil {
		t.Error("a string is encoded")
	}
	var number int
	var pointer *int
	for _, wrong := range []any{&number, &pointer, number} {
		if err := protobuf.Codec.Unmarshal(body, wrong); err == nil {
			t.Errorf("a message is decoded into a %T", wrong)
		}
	}
}
