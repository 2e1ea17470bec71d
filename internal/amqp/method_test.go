package amqp

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func TestEveryMethodComesBackEqual(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	all := allMethods()
	if len(all) != 64 {
		t.Errorf("%d methods", len(all))
	}
	for _, empty := range all {
		for range 50 {
			m := newMethod(empty.ID())
			fillRandom(r, m)
			frame := AppendMethod([]byte("head"), 7, m)[4:]
			cut, size, err := cutFrame(frame, 1<<20)
			if err != nil || size != len(frame) || cut.Type != FrameMethod || cut.Channel != 7 {
				t.Fatalf("seed %d: %v: frame %+v, %v", seed, m.ID(), cut, err)
			}
			back, err := ParseMethod(cut.Payload)
			if err != nil || !reflect.DeepEqual(back, m) {
				t.Fatalf("seed %d: %v\n%+v became\n%+v, %v", seed, m.ID(), m, back, err)
			}
			arguments := cut.Payload[4:]
			for n := range len(arguments) {
				if err := newMethod(m.ID()).Parse(arguments[:n]); !isCode(err, CodeFrameError) {
					t.Fatalf("seed %d: %v cut to %d of %d bytes: %v", seed, m.ID(), n, len(arguments), err)
				}
			}
			if err := newMethod(m.ID()).Parse(append(arguments[:len(arguments):len(arguments)], 0)); !isCode(err, CodeFrameError) {
				t.Fatalf("seed %d: %v with a byte more: %v", seed, m.ID(), err)
			}
		}
	}
}

func isCode(err error, code uint16) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

func TestMethodsHaveTheSpecificationsNames(t *testing.T) {
	for id, name := range map[MethodID]string{
		IDConnectionStartOk: "connection.start-ok", IDBasicPublish: "basic.publish", IDBasicNack: "basic.nack",
		IDConfirmSelect: "confirm.select", IDExchangeBind: "exchange.bind", IDConnectionUpdateSecret: "connection.update-secret",
		IDConnectionBlocked: "connection.blocked", 1: "",
	} {
		if id.String() != name {
			t.Errorf("%d: %q, want %q", uint32(id), id, name)
		}
	}
	if IDBasicPublish.Class() != 60 || IDBasicPublish.Method() != 40 {
		t.Error("basic.publish is not 60, 40")
	}
	for _, m := range allMethods() {
		id := m.ID()
		want := id == IDBasicPublish || id == IDBasicReturn || id == IDBasicDeliver || id == IDBasicGetOk
		if id.HasContent() != want {
			t.Errorf("%v has content: %t", id, !want)
		}
	}
}

func TestBytesOfMethodsThatClientsSend(t *testing.T) {
	for _, c := range []struct {
		m     Method
		bytes string
	}{
		{&QueueDeclare{Queue: "q", Durable: true, AutoDelete: true, NoWait: true, Arguments: Table{}},
			"\x00\x32\x00\x0a\x00\x00\x01q\x1a\x00\x00\x00\x00"},
		{&BasicPublish{Exchange: "x", RoutingKey: "k", Mandatory: true}, "\x00\x3c\x00\x28\x00\x00\x01x\x01k\x01"},
		{&BasicQos{PrefetchCount: 500, Global: true}, "\x00\x3c\x00\x0a\x00\x00\x00\x00\x01\xf4\x01"},
		{&ConnectionOpen{VirtualHost: "/"}, "\x00\x0a\x00\x28\x01/\x00\x00"},
		{&ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60}, "\x00\x0a\x00\x1e\x07\xff\x00\x02\x00\x00\x00\x3c"},
		{&ChannelOpenOk{}, "\x00\x14\x00\x0b\x00\x00\x00\x00"},
		{&BasicNack{DeliveryTag: 1, Multiple: true, Requeue: true}, "\x00\x3c\x00\x78\x00\x00\x00\x00\x00\x00\x00\x01\x03"},
		{&ConfirmSelect{NoWait: true}, "\x00\x55\x00\x0a\x01"},
	} {
		frame := AppendMethod(nil, 1, c.m)
		if payload := frame[7 : len(frame)-1]; string(payload) != c.bytes {
			t.Errorf("%v: %q, want %q", c.m.ID(), payload, c.bytes)
		}
	}
}

func TestReservedFieldsAndUnusedBitsOfClientsAreIgnored(t *testing.T) {
	var open ConnectionOpen // reserved-1 is 0-8's capabilities, reserved-2 its insist
	if err := open.Parse([]byte("\x01/\x04caps\x01")); err != nil || open.VirtualHost != "/" {
		t.Errorf("got %+v, %v", open, err)
	}
	var declare QueueDeclare // RabbitMQ 3.10.8 takes these bits (asked)
	if err := declare.Parse([]byte("\x00\x09\x01q\xe2\x00\x00\x00\x00")); err != nil || !declare.Durable || declare.NoWait {
		t.Errorf("got %+v, %v", declare, err)
	}
}

func TestUnknownMethodsAndBadArgumentsNameTheMethod(t *testing.T) {
	for _, c := range []struct {
		payload       string
		code          uint16
		class, method uint16
	}{
		{"", CodeFrameError, 0, 0},
		{"\x00\x3c\x00", CodeFrameError, 0, 0},
		{"\x00\x3c\x00\xc8", CodeCommandInvalid, 60, 200},
		{"\x00\x3d\x00\x0a", CodeCommandInvalid, 61, 10},
		{"\x00\x32\x00\x0a\x00\x00\x01x", CodeFrameError, 50, 10},
		{"\x00\x32\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00zz", CodeFrameError, 50, 10},
		{"\x00\x32\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x03\x01aZ", CodeSyntaxError, 50, 10},
	} {
		m, err := ParseMethod([]byte(c.payload))
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || e.Class != c.class || e.Method != c.method || !e.Connection {
			t.Errorf("%q: %v, %+v", c.payload, m, err)
		}
	}
}

func TestViewsAndWritersAgreeWithTheMethods(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		var publish BasicPublish
		var deliver BasicDeliver
		var getOk BasicGetOk
		var back BasicReturn
		var ack BasicAck
		var nack BasicNack
		var reject BasicReject
		for _, m := range []Method{&publish, &deliver, &getOk, &back, &ack, &nack, &reject} {
			fillRandom(r, m)
		}
		var pv PublishView
		var dv DeliverView
		var av AckView
		var nv NackView
		var rv RejectView
		if err := errors.Join(
			pv.Parse(publish.Append(nil)), dv.Parse(deliver.Append(nil)), av.Parse(ack.Append(nil)),
			nv.Parse(nack.Append(nil)), rv.Parse(reject.Append(nil)),
		); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if (BasicPublish{string(pv.Exchange), string(pv.RoutingKey), pv.Mandatory, pv.Immediate}) != publish ||
			(BasicDeliver{string(dv.ConsumerTag), dv.DeliveryTag, dv.Redelivered, string(dv.Exchange), string(dv.RoutingKey)}) != deliver ||
			BasicAck(av) != ack || BasicNack(nv) != nack || BasicReject(rv) != reject {
			t.Fatalf("seed %d: views differ", seed)
		}
		publish.Immediate, nack.Requeue = false, false
		head := []byte("head")
		for _, c := range []struct {
			m       Method
			written []byte
		}{
			{&publish, AppendPublish(head, 9, []byte(publish.Exchange), []byte(publish.RoutingKey), publish.Mandatory)},
			{&deliver, AppendDeliver(head, 9, deliver.ConsumerTag, deliver.DeliveryTag, deliver.Redelivered, []byte(deliver.Exchange), []byte(deliver.RoutingKey))},
			{&getOk, AppendGetOk(head, 9, getOk.DeliveryTag, getOk.Redelivered, []byte(getOk.Exchange), []byte(getOk.RoutingKey), getOk.MessageCount)},
			{&back, AppendReturn(head, 9, back.ReplyCode, back.ReplyText, []byte(back.Exchange), []byte(back.RoutingKey))},
			{&ack, AppendAck(head, 9, ack.DeliveryTag, ack.Multiple)},
			{&nack, AppendNack(head, 9, nack.DeliveryTag, nack.Multiple)},
		} {
			if want := AppendMethod(head, 9, c.m); !bytes.Equal(c.written, want) {
				t.Fatalf("seed %d: %v: %q, want %q", seed, c.m.ID(), c.written, want)
			}
		}
	}
}

func TestAShortStringThatIsTooLongPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	AppendMethod(nil, 0, &BasicConsumeOk{ConsumerTag: strings.Repeat("x", 256)})
}
