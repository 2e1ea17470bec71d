package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

func newOutbox() *outbox {
	o := new(outbox)
	o.init()
	return o
}

// shown prints a batch: d for a delivery, method names for the rest.
func shown(t *testing.T, b batch) string {
	t.Helper()
	var out []string
	control, deliveries := b.control, b.deliveries
	for _, s := range b.order {
		r := amqp.NewReader(strings.NewReader(string(control[:s.control])), 0)
		for {
			f, err := r.Next()
			if err != nil {
				break
			}
			if f.Type == amqp.FrameHeartbeat {
				out = append(out, "heartbeat")
				continue
			}
			m, err := amqp.ParseMethod(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(m.ID()))
		}
		for _, d := range deliveries[:s.deliveries] {
			out = append(out, fmt.Sprint("d", d.message))
		}
		control, deliveries = control[s.control:], deliveries[s.deliveries:]
	}
	if len(control)+len(deliveries) > 0 {
		t.Errorf("%d bytes and %d deliveries without a place", len(control), len(deliveries))
	}
	return strings.Join(out, " ")
}

func TestOutboxKeepsTheOrder(t *testing.T) {
	o := newOutbox()
	o.method(1, &amqp.BasicConsumeOk{})
	o.mu.Lock()
	o.putDelivery(delivery{message: 1})
	o.putDelivery(delivery{message: 2})
	o.mu.Unlock()
	o.method(1, &amqp.BasicCancelOk{})
	o.method(1, &amqp.BasicQosOk{})
	b, ok := o.take(batch{})
	if got := shown(t, b); !ok || got != "basic.consume-ok d1 d2 basic.cancel-ok basic.qos-ok" {
		t.Errorf("%v %q", ok, got)
	}
}

func TestOutboxPutsConfirmsBehindReturns(t *testing.T) {
	o := newOutbox()
	c := &confirms{channel: 1}
	o.mu.Lock()
	c.settle(1, 3, false)
	o.confirmed(c)
	o.mu.Unlock()
	o.frames(amqp.AppendMethod(nil, 1, &amqp.BasicReturn{}))
	o.mu.Lock()
	c.settle(4, 4, false)
	o.confirmed(c)
	o.mu.Unlock()
	b, _ := o.take(batch{})
	if got := shown(t, b); got != "basic.return basic.ack" {
		t.Errorf("%q", got)
	}
	o.method(1, &amqp.BasicQosOk{})
	if b, _ = o.take(b); shown(t, b) != "basic.qos-ok" {
		t.Errorf("%q", shown(t, b))
	}
}

func TestOutboxHeartbeatOnlyWhenIdle(t *testing.T) {
	o := newOutbox()
	o.heartbeat()
	o.heartbeat()
	b, _ := o.take(batch{})
	if got := shown(t, b); got != "heartbeat" {
		t.Errorf("%q", got)
	}
}

func TestOutboxEndsWhenAllIsTaken(t *testing.T) {
	o := newOutbox()
	o.method(0, &amqp.ConnectionCloseOk{})
	o.end()
	o.method(1, &amqp.BasicQosOk{})
	b, ok := o.take(batch{})
	if got := shown(t, b); !ok || got != "connection.close-ok" {
		t.Errorf("%v %q", ok, got)
	}
	if _, ok := o.take(b); ok {
		t.Error("there is more after the end")
	}
}

func TestOutboxKillWakesEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		o.block("low on memory", false)
		o.publishes()
		o.depart(maxInFlightBytes)
		var waiting sync.WaitGroup
		waiting.Go(func() { o.take(batch{}) })
		waiting.Go(func() { o.mayRead() })
		waiting.Go(func() { o.depart(1) })
		synctest.Wait()
		o.kill()
		waiting.Wait()
	})
}

func TestReaderWaitsForAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		returned := make([]byte, 64<<10)
		for range maxControlBytes/len(returned) + 1 {
			o.frames(returned)
		}
		if !o.pressed.Load() {
			t.Error("the reader isn't told to look")
		}
		went := false
		var reader sync.WaitGroup
		reader.Go(func() { o.mayRead(); went = true })
		synctest.Wait()
		if went {
			t.Error("the reader goes on")
		}
		b, _ := o.take(batch{})
		synctest.Wait()
		if went {
			t.Error("the reader goes on although nothing is written yet")
		}
		go o.take(b) // The writer is back for more: all is written.
		reader.Wait()
		if o.pressed.Load() {
			t.Error("the reader still has to look")
		}
		o.kill()
	})
}

func TestInFlightIsBoundedInBytesAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		o.depart(maxInFlightBytes * 3) // Alone, a larger one may go.
		departed := make(chan bool)
		go func() { o.depart(1); departed <- true }()
		select {
		case <-departed:
			t.Error("another one goes while a large one is on its way")
		case <-time.After(time.Second):
		}
		o.mu.Lock()
		o.arrived(maxInFlightBytes * 3)
		o.mu.Unlock()
		<-departed
		for range maxInFlightCount - 1 {
			o.depart(1)
		}
		go func() { o.depart(1); departed <- true }()
		select {
		case <-departed:
			t.Error("too many go")
		case <-time.After(time.Second):
		}
		o.mu.Lock()
		o.arrived(1)
		o.mu.Unlock()
		<-departed
	})
}

func TestIdleOutboxKeepsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox()
		o.frames(make([]byte, 1<<20))
		o.mu.Lock()
		for range 1000 {
			o.putDelivery(delivery{})
		}
		o.mu.Unlock()
		b, _ := o.take(batch{})
		go o.take(b)
		synctest.Wait()
		o.mu.Lock()
		kept := cap(o.mu.next.control) + cap(o.mu.next.deliveries)
		o.mu.Unlock()
		if kept > idleControl+idleDeliveries {
			t.Errorf("%d are kept", kept)
		}
		o.kill()
	})
}
