package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func printed(t *testing.T, format string, deliveries ...amqp.Delivery) string {
	t.Helper()
	var b bytes.Buffer
	p := &printer{format, bufio.NewWriter(&b)}
	for i := range deliveries {
		if err := p.print(&deliveries[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOutputFormats(t *testing.T) {
	a, b := amqp.Delivery{Body: []byte("a")}, amqp.Delivery{Body: []byte("b\x00")}
	if got := printed(t, "body", a, b); got != "a\nb\x00\n" {
		t.Errorf("body: %q", got)
	}
	if got := printed(t, "raw", a, b); got != "ab\x00" {
		t.Errorf("raw: %q", got)
	}
	full := amqp.Delivery{
		Exchange: "e", RoutingKey: "k", Redelivered: true, Body: []byte("é"), DeliveryMode: 2, Priority: 3, ContentType: "text/plain",
		Timestamp: time.Unix(7, 0), Headers: amqp.Table{"n": int32(1), "t": amqp.Table{"x": "y"}},
	}
	want := `{"exchange":"e","routing_key":"k","redelivered":true,"properties":{"content_type":"text/plain","delivery_mode":2,` +
		`"headers":{"n":1,"t":{"x":"y"}},"priority":3,"timestamp":7},"payload_bytes":2,"payload":"é","payload_encoding":"string"}` + "\n"
	if got := printed(t, "json", full); got != want {
		t.Errorf("json: got  %s\nwant %s", got, want)
	}
	var v messageView
	if err := json.Unmarshal([]byte(printed(t, "json", amqp.Delivery{Body: []byte{0xff, 0}})), &v); err != nil {
		t.Fatal(err)
	}
	if v.Payload != "/wA=" || v.Encoding != "base64" || v.Bytes != 2 {
		t.Errorf("binary: %+v", v)
	}
	odd := amqp.Delivery{Headers: amqp.Table{"nan": math.NaN()}}
	if err := json.Unmarshal([]byte(printed(t, "json", odd)), &v); err != nil {
		t.Errorf("a header that is no JSON: %v", err)
	}
}
