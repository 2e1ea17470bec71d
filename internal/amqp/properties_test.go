package amqp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// header makes a content header's payload.
func header(properties []byte, size uint64) []byte {
	frame := AppendHeader(nil, 1, size, properties)
	return frame[frameHeadSize : len(frame)-1]
}

func TestRandomPropertiesComeBackEqualAndByteForByte(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		p := randomProperties(r)
		encoded := p.Append(nil)
		class, size, raw, err := ParseHeader(header(encoded, 77))
		if err != nil || class != ClassBasic || size != 77 || !bytes.Equal(raw, encoded) {
			t.Fatalf("seed %d: %d, %d, %x, %v", seed, class, size, raw, err)
		}
		var back Properties
		if err := back.Parse(raw); err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("seed %d:\n%+v became\n%+v, %v", seed, p, back, err)
		}
		if again := back.Append(nil); !bytes.Equal(again, encoded) {
			t.Fatalf("seed %d: %x became %x", seed, encoded, again)
		}
		comparePeeks(t, raw, p)
		for n := range len(raw) {
			if err := back.Parse(raw[:n]); !isCode(err, CodeSyntaxError) || RawProperties(raw[:n]).valid() {
				t.Fatalf("seed %d: cut to %d of %d: %v", seed, n, len(raw), err)
			}
			// Nothing promised but not to panic.
			peekAll(raw[:n])
			RawProperties(raw[:n]).AppendWithInteger(nil, "k", 1)
		}
	}
}

// comparePeeks holds RawProperties' methods against the decoded properties.
func comparePeeks(t *testing.T, raw RawProperties, p Properties) {
	t.Helper()
	for flag, peek := range map[uint16]struct {
		get  func() ([]byte, bool)
		want string
	}{
		FlagContentType:   {raw.ContentType, p.ContentType},
		FlagCorrelationID: {raw.CorrelationID, p.CorrelationID},
		FlagReplyTo:       {raw.ReplyTo, p.ReplyTo},
		FlagExpiration:    {raw.Expiration, p.Expiration},
		FlagMessageID:     {raw.MessageID, p.MessageID},
		FlagUserID:        {raw.UserID, p.UserID},
	} {
		got, ok := peek.get()
		if string(got) != peek.want || ok != (p.Present&flag != 0) {
			t.Fatalf("flag %x: %q, %t, want %q", flag, got, ok, peek.want)
		}
	}
	if raw.DeliveryMode() != p.DeliveryMode || raw.Priority() != p.Priority {
		t.Fatalf("delivery mode %d, priority %d, want %d, %d", raw.DeliveryMode(), raw.Priority(), p.DeliveryMode, p.Priority)
	}
	if got, ok := raw.Timestamp(); ok != (p.Present&FlagTimestamp != 0) || ok && got != p.Timestamp {
		t.Fatalf("timestamp %v, %t, want %v", got, ok, p.Timestamp)
	}
	headers, ok := raw.Headers()
	if ok != (p.Present&FlagHeaders != 0) {
		t.Fatalf("headers: %t", ok)
	}
	if ok {
		if got, err := headers.Parse(); err != nil || len(got) != len(p.Headers) {
			t.Fatalf("headers %v, %v, want %v", got, err, p.Headers)
		}
	}
}

func peekAll(raw RawProperties) {
	raw.ContentType()
	raw.Headers()
	raw.DeliveryMode()
	raw.Priority()
	raw.CorrelationID()
	raw.ReplyTo()
	raw.Expiration()
	raw.MessageID()
	raw.Timestamp()
	raw.UserID()
}

func TestNewPropertiesNeedNoFlags(t *testing.T) {
	p := Properties{ContentType: "text/plain", DeliveryMode: 2, Headers: Table{"k": "v"}, Timestamp: time.Unix(1, 0).UTC(), AppID: "a"}
	var back Properties
	if err := back.Parse(p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if want := uint16(FlagContentType | FlagDeliveryMode | FlagHeaders | FlagTimestamp | FlagAppID); back.Present != want {
		t.Errorf("flags %016b, want %016b", back.Present, want)
	}
	p.Present = back.Present
	if !reflect.DeepEqual(back, p) {
		t.Errorf("got %+v", back)
	}
	// A property that is there but empty stays there; taking one out takes both.
	back.ContentType = ""
	if got := RawProperties(back.Append(nil)); got.Flags()&FlagContentType == 0 {
		t.Error("an empty content type is gone")
	}
	back.Present &^= FlagContentType
	if got := RawProperties(back.Append(nil)); got.Flags()&FlagContentType != 0 {
		t.Error("the content type is still there")
	}
	if got := (&Properties{}).Append(nil); !bytes.Equal(got, []byte{0, 0}) {
		t.Errorf("no properties are %x", got)
	}
}

func TestMalformedHeadersAreRefused(t *testing.T) {
	ok := header([]byte{0, 0}, 0)
	for name, c := range map[string]struct {
		payload []byte
		code    uint16
	}{
		"nothing":             {nil, CodeFrameError},
		"cut within the size": {ok[:10], CodeFrameError},
		"no flags":            {ok[:12], CodeFrameError},
		"class queue":         {append([]byte{0, 50}, ok[2:]...), CodeUnexpectedFrame},
		"weight 1":            {append([]byte{0, 60, 0, 1}, ok[4:]...), CodeUnexpectedFrame},
		"a continuation":      {header([]byte{0, 1, 0, 0}, 0), CodeSyntaxError},
		"an unused flag":      {header([]byte{0, 2}, 0), CodeSyntaxError},
		"padding":             {header([]byte{0, 0, 0}, 0), CodeSyntaxError},
		"a short string":      {header([]byte{0x80, 0, 5, 'a'}, 0), CodeSyntaxError},
		"a table's type":      {header([]byte("\x20\x00\x00\x00\x00\x03\x01aZ"), 0), CodeSyntaxError},
		"a table's length":    {header([]byte("\x20\x00\x00\x00\x00\x04\x01aV"), 0), CodeSyntaxError},
		"half a timestamp":    {header([]byte("\x00\x40\x00\x00\x00\x00"), 0), CodeSyntaxError},
	} {
		if _, _, _, err := ParseHeader(c.payload); !isCode(err, c.code) {
			t.Errorf("%s: %v, want code %d", name, err, c.code)
		}
	}
}

func TestAHeaderIsSetWithoutTouchingTheRest(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		p := randomProperties(r)
		if r.IntN(2) == 0 && p.Headers != nil {
			p.Headers["x-delivery-count"] = randomField(r, 1)
		}
		raw := RawProperties(p.Append(nil))
		got := raw.AppendWithInteger([]byte("head"), "x-delivery-count", -3)[4:]
		var back Properties
		if err := back.Parse(got); err != nil || !RawProperties(got).valid() {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if p.Headers == nil {
			p.Headers = Table{}
		}
		p.Headers["x-delivery-count"] = int64(-3)
		p.Present |= FlagHeaders
		if !reflect.DeepEqual(back, p) {
			t.Fatalf("seed %d:\ngot  %+v\nwant %+v", seed, back, p)
		}
		headers, _ := RawProperties(got).Headers()
		if f, ok := headers.Lookup("x-delivery-count"); !ok || int64(binary.BigEndian.Uint64(f.Bytes)) != -3 {
			t.Fatalf("seed %d: found %v", seed, f)
		}
	}
	if got := RawProperties([]byte{0x80, 0}).AppendWithInteger(nil, "k", 1); !bytes.Equal(got, []byte{0x80, 0}) {
		t.Errorf("malformed properties became %x", got)
	}
}

func TestABodyIsSplitByFrameMax(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 1000)
	for _, c := range []struct {
		frameMax uint32
		frames   int
	}{{0, 1}, {4096, 3}, {5008, 2}, {5007, 3}, {10008, 1}, {10007, 2}, {131072, 1}} {
		got := AppendContent([]byte("head"), 3, c.frameMax, []byte{0, 0}, body)
		if len(got) != 4+ContentSize(c.frameMax, 2, len(body)) {
			t.Errorf("frame max %d: %d bytes, ContentSize says %d", c.frameMax, len(got)-4, ContentSize(c.frameMax, 2, len(body)))
		}
		reader := NewReader(bytes.NewReader(got[4:]), 0)
		frame, err := reader.Next()
		if err != nil || frame.Type != FrameHeader || frame.Channel != 3 {
			t.Fatalf("frame max %d: %+v, %v", c.frameMax, frame, err)
		}
		var back []byte
		for range c.frames {
			frame, err := reader.Next()
			if err != nil || frame.Type != FrameBody || c.frameMax > 0 && len(frame.Payload)+8 > int(c.frameMax) {
				t.Fatalf("frame max %d: %+v, %v", c.frameMax, frame, err)
			}
			back = append(back, frame.Payload...)
		}
		if reader.Buffered() || !bytes.Equal(back, body) {
			t.Errorf("frame max %d: more frames, or other bytes", c.frameMax)
		}
	}
	if got := AppendContent(nil, 1, 4096, []byte{0, 0}, nil); len(got) != ContentSize(4096, 2, 0) || len(got) != 22 {
		t.Errorf("an empty body: %x", got)
	}
}
