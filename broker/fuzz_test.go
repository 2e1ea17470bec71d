package broker

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// pipeEnd is an end of a net.Pipe that says it comes from loopback, as guest has to.
type pipeEnd struct{ net.Conn }

func (pipeEnd) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5672} }
func (pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }

// opening is what a client sends to get a connection with channel 1 open.
func opening() []byte {
	b := []byte(amqp.ProtocolHeader)
	for _, m := range []amqp.Method{
		&amqp.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"},
		&amqp.ConnectionTuneOk{ChannelMax: 10, FrameMax: 4096},
		&amqp.ConnectionOpen{VirtualHost: "/"},
	} {
		b = amqp.AppendMethod(b, 0, m)
	}
	return amqp.AppendMethod(b, 1, &amqp.ChannelOpen{})
}

// wrapped takes bytes as pieces, a type and a length before each, and puts each
// into a valid frame on channel 1: so a fuzzer gets beyond the framing.
func wrapped(input []byte) (out []byte) {
	for len(input) > 2 {
		kind, n := 1+input[0]%3, min(int(input[1]), len(input)-2)
		out = append(out, rawFrame(kind, 1, input[2:2+n], amqp.FrameEnd)...)
		input = input[2+n:]
	}
	return out
}

// FuzzConnection sends any bytes to the port, from the start or once channel 1
// is open, there as they are or put into frames. Whatever they are, the connection ends when the client goes, and
// the next client is served.
func FuzzConnection(f *testing.F) {
	b := memoryBroker(f, 2)
	server := newFront(b, testFrontConfig(b))
	frames := func(methods ...amqp.Method) (out []byte) {
		for _, m := range methods {
			out = amqp.AppendMethod(out, 1, m)
		}
		return out
	}
	publish := amqp.AppendContent(frames(&amqp.BasicPublish{RoutingKey: "q"}), 1, 4096, []byte{0, 0}, []byte("body"))
	f.Add(uint8(0), []byte("AMQP\x00\x01\x00\x00"))
	f.Add(uint8(0), opening())
	f.Add(uint8(1), frames(&amqp.QueueDeclare{Queue: "q", Durable: true}))
	f.Add(uint8(1), append(frames(&amqp.ConfirmSelect{}), publish...))
	f.Add(uint8(1), append(frames(&amqp.TxSelect{}), append(publish, frames(&amqp.TxCommit{}, &amqp.TxRollback{})...)...))
	f.Add(uint8(1), frames(&amqp.BasicConsume{Queue: "q"}, &amqp.BasicAck{DeliveryTag: 1}, &amqp.BasicNack{Multiple: true}))
	f.Add(uint8(1), frames(&amqp.BasicGet{Queue: "q"}, &amqp.BasicRecover{Requeue: true}, &amqp.ChannelClose{}, &amqp.ChannelOpen{}))
	f.Add(uint8(1), frames(&amqp.ExchangeDeclare{Exchange: "x", Type: "topic"}, &amqp.QueueBind{Queue: "q", Exchange: "x", RoutingKey: "#"}))
	f.Add(uint8(1), append(publish, frames(&amqp.QueueDelete{Queue: "q"}, &amqp.QueuePurge{Queue: "q"})...))
	for _, m := range []amqp.Method{
		&amqp.QueueDeclare{Queue: "q", Durable: true, Arguments: amqp.Table{"x-queue-type": "quorum"}},
		&amqp.BasicConsume{Queue: "q", ConsumerTag: "t", Arguments: amqp.Table{"x-priority": int32(1)}},
		&amqp.ExchangeDeclare{Exchange: "x", Type: "headers", Arguments: amqp.Table{"alternate-exchange": "amq.fanout"}},
		&amqp.QueueBind{Queue: "q", Exchange: "x", Arguments: amqp.Table{"x-match": "any", "a": "b"}},
		&amqp.BasicPublish{Exchange: "x", Mandatory: true},
	} {
		payload := amqp.AppendMethod(nil, 1, m)[7:]
		payload = payload[:len(payload)-1]
		f.Add(uint8(2), append([]byte{0, byte(len(payload))}, payload...))
	}
	f.Fuzz(func(t *testing.T, mode uint8, input []byte) {
		here, there := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			server.newConn(pipeEnd{there}).serve(context.Background())
		}()
		var reading sync.WaitGroup
		reading.Go(func() { io.Copy(io.Discard, here) })
		switch mode % 3 {
		case 1:
			input = append(opening(), input...)
		case 2:
			input = append(opening(), wrapped(input)...)
		}
		here.SetWriteDeadline(time.Now().Add(patience))
		here.Write(input)
		here.Close()
		select {
		case <-served:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		reading.Wait()
	})
}
