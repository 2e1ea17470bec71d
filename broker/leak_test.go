package broker

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

func TestStopLeavesNoGoroutine(t *testing.T) {
	b := memoryBroker(t, 1)
	before := goleak.IgnoreCurrent()
	f := newFront(b, testFrontConfig(b))
	l := listenLoopback(t)
	served := make(chan error, 1)
	go func() { served <- f.Serve(l) }()
	address := l.Addr().String()
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	c.publish("", "q", "body")
	c.delivery()
	lost := openRaw(t, address, rawOptions{heartbeat: 1})
	lost.socket.Close()
	dialRaw(t, address)
	go func() {
		receive[*amqp.ConnectionClose](c, 0)
		c.send(0, &amqp.ConnectionCloseOk{})
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.Stop(ctx, "over")
	if err := <-served; err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}
