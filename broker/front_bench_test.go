package broker

import (
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// BenchmarkFront is a message's whole way through the front: published with a
// confirm on one connection, delivered and acked on another, 1 KiB, windows of
// 500, over a group in memory. The clients take part of the time.
func BenchmarkFront(b *testing.B) {
	_, address := serveFront(b, memoryBroker(b, 1))
	const window = 500
	p, c := openChannelRaw(b, address), openChannelRaw(b, address)
	for _, client := range []*rawClient{p, c} {
		if err := client.socket.SetDeadline(noDeadline); err != nil {
			b.Fatal(err)
		}
	}
	p.declare("q", durableQueue)
	call[*amqp.ConfirmSelectOk](p, &amqp.ConfirmSelect{})
	call[*amqp.BasicQosOk](c, &amqp.BasicQos{PrefetchCount: window})
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	message := amqp.AppendPublish(nil, 1, nil, []byte("q"), false)
	message = amqp.AppendContent(message, 1, 131072, []byte{0x10, 0, 2}, make([]byte, 1024))
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	consumed := make(chan struct{})
	go func() {
		defer close(consumed)
		consumeBench(c, b.N)
	}()
	var batch []byte
	for sent, confirmed := 0, 0; confirmed < b.N; {
		batch = batch[:0]
		for sent < b.N && sent-confirmed < window {
			batch = append(batch, message...)
			sent++
		}
		p.write(batch)
		f := p.frame()
		for {
			var v amqp.AckView
			if err := v.Parse(f.Payload[4:]); err != nil {
				b.Error(err)
				return
			}
			confirmed = max(confirmed, int(v.DeliveryTag))
			if !p.reader.Buffered() {
				break
			}
			f = p.frame()
		}
	}
	<-consumed
}

// consumeBench acks n deliveries one by one.
func consumeBench(c *rawClient, n int) {
	var acks []byte
	for tag := uint64(0); tag < uint64(n); {
		f, err := c.reader.Next()
		if err != nil {
			c.t.Error(err)
			return
		}
		if f.Type == amqp.FrameBody {
			tag++
			acks = amqp.AppendAck(acks, 1, tag, false)
		}
		if !c.reader.Buffered() {
			if _, err := c.socket.Write(acks); err != nil {
				c.t.Error(err)
				return
			}
			acks = acks[:0]
		}
	}
}

// BenchmarkRouteCache is what finding the route of a publish costs when it was
// used before, and when another was used last.
func BenchmarkRouteCache(b *testing.B) {
	broker := memoryBroker(b, 1)
	server := newFront(broker, testFrontConfig(broker))
	c := &conn{front: server, user: "guest", vhost: "/"}
	c.out.init()
	keys := [][]byte{[]byte("a"), []byte("b")}
	for name, step := range map[string]int{"same": 0, "other": 1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i += step {
				if _, err := c.routes.find(c, nil, keys[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
