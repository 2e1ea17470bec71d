package amqp

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"
)

// What decodes must encode to the same bytes. Where bytes say the same in
// more than one way (the order and repetition of a table's keys, types l and
// L, truths other than 1, unused bits, reserved fields), what they encode to
// must be a fixed point, and not another value.

func FuzzTable(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b, _ := AppendTable(nil, randomTable(r, 3))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		table, rest, err := ParseTable(b)
		content, _, whole := cutLong(b)
		if valid := whole && validTable(content, 0); valid != (err == nil) {
			t.Fatalf("parsed with %v, valid: %t", err, valid)
		}
		RawTable(b).Lookup("k")
		if err != nil {
			if !errors.Is(err, ErrTable) {
				t.Fatal(err)
			}
			return
		}
		encoded, err := AppendTable(nil, table)
		if err != nil {
			t.Fatal(err)
		}
		if canonical(content) && !bytes.Equal(encoded, b[:len(b)-len(rest)]) {
			t.Fatalf("%x became %x", b[:len(b)-len(rest)], encoded)
		}
		again, rest, err := ParseTable(encoded)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%v, %x left", err, rest)
		}
		if twice, err := AppendTable(nil, again); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("%x became %x, %v", encoded, twice, err)
		}
		for key, value := range table {
			field, ok := RawTable(content).Lookup(key)
			got, err := field.Value()
			if !ok || err != nil || !sameEncoding(got, value) {
				t.Fatalf("%q: found %v, %v, parsed %v", key, got, err, value)
			}
		}
	})
}

// sameEncoding compares values; unlike DeepEqual it takes NaN for NaN.
func sameEncoding(a, b any) bool {
	x, err1 := appendField(nil, a, 0)
	y, err2 := appendField(nil, b, 0)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// canonical reports whether a valid table's content is the one that
// AppendTable makes.
func canonical(b []byte) bool {
	var last []byte
	for first := true; len(b) > 0; first = false {
		key, kind, value, rest, _ := cutEntry(b)
		if !first && bytes.Compare(last, key) >= 0 || !canonicalField(kind, value) {
			return false
		}
		last, b = key, rest
	}
	return true
}

func canonicalField(kind byte, value []byte) bool {
	switch kind {
	case 'L':
		return false
	case 't':
		return value[0] <= 1
	case 'F':
		return canonical(value)
	case 'A':
		for len(value) > 0 {
			k, v, rest, _ := cutField(value)
			if !canonicalField(k, v) {
				return false
			}
			value = rest
		}
	}
	return true
}

func FuzzMethod(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, m := range allMethods() {
		f.Add(AppendMethod(nil, 0, m)[7:11])
		fillRandom(r, m)
		frame := AppendMethod(nil, 0, m)
		f.Add(frame[7 : len(frame)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMethod(b)
		compareViews(t, b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Text) > 255 || !e.Connection {
				t.Fatalf("%v", err)
			}
			return
		}
		encoded := append(append([]byte{}, b[:4]...), m.Append(nil)...)
		again, err := ParseMethod(encoded)
		if err != nil || again.ID() != m.ID() {
			t.Fatalf("%+v became %v", m, err)
		}
		if twice := append(append([]byte{}, b[:4]...), again.Append(nil)...); !bytes.Equal(twice, encoded) {
			t.Fatalf("%x became %x", encoded, twice)
		}
		// Without reserved fields and tables, only unused bits can differ.
		switch m.ID() {
		case IDBasicDeliver, IDBasicAck, IDBasicNack, IDBasicReturn, IDConnectionClose, IDBasicCancel, IDQueueDeclareOk:
			if len(encoded) != len(b) {
				t.Fatalf("%x became %x", b, encoded)
			}
			for i := range b {
				if b[i]&encoded[i] != encoded[i] {
					t.Fatalf("%x became %x", b, encoded)
				}
			}
		}
	})
}

// compareViews holds each view against its method.
func compareViews(t *testing.T, b []byte) {
	t.Helper()
	id, arguments, err := CutMethod(b)
	if err != nil {
		return
	}
	full := newMethod(id)
	var got Method
	switch id {
	case IDBasicPublish:
		var v PublishView
		err = v.Parse(arguments)
		got = &BasicPublish{string(v.Exchange), string(v.RoutingKey), v.Mandatory, v.Immediate}
	case IDBasicDeliver:
		var v DeliverView
		err = v.Parse(arguments)
		got = &BasicDeliver{string(v.ConsumerTag), v.DeliveryTag, v.Redelivered, string(v.Exchange), string(v.RoutingKey)}
	case IDBasicAck:
		var v AckView
		err = v.Parse(arguments)
		got = (*BasicAck)(&v)
	case IDBasicNack:
		var v NackView
		err = v.Parse(arguments)
		got = (*BasicNack)(&v)
	case IDBasicReject:
		var v RejectView
		err = v.Parse(arguments)
		got = (*BasicReject)(&v)
	default:
		return
	}
	if want := full.Parse(arguments); (want == nil) != (err == nil) || err == nil && !reflect.DeepEqual(got, full) {
		t.Fatalf("the view says %+v, %v; the method %+v, %v", got, err, full, want)
	}
}

func FuzzHeader(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 20 {
		p := randomProperties(r)
		f.Add(header(p.Append(nil), r.Uint64()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		class, size, raw, err := ParseHeader(b)
		if len(b) >= 12 {
			peekAll(b[12:])
			RawProperties(b[12:]).AppendWithInteger(nil, "k", 1)
		}
		var p Properties
		if err != nil {
			if len(b) >= 14 && class == ClassBasic && p.Parse(b[12:]) == nil {
				t.Fatalf("refused with %v, but decoded", err)
			}
			return
		}
		if !bytes.Equal(header(raw, size), b) || class != ClassBasic {
			t.Fatalf("%x became %x", b, header(raw, size))
		}
		if err := p.Parse(raw); err != nil {
			t.Fatalf("valid, but %v", err)
		}
		encoded := p.Append(nil)
		headers, _ := RawProperties(raw).Headers()
		if canonical(headers) && !bytes.Equal(encoded, raw) {
			t.Fatalf("%x became %x", raw, encoded)
		}
		comparePeeks(t, encoded, p)
		set := RawProperties(raw).AppendWithInteger(nil, "k", 1)
		var q Properties
		if err := q.Parse(set); err != nil || q.Headers["k"] != int64(1) {
			t.Fatalf("set: %+v, %v", q, err)
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("AMQP\x00\x00\x09\x01\x08\x00\x00\x00\x00\x00\x00\xce"), uint16(3), uint64(1))
	f.Add(AppendContent(nil, 1, 20, []byte{0, 0}, make([]byte, 100)), uint16(20), uint64(2))
	f.Fuzz(func(t *testing.T, stream []byte, maxFrame uint16, seed uint64) {
		// However the stream is cut, the frames are those of the whole.
		reader := NewReader(&randomReader{rand.New(rand.NewPCG(seed, 0)), stream}, uint32(maxFrame))
		rest := stream
		for {
			frame, err := reader.Next()
			want, size, wantErr := cutFrame(rest, reader.maxPayload)
			if err != nil {
				end := io.ErrUnexpectedEOF
				if len(rest) == 0 {
					end = io.EOF
				}
				if wantErr == nil && (size > 0 || err != end) || wantErr != nil && err.Error() != wantErr.Error() {
					t.Fatalf("%v, want %v", err, wantErr)
				}
				return
			}
			if wantErr != nil || !reflect.DeepEqual(frame, want) {
				t.Fatalf("%+v, want %+v, %v", frame, want, wantErr)
			}
			if again := AppendFrame(nil, frame.Type, frame.Channel, frame.Payload); !bytes.Equal(again, rest[:size]) {
				t.Fatalf("%x became %x", rest[:size], again)
			}
			rest = rest[size:]
		}
	})
}
