package amqp

import (
	"bytes"
	"testing"
)

// hotTraffic is a publish, an ack, a nack and a reject as a client sends them.
func hotTraffic() []byte {
	properties := Properties{DeliveryMode: 2, ContentType: "application/json", Headers: Table{"x-ack-quorum": "all", "n": int32(5)}}
	stream := AppendPublish(nil, 1, []byte("exchange"), []byte("key"), true)
	stream = AppendContent(stream, 1, 131072, properties.Append(nil), make([]byte, 1024))
	stream = AppendAck(stream, 1, 7, true)
	stream = AppendNack(stream, 1, 8, false)
	return AppendMethod(stream, 1, &BasicReject{DeliveryTag: 9})
}

// endless gives its bytes again and again, as many as fit.
type endless struct {
	bytes []byte
	at    int
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		c := copy(b[n:], e.bytes[e.at:])
		n, e.at = n+c, (e.at+c)%len(e.bytes)
	}
	return n, nil
}

// receive reads one hotTraffic as a broker does.
func receive(t testing.TB, reader *Reader) (bytesSeen int) {
	for range 6 {
		frame, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		bytesSeen += len(frame.Payload)
		switch frame.Type {
		case FrameMethod:
			if err := receiveMethod(frame.Payload); err != nil {
				t.Fatal(err)
			}
		case FrameHeader:
			_, _, properties, err := ParseHeader(frame.Payload)
			if err != nil {
				t.Fatal(err)
			}
			raw := RawProperties(properties)
			headers, _ := raw.Headers()
			if _, ok := headers.Lookup("x-ack-quorum"); !ok || raw.DeliveryMode() != 2 {
				t.Fatal("properties misread")
			}
			if _, ok := raw.Expiration(); ok {
				t.Fatal("properties misread")
			}
		}
	}
	return bytesSeen
}

func receiveMethod(payload []byte) error {
	id, arguments, err := CutMethod(payload)
	if err != nil {
		return err
	}
	switch id {
	case IDBasicPublish:
		var v PublishView
		return v.Parse(arguments)
	case IDBasicAck:
		var v AckView
		return v.Parse(arguments)
	case IDBasicNack:
		var v NackView
		return v.Parse(arguments)
	case IDBasicReject:
		var v RejectView
		return v.Parse(arguments)
	}
	return UnknownMethod(id)
}

func TestReceivingAllocatesNothing(t *testing.T) {
	reader := NewReader(&endless{bytes: hotTraffic()}, 131072)
	for range 1000 {
		receive(t, reader) // grows the buffer to where it stays
	}
	if n := testing.AllocsPerRun(1000, func() { receive(t, reader) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReceivingFromASocketAllocatesNothing(t *testing.T) {
	pair := pairs(t)["TCP"]
	traffic := hotTraffic()
	reader := NewReader(pair[1], 131072)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := pair[0].Write(traffic); err != nil {
			t.Fatal(err)
		}
		receive(t, reader)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDeliveringAllocatesNothing(t *testing.T) {
	properties := (&Properties{DeliveryMode: 2, Headers: Table{"a": "b"}, AppID: "app"}).Append(nil)
	body := bytes.Repeat([]byte("x"), 1024)
	out, scratch := make([]byte, 0, 1<<16), make([]byte, 0, 1<<10)
	exchange, key := []byte("exchange"), []byte("key")
	if n := testing.AllocsPerRun(1000, func() {
		out = AppendDeliver(out[:0], 1, "consumer-tag", 12345, true, exchange, key)
		scratch = RawProperties(properties).AppendWithInteger(scratch[:0], "x-delivery-count", 1)
		out = AppendContent(out, 1, 131072, scratch, body)
		out = AppendGetOk(out, 1, 12346, true, exchange, key, 3)
		out = AppendReturn(out, 1, CodeNoRoute, "NO_ROUTE", exchange, key)
		out = AppendAck(out, 1, 7, true)
		out = AppendNack(out, 1, 8, true)
		out = AppendHeartbeat(out)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
