package broker

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// frame encodes a frame as it is, valid or not.
func rawFrame(kind byte, channel uint16, payload []byte, end byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(append(b, payload...), end)
}

func TestBehaviour16ChannelsMustBeOpened(t *testing.T) {
	_, address := startBroker(t)
	c := openRaw(t, address, rawOptions{})
	c.send(1, &amqp.BasicQos{PrefetchCount: 1})
	c.connectionError(504, "CHANNEL_ERROR - expected 'channel.open'")

	c = openChannelRaw(t, address)
	c.send(1, &amqp.ChannelOpen{})
	c.connectionError(504, "CHANNEL_ERROR - second 'channel.open' seen")

	c = openRaw(t, address, rawOptions{channelMax: 2})
	c.openChannel(1)
	c.openChannel(9) // Numbers may be any; it is their count that is limited.
	c.send(4, &amqp.ChannelOpen{})
	c.connectionError(530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)")
}

func TestBehaviour16ClosedChannelsMakeRoom(t *testing.T) {
	_, address := startBroker(t)
	c := openRaw(t, address, rawOptions{channelMax: 2})
	c.openChannel(2)
	for range 5 {
		c.openChannel(1)
		call[*amqp.ChannelCloseOk](c, &amqp.ChannelClose{})
	}
	for number := uint16(10); number < 15; number++ {
		c.openChannel(number)
		c.send(number, &amqp.ChannelClose{})
		receive[*amqp.ChannelCloseOk](c, number)
	}
}

func TestBehaviour17MalformedFrames(t *testing.T) {
	_, address := startBroker(t)
	header := func(class uint16, size uint64) []byte {
		b := binary.BigEndian.AppendUint16(nil, class)
		b = binary.BigEndian.AppendUint64(append(b, 0, 0), size)
		return append(b, 0, 0)
	}
	publish := amqp.AppendMethod(nil, 1, &amqp.BasicPublish{RoutingKey: "k"})
	const unexpected = "UNEXPECTED_FRAME - "
	for _, test := range []struct {
		name string
		sent []byte
		code uint16
		text string
	}{
		{"bad frame end", rawFrame(1, 1, []byte{0, 60, 0, 10}, 0), 501, "FRAME_ERROR - type 1, all octets = <<0,60,0,10>>: {invalid_frame_end_marker,0}"},
		{"unknown frame type", rawFrame(7, 1, []byte("abc"), 0xce), 501, "FRAME_ERROR - type 7, all octets = <<>>: unknown_frame"},
		{"oversized frame", rawFrame(3, 1, make([]byte, 131073), 0xce)[:7], 501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}"},
		{"heartbeat on a channel", rawFrame(8, 1, nil, 0xce), 505, unexpected + "type 8, all octets = <<>>"},
		{"header without a method", rawFrame(2, 1, header(60, 3), 0xce), 505, unexpected + "expected method frame, got non method frame instead"},
		{"body without a method", rawFrame(3, 1, []byte("abc"), 0xce), 505, unexpected + "expected method frame, got non method frame instead"},
		{"body on a channel that isn't open", rawFrame(3, 5, []byte("abc"), 0xce), 505, unexpected + "expected method frame, got non method frame instead"},
		{"method instead of a header", append(slices.Clone(publish), amqp.AppendMethod(nil, 1, &amqp.BasicQos{})...), 505,
			unexpected + "expected content header for class 60, got non content header frame instead"},
		{"body instead of a header", append(slices.Clone(publish), rawFrame(3, 1, []byte("abc"), 0xce)...), 505,
			unexpected + "expected content header for class 60, got non content header frame instead"},
		{"header instead of a body", append(slices.Clone(publish), slices.Repeat(rawFrame(2, 1, header(60, 3), 0xce), 2)...), 505,
			unexpected + "expected content body, got non content body frame instead"},
		{"header of another class", append(slices.Clone(publish), rawFrame(2, 1, header(50, 3), 0xce)...), 505,
			unexpected + "expected content header for class 60, got one for class 50 instead"},
		{"body longer than announced", append(append(slices.Clone(publish), rawFrame(2, 1, header(60, 3), 0xce)...), rawFrame(3, 1, []byte("abcd"), 0xce)...), 505,
			unexpected + "content body of 4 bytes is longer than the announced 3"},
		{"content on channel 0", rawFrame(3, 0, []byte("abc"), 0xce), 505, unexpected + "type 3, all octets = <<>>"},
		{"unknown method", rawFrame(1, 1, []byte{0, 99, 0, 1}, 0xce), 503, "COMMAND_INVALID - unknown method 1 of class 99"},
		{"method of a server", amqp.AppendMethod(nil, 1, &amqp.BasicQosOk{}), 503, "COMMAND_INVALID - unimplemented method"},
		{"connection's method on a channel", amqp.AppendMethod(nil, 1, &amqp.ConnectionClose{}), 503, "COMMAND_INVALID - unimplemented method"},
		{"channel's method on channel 0", amqp.AppendMethod(nil, 0, &amqp.BasicQos{}), 504, "CHANNEL_ERROR - unexpected method in connection state running"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := openChannelRaw(t, address)
			c.t = t
			c.write(test.sent)
			m := receive[*amqp.ConnectionClose](c, 0)
			if m.ReplyCode != test.code || m.ReplyText != test.text {
				t.Errorf("got %d %q, want %d %q", m.ReplyCode, m.ReplyText, test.code, test.text)
			}
		})
	}
}

func TestBehaviour18Tune(t *testing.T) {
	_, address := startBroker(t)
	c := dialRaw(t, address)
	c.login(rawOptions{})
	tune := receive[*amqp.ConnectionTune](c, 0)
	if want := (amqp.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60}); *tune != want {
		t.Errorf("tune %+v, want %+v", *tune, want)
	}
	// A client's 0 is no limit of its own: the broker's holds.
	c.send(0, &amqp.ConnectionTuneOk{}, &amqp.ConnectionOpen{VirtualHost: "/"})
	receive[*amqp.ConnectionOpenOk](c, 0)
	c.write(rawFrame(3, 1, make([]byte, 131073), 0xce)[:7])
	if m := receive[*amqp.ConnectionClose](c, 0); m.ReplyCode != 501 {
		t.Errorf("oversized frame: %+v", m)
	}
	for _, test := range []struct {
		ok   amqp.ConnectionTuneOk
		text string // "" where it is accepted
	}{
		{amqp.ConnectionTuneOk{ChannelMax: 1, FrameMax: 4096, Heartbeat: 1}, ""},
		{amqp.ConnectionTuneOk{ChannelMax: 1, FrameMax: 4095}, "NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"},
		{amqp.ConnectionTuneOk{ChannelMax: 1, FrameMax: 131073}, "NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"},
		{amqp.ConnectionTuneOk{ChannelMax: 2048, FrameMax: 4096}, "NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"},
	} {
		c := dialRaw(t, address)
		c.login(rawOptions{})
		receive[*amqp.ConnectionTune](c, 0)
		c.send(0, &test.ok, &amqp.ConnectionOpen{VirtualHost: "/"})
		if test.text == "" {
			receive[*amqp.ConnectionOpenOk](c, 0)
		} else if m := receive[*amqp.ConnectionClose](c, 0); m.ReplyText != test.text {
			t.Errorf("%+v: %q", test.ok, m.ReplyText)
		}
	}
}

func TestBehaviour18SmallFramesAreKept(t *testing.T) {
	_, address := startBroker(t)
	c := openRaw(t, address, rawOptions{frameMax: 4096})
	c.openChannel(1)
	c.declare("q")
	body := string(make([]byte, 100_000))
	c.publish("", "q", body)
	call[*amqp.BasicGetOk](c, &amqp.BasicGet{Queue: "q", NoAck: true})
	c.frame()
	for got := 0; got < len(body); {
		f := c.frame()
		if len(f.Payload)+8 > 4096 {
			t.Fatalf("a frame of %d bytes", len(f.Payload)+8)
		}
		got += len(f.Payload)
	}
}

func TestBehaviour19Login(t *testing.T) {
	_, address := startBroker(t)
	can := amqp.Table{"authentication_failure_close": true}
	for _, mechanism := range []string{"PLAIN", "AMQPLAIN"} {
		response := "\x00guest\x00wrong"
		if mechanism == "AMQPLAIN" {
			table, err := amqp.AppendTable(nil, amqp.Table{"LOGIN": "guest", "PASSWORD": "wrong"})
			if err != nil {
				t.Fatal(err)
			}
			response = string(table[4:])
		}
		c := dialRaw(t, address)
		c.login(rawOptions{mechanism: mechanism, response: response, capabilities: can})
		m := receive[*amqp.ConnectionClose](c, 0)
		want := "ACCESS_REFUSED - Login was refused using authentication mechanism " + mechanism + ". For details see the broker logfile."
		if m.ReplyCode != 403 || m.ReplyText != want {
			t.Errorf("%s: %d %q", mechanism, m.ReplyCode, m.ReplyText)
		}
		c = dialRaw(t, address)
		c.login(rawOptions{mechanism: mechanism, response: response})
		c.ended()
	}
	for name, o := range map[string]rawOptions{
		"a mechanism that isn't offered": {mechanism: "EXTERNAL", response: "x", capabilities: can},
		"a malformed PLAIN":              {mechanism: "PLAIN", response: "guest", capabilities: can},
		"an authorization identity":      {mechanism: "PLAIN", response: "guest\x00guest\x00guest", capabilities: can},
		"a malformed AMQPLAIN":           {mechanism: "AMQPLAIN", response: "\x05LOGINS", capabilities: can},
	} {
		t.Log(name)
		c := dialRaw(t, address)
		c.login(o)
		c.ended()
	}
	table, err := amqp.AppendTable(nil, amqp.Table{"LOGIN": "guest", "PASSWORD": "guest"})
	if err != nil {
		t.Fatal(err)
	}
	openRaw(t, address, rawOptions{user: "-", mechanism: "AMQPLAIN", response: string(table[4:])})
}

func TestBehaviour19UnknownVhost(t *testing.T) {
	_, address := startBroker(t)
	c := dialRaw(t, address)
	c.login(rawOptions{})
	receive[*amqp.ConnectionTune](c, 0)
	c.send(0, &amqp.ConnectionTuneOk{}, &amqp.ConnectionOpen{VirtualHost: "X"})
	if m := receive[*amqp.ConnectionClose](c, 0); m.ReplyCode != 530 || m.ReplyText != "NOT_ALLOWED - vhost X not found" {
		t.Errorf("%+v", m)
	}
}

func TestBehaviour20WrongProtocolHeader(t *testing.T) {
	_, address := startBroker(t)
	for _, header := range []string{"AMQP\x00\x01\x00\x00", "AMQP\x00\x00\x09\x02", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		socket, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := socket.Write([]byte(header)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(socket)
		if err != nil || string(answer) != amqp.ProtocolHeader {
			t.Errorf("%q is answered with %q, %v", header, answer, err)
		}
	}
}

func TestBehaviour20SilentClientIsDropped(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1), func(c *frontConfig) { c.handshakeTimeout = 50 * time.Millisecond })
	c := dialRaw(t, address)
	c.ended()
	c = dialRaw(t, address)
	c.write([]byte(amqp.ProtocolHeader))
	receive[*amqp.ConnectionStart](c, 0)
	c.ended()
}

func TestBehaviour25ServerProperties(t *testing.T) {
	_, address := startBroker(t)
	c := dialRaw(t, address)
	c.write([]byte(amqp.ProtocolHeader))
	start := receive[*amqp.ConnectionStart](c, 0)
	if start.VersionMajor != 0 || start.VersionMinor != 9 || start.Mechanisms != "PLAIN AMQPLAIN" || start.Locales != "en_US" {
		t.Errorf("%+v", start)
	}
	can, _ := start.ServerProperties["capabilities"].(amqp.Table)
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
		"consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
	} {
		if can[name] != true {
			t.Errorf("capability %s is %v", name, can[name])
		}
	}
	for _, name := range []string{"product", "version", "cluster_name"} {
		if s, ok := start.ServerProperties[name].(string); !ok || s == "" {
			t.Errorf("server property %s is %v", name, start.ServerProperties[name])
		}
	}
}

func TestBehaviour27UpdateSecret(t *testing.T) {
	_, address := startBroker(t)
	c := openRaw(t, address, rawOptions{})
	c.send(0, &amqp.ConnectionUpdateSecret{NewSecret: "new", Reason: "because"})
	receive[*amqp.ConnectionUpdateSecretOk](c, 0)
}

func TestBehaviour27Heartbeats(t *testing.T) {
	t.Parallel()
	_, address := serveFront(t, memoryBroker(t, 1))
	c := openRaw(t, address, rawOptions{heartbeat: 1})
	quiet := time.Now()
	// The client says nothing: it hears heartbeats, and after two intervals and
	// a half the end.
	beats := 0
	for {
		f, err := c.reader.Next()
		if err != nil {
			break
		}
		if f.Type != amqp.FrameHeartbeat || f.Channel != 0 || len(f.Payload) != 0 {
			t.Fatalf("frame %+v", f)
		}
		beats++
	}
	if took := time.Since(quiet); beats < 2 || took < 2*time.Second || took > 6*time.Second {
		t.Errorf("%d heartbeats and the end after %v", beats, took)
	}
}

func TestBehaviour27AnyTrafficCounts(t *testing.T) {
	t.Parallel()
	_, address := serveFront(t, memoryBroker(t, 1))
	c := openRaw(t, address, rawOptions{heartbeat: 1})
	c.openChannel(1)
	// Four seconds of methods, no heartbeat of ours.
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 8 {
		<-tick.C
		c.silent()
	}
}
