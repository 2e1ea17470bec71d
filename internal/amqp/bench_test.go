package amqp

import (
	"fmt"
	"net"
	"testing"
)

// BenchmarkReceive is a publish of 1 KiB, an ack, a nack and a reject, read,
// parsed and checked.
func BenchmarkReceive(b *testing.B) {
	traffic := hotTraffic()
	reader := NewReader(&endless{bytes: traffic}, 131072)
	b.SetBytes(int64(len(traffic)))
	b.ReportAllocs()
	for b.Loop() {
		receive(b, reader)
	}
}

// BenchmarkReceiveTCP is the same through a loopback socket that a writer
// keeps full.
func BenchmarkReceiveTCP(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	traffic := hotTraffic()
	done := make(chan struct{})
	go func() {
		defer close(done)
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return
		}
		defer client.Close()
		var many []byte
		for range 100 {
			many = append(many, traffic...)
		}
		for err == nil {
			_, err = client.Write(many)
		}
	}()
	server, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	reader := NewReader(server, 131072)
	b.SetBytes(int64(len(traffic)))
	b.ReportAllocs()
	for b.Loop() {
		receive(b, reader)
	}
	server.Close()
	<-done
}

func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{0, 1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			properties := (&Properties{DeliveryMode: 2, ContentType: "application/json"}).Append(nil)
			body := make([]byte, size)
			exchange, key := []byte("exchange"), []byte("key")
			out := make([]byte, 0, 2<<20)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				out = AppendDeliver(out[:0], 1, "consumer-tag", 12345, false, exchange, key)
				out = AppendContent(out, 1, 131072, properties, body)
			}
		})
	}
}

func BenchmarkProperties(b *testing.B) {
	p := Properties{
		DeliveryMode: 2, ContentType: "application/json", MessageID: "0123456789", AppID: "bench",
		Headers: Table{"trace": "0123456789abcdef", "retry": int32(3), "x-delivery-count": int64(1)},
	}
	raw := RawProperties(p.Append(nil))
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		var p Properties
		for b.Loop() {
			if err := p.Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !raw.valid() {
				b.Fatal("invalid")
			}
		}
	})
	b.Run("peek", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if id, ok := raw.MessageID(); !ok || len(id) != 10 {
				b.Fatal("misread")
			}
		}
	})
	b.Run("set", func(b *testing.B) {
		b.ReportAllocs()
		var dst []byte
		for b.Loop() {
			dst = raw.AppendWithInteger(dst[:0], "x-delivery-count", 2)
		}
	})
}

func BenchmarkTable(b *testing.B) {
	table := Table{"x-queue-type": "quorum", "x-max-length": int32(1000), "x-dead-letter-exchange": "dlx", "x-expires": int64(60000)}
	encoded, err := AppendTable(nil, table)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		var dst []byte
		for b.Loop() {
			dst, _ = AppendTable(dst[:0], table)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ParseTable(encoded)
		}
	})
}
