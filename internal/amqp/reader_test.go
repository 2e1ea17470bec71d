package amqp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestTheReaderCutsFramesHoweverTheyArrive(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var stream []byte
	var want []Frame
	for range 300 {
		f := Frame{Type: uint8(1 + r.IntN(3)), Channel: uint16(r.Uint32()), Payload: []byte(randomText(r, 300))}
		switch r.IntN(20) {
		case 0:
			f = Frame{Type: FrameHeartbeat, Payload: []byte{}}
		case 1:
			f.Payload = bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(131072-8+1))
		}
		want = append(want, f)
		stream = AppendFrame(stream, f.Type, f.Channel, f.Payload)
	}
	for name, source := range map[string]io.Reader{
		"all at once":     bytes.NewReader(stream),
		"byte by byte":    iotest.OneByteReader(bytes.NewReader(stream)),
		"in halves":       iotest.HalfReader(bytes.NewReader(stream)),
		"EOF with data":   iotest.DataErrReader(bytes.NewReader(stream)),
		"in random parts": &randomReader{r, stream},
	} {
		t.Run(name, func(t *testing.T) {
			reader := NewReader(source, 131072)
			for i, f := range want {
				got, err := reader.Next()
				if err != nil || got.Type != f.Type || got.Channel != f.Channel || !bytes.Equal(got.Payload, f.Payload) {
					t.Fatalf("seed %d: frame %d: %d/%d with %d bytes, %v", seed, i, got.Type, got.Channel, len(got.Payload), err)
				}
			}
			for range 2 {
				if _, err := reader.Next(); err != io.EOF {
					t.Fatalf("seed %d: at the end: %v", seed, err)
				}
			}
			if reader.buffer != nil {
				t.Error("a buffer is held after the end")
			}
		})
	}
}

// randomReader returns its bytes in parts of random sizes, some empty.
type randomReader struct {
	random *rand.Rand
	rest   []byte
}

func (r *randomReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	longest := []int{1, 10, 5000, 200_000}[r.random.IntN(4)]
	n := copy(b, r.rest[:min(len(r.rest), r.random.IntN(longest+1))])
	r.rest = r.rest[n:]
	return n, nil
}

func TestMalformedFramesAreRefusedAsRabbitMQDoes(t *testing.T) {
	// The texts are RabbitMQ 3.10.8's answers, but for an unknown type, which
	// it refuses only when the payload is there.
	for _, c := range []struct{ name, bytes, text string }{
		{"17: bad end", "\x03\x00\x01\x00\x00\x00\x03abc\xcd", `FRAME_ERROR - type 3, all octets = <<"abc">>: {invalid_frame_end_marker,205}`},
		{"17: bad end of a long frame", "\x03\x00\x01\x00\x00\x00\x12" + strings.Repeat("\x01", 18) + "\xcd",
			"FRAME_ERROR - type 3, first 16 octets = <<1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1>>: {invalid_frame_end_marker,205}"},
		{"17: unknown type", "\x09\x00\x01\x00\x00\x00\x03", "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame"},
		{"17: type 0", "\x00\x00\x01\x00\x00\x00\x03", "FRAME_ERROR - type 0, all octets = <<>>: unknown_frame"},
		{"17: oversized", "\x03\x00\x01\x00\x02\x00\x01", "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}"},
		{"17: heartbeat on a channel", "\x08\x00\x01\x00\x00\x00\x00", "UNEXPECTED_FRAME - type 8, all octets = <<>>"},
		{"17: heartbeat with a payload", "\x08\x00\x00\x00\x00\x00\x01", "FRAME_ERROR - type 8, all octets = <<>>: unknown_frame"},
		{"another protocol", "GET / HTTP/1.1\r\n", "FRAME_ERROR - type 71, all octets = <<>>: {frame_too_large,539959368,131064}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := AppendHeartbeat(nil)
			stream = append(stream, c.bytes...)
			reader := NewReader(bytes.NewReader(stream), 131072)
			if _, err := reader.Next(); err != nil {
				t.Fatal(err)
			}
			if !reader.Buffered() {
				t.Error("the error needs no more bytes, but Buffered says so")
			}
			for range 2 {
				_, err := reader.Next()
				var e *Error
				if !errors.As(err, &e) || e.Text != c.text || !e.Connection {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestAPayloadMayBeAsLongAsFrameMax(t *testing.T) {
	// RabbitMQ forgives eight octets.
	reader := NewReader(bytes.NewReader(AppendFrame(nil, FrameBody, 1, make([]byte, 4096))), 4096)
	if f, err := reader.Next(); err != nil || len(f.Payload) != 4096 {
		t.Errorf("%d bytes, %v", len(f.Payload), err)
	}
	reader = NewReader(bytes.NewReader(AppendFrame(nil, FrameBody, 1, make([]byte, 4097))), 4096)
	if _, err := reader.Next(); !isCode(err, CodeFrameError) {
		t.Error(err)
	}
	reader = NewReader(bytes.NewReader(AppendFrame(nil, FrameBody, 1, make([]byte, 1<<20))), 4096)
	reader.SetMaxFrame(0)
	if f, err := reader.Next(); err != nil || len(f.Payload) != 1<<20 {
		t.Errorf("%d bytes, %v", len(f.Payload), err)
	}
}

func TestAStreamThatEndsWithinAFrame(t *testing.T) {
	frame := AppendFrame(nil, FrameBody, 1, []byte("body"))
	for n := 1; n < len(frame); n++ {
		if _, err := NewReader(bytes.NewReader(frame[:n]), 0).Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := NewReader(bytes.NewReader(nil), 0).Next(); err != io.EOF {
		t.Error(err)
	}
}

func TestTheProtocolHeader(t *testing.T) {
	for header, want := range map[string]error{
		"AMQP\x00\x00\x09\x01":     nil,
		"AMQP\x01\x01\x00\x09":     nil,
		"AMQP\x01\x01\x09\x01":     nil,
		"AMQP\x00\x00\x09\x01rest": nil,
		"AMQP\x00\x00\x08\x00":     ErrProtocolHeader,
		"AMQP\x03\x01\x00\x00":     ErrProtocolHeader,
		"GET / HTTP/1.1":           ErrProtocolHeader,
		"AMQP":                     io.ErrUnexpectedEOF,
		"":                         io.EOF,
	} {
		if err := NewReader(iotest.OneByteReader(strings.NewReader(header)), 4096).ProtocolHeader(); err != want {
			t.Errorf("%q: %v, want %v", header, err, want)
		}
	}
	reader := NewReader(bytes.NewReader(AppendHeartbeat([]byte(ProtocolHeader))), 4096)
	if err := reader.ProtocolHeader(); err != nil {
		t.Fatal(err)
	}
	if f, err := reader.Next(); err != nil || f.Type != FrameHeartbeat {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBufferedTellsWhenNextMayBlock(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	two := AppendHeartbeat(AppendFrame(nil, FrameBody, 1, []byte("body")))
	reader := NewReader(server, 4096)
	if reader.Buffered() {
		t.Error("buffered before anything came")
	}
	go client.Write(append(two, two[:9]...))
	for i, want := range []bool{true, false} {
		if _, err := reader.Next(); err != nil {
			t.Fatal(err)
		}
		if reader.Buffered() != want {
			t.Errorf("after frame %d: %t", i, !want)
		}
	}
	go client.Write(two[9:12])
	if f, err := reader.Next(); err != nil || string(f.Payload) != "body" || reader.Buffered() {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestADeadlineLosesNoByte(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := pair[0], pair[1]
			frame := AppendFrame(nil, FrameBody, 1, bytes.Repeat([]byte("x"), 5000))
			reader := NewReader(server, 131072)
			for cut := 0; cut < len(frame); cut += 1000 {
				end := min(cut+1000, len(frame))
				written := make(chan error, 1)
				go func() { _, err := client.Write(frame[cut:end]); written <- err }()
				if end == len(frame) {
					break
				}
				idleWith(t, reader, server, end)
				if err := <-written; err != nil {
					t.Fatal(err)
				}
			}
			server.SetReadDeadline(time.Time{})
			if f, err := reader.Next(); err != nil || len(f.Payload) != 5000 {
				t.Fatalf("%d bytes, %v", len(f.Payload), err)
			}
			server.SetReadDeadline(time.Now().Add(-time.Second))
			if _, err := reader.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			server.Close()
			if _, err := reader.Next(); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				t.Fatal(err)
			}
		})
	}
}

// idleWith lets the reader run into deadlines until it has unread bytes, and
// once at least.
func idleWith(t *testing.T, reader *Reader, server net.Conn, unread int) {
	t.Helper()
	for first := true; first || len(reader.unread()) < unread; first = false {
		server.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := reader.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
}

// pairs makes a connection of each kind that a Reader treats differently.
func pairs(t *testing.T) map[string][2]net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	t.Cleanup(func() {
		for _, c := range []net.Conn{dialled, accepted, a, b} {
			c.Close()
		}
	})
	return map[string][2]net.Conn{"TCP": {dialled, accepted}, "pipe": {a, b}}
}

func TestAnIdleConnectionHoldsLittle(t *testing.T) {
	for name, pair := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := pair[0], pair[1]
			load := bytes.Repeat(AppendFrame(nil, FrameBody, 1, make([]byte, 1000)), 1000)
			go client.Write(load)
			reader := NewReader(server, 131072)
			largest := 0
			for range 1000 {
				if _, err := reader.Next(); err != nil {
					t.Fatal(err)
				}
				largest = max(largest, len(reader.buffer.bytes))
			}
			// How much a socket's read brings is the kernel's choice.
			if name == "pipe" && largest != bufferSizes[largestTier] {
				t.Errorf("under load the buffer grew to %d bytes only", largest)
			}
			// Idle in the middle of a small frame.
			go client.Write([]byte{FrameMethod, 0, 1, 0, 0, 0, 4, 1})
			idleWith(t, reader, server, 8)
			if held := len(reader.buffer.bytes); held > 4096 {
				t.Errorf("idle with part of a frame, it holds %d bytes", held)
			}
			go client.Write([]byte{2, 3, 4, FrameEnd})
			server.SetReadDeadline(time.Time{})
			if f, err := reader.Next(); err != nil || !bytes.Equal(f.Payload, []byte{1, 2, 3, 4}) {
				t.Fatalf("%+v, %v", f, err)
			}
			idleWith(t, reader, server, 0)
			if name == "TCP" && reader.buffer != nil {
				t.Errorf("idle, it holds %d bytes", len(reader.buffer.bytes))
			}
			if name != "TCP" && len(reader.buffer.bytes) > 4096 {
				t.Errorf("idle, it holds %d bytes", len(reader.buffer.bytes))
			}
		})
	}
}

func TestAClaimedSizeAllocatesNothing(t *testing.T) {
	head := []byte{FrameBody, 0, 1, 0xff, 0xff, 0xff, 0xf0, 'x'}
	reader := NewReader(bytes.NewReader(head), 0)
	allocated := testing.AllocsPerRun(1, func() { reader.Next() })
	if len(reader.unread()) > 0 || allocated > 4 {
		t.Errorf("%v allocations", allocated)
	}
	// A body of 1 MiB in frames above the largest pool: memory follows what came.
	reader = NewReader(iotest.OneByteReader(bytes.NewReader(AppendFrame(nil, FrameBody, 1, make([]byte, 1<<20)))), 0)
	if f, err := reader.Next(); err != nil || len(f.Payload) != 1<<20 || len(reader.buffer.bytes) > 4<<20 {
		t.Errorf("%d bytes in %d, %v", len(f.Payload), len(reader.buffer.bytes), err)
	}
}

func TestTenThousandIdleReadersCostLittle(t *testing.T) {
	// Streams that are no sockets, as TLS is, which hold the smallest buffer.
	before := heap()
	readers := make([]*Reader, 10_000)
	for i := range readers {
		readers[i] = NewReader(&dataThenError{AppendHeartbeat(nil), os.ErrDeadlineExceeded}, 131072)
		if _, err := readers[i].Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := readers[i].Next(); err != os.ErrDeadlineExceeded {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / len(readers); each > 5000 {
		t.Errorf("%d bytes a reader", each)
	}
	runtime.KeepAlive(readers)
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestAStreamThatGivesNothingForeverIsGivenUp(t *testing.T) {
	if _, err := NewReader(emptyReader{}, 0).Next(); err != io.ErrNoProgress {
		t.Error(err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestAnErrorThatComesWithBytesComesAfterThem(t *testing.T) {
	broken := errors.New("broken")
	reader := NewReader(&dataThenError{AppendHeartbeat(nil), broken}, 0)
	if f, err := reader.Next(); err != nil || f.Type != FrameHeartbeat {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := reader.Next(); err != broken {
		t.Error(err)
	}
}

type dataThenError struct {
	data []byte
	err  error
}

func (d *dataThenError) Read(b []byte) (int, error) {
	n := copy(b, d.data)
	d.data = d.data[n:]
	return n, d.err
}

func TestTheFrameHeadIsBigEndian(t *testing.T) {
	frame := AppendFrame(nil, FrameBody, 0x0102, make([]byte, 0x030405))
	if binary.BigEndian.Uint16(frame[1:]) != 0x0102 || binary.BigEndian.Uint32(frame[3:]) != 0x030405 || frame[len(frame)-1] != 206 {
		t.Errorf("%x", frame[:7])
	}
}
