package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// addUser makes a user u with the password u, and with permissions in /.
func addUser(t *testing.T, b *Broker, configure, write, read string, tags ...string) {
	t.Helper()
	ops := topology.AppendPutUser(takeOps(), topology.User{
		Name: "u", PasswordHash: topology.HashPassword([]byte("salt"), "u"), Tags: tags,
	})
	ops = topology.AppendPutPermission(ops, topology.Permission{
		User: "u", Vhost: "/", Configure: configure, Write: write, Read: read,
	})
	if _, err := b.changeTopology(context.Background(), ops); err != nil {
		t.Fatal(err)
	}
}

func TestBehaviour07Permissions(t *testing.T) {
	b, address := startBroker(t)
	addUser(t, b, "^c", "^w", "^r")
	owner := openChannelRaw(t, address)
	for _, q := range []string{"c", "w", "r"} {
		owner.declare(q, durableQueue)
		call[*amqp.ExchangeDeclareOk](owner, &amqp.ExchangeDeclare{Exchange: q + "x", Type: "direct"})
	}
	refused := func(action, kind, name string) string {
		return fmt.Sprintf("ACCESS_REFUSED - %s access to %s '%s' in vhost '/' refused for user 'u'", action, kind, name)
	}
	for _, test := range []struct {
		do   amqp.Method // nil: publish to an exchange
		text string      // "" where it is allowed
	}{
		{&amqp.QueueDeclare{Queue: "c2"}, ""},
		{&amqp.QueueDeclare{Queue: "z"}, refused("configure", "queue", "z")},
		{&amqp.QueueDeclare{Queue: "w", Passive: true}, ""},
		{&amqp.QueueDelete{Queue: "r"}, refused("configure", "queue", "r")},
		{&amqp.QueuePurge{Queue: "r"}, ""},
		{&amqp.QueuePurge{Queue: "w"}, refused("read", "queue", "w")},
		{&amqp.QueueBind{Queue: "w", Exchange: "rx"}, ""},
		{&amqp.QueueBind{Queue: "r", Exchange: "rx"}, refused("write", "queue", "r")},
		{&amqp.QueueBind{Queue: "w", Exchange: "wx"}, refused("read", "exchange", "wx")},
		{&amqp.ExchangeDeclare{Exchange: "cy", Type: "direct"}, ""},
		{&amqp.ExchangeDeclare{Exchange: "z", Type: "direct"}, refused("configure", "exchange", "z")},
		{&amqp.ExchangeDelete{Exchange: "rx"}, refused("configure", "exchange", "rx")},
		{&amqp.ExchangeBind{Destination: "wx", Source: "rx"}, ""},
		{&amqp.ExchangeBind{Destination: "rx", Source: "rx"}, refused("write", "exchange", "rx")},
		{&amqp.BasicGet{Queue: "r"}, ""},
		{&amqp.BasicGet{Queue: "w"}, refused("read", "queue", "w")},
		{&amqp.BasicConsume{Queue: "r"}, ""},
		{&amqp.BasicConsume{Queue: "w"}, refused("read", "queue", "w")},
		{&amqp.BasicPublish{Exchange: "rx"}, refused("write", "exchange", "rx")},
		{&amqp.BasicPublish{}, refused("write", "exchange", "amq.default")},
	} {
		c := openRaw(t, address, rawOptions{user: "u", password: "u"})
		c.openChannel(1)
		if p, ok := test.do.(*amqp.BasicPublish); ok {
			c.publish(p.Exchange, "k", "body")
		} else {
			c.send(1, test.do)
		}
		_, m := c.method()
		if e, ok := m.(*amqp.ChannelClose); ok != (test.text != "") || ok && (e.ReplyCode != 403 || e.ReplyText != test.text) {
			t.Errorf("%T %+v is answered with %+v", test.do, test.do, m)
		}
	}
}

func TestBehaviour07PermissionsTakenAwayCount(t *testing.T) {
	b, address := startBroker(t)
	addUser(t, b, ".*", ".*", ".*")
	c := openRaw(t, address, rawOptions{user: "u", password: "u"})
	c.openChannel(1)
	c.declare("q")
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	c.publish("", "q", "one")
	receive[*amqp.BasicAck](c, 1)
	addUser(t, b, ".*", "", ".*")
	c.publish("", "q", "two")
	c.channelError(403, "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'u'")
}

func TestBehaviour08Names(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	if ok := call[*amqp.QueueDeclareOk](c, &amqp.QueueDeclare{Queue: "a\r\nb", Exclusive: true}); ok.Queue != "ab" {
		t.Errorf("declared %q", ok.Queue)
	}
	ok := call[*amqp.QueueDeclareOk](c, &amqp.QueueDeclare{Exclusive: true})
	if !strings.HasPrefix(ok.Queue, "amq.gen-") || len(ok.Queue) != len("amq.gen-")+22 {
		t.Errorf("made %q", ok.Queue)
	}
	// From here on an empty name means that queue.
	call[*amqp.QueueBindOk](c, &amqp.QueueBind{Exchange: "amq.direct"})
	c.publish("amq.direct", ok.Queue, "by its name as the key")
	call[*amqp.BasicGetOk](c, &amqp.BasicGet{})
	c.content()
	consumed := call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{})
	if !strings.HasPrefix(consumed.ConsumerTag, "amq.ctag-") {
		t.Errorf("made tag %q", consumed.ConsumerTag)
	}
	call[*amqp.QueueUnbindOk](c, &amqp.QueueUnbind{Exchange: "amq.direct"})
	call[*amqp.QueuePurgeOk](c, &amqp.QueuePurge{})
	// Without one it is an error.
	const text = "NOT_FOUND - no previously declared queue"
	runRefusals(t, address, false, []refusal{
		{"basic.get", sends(&amqp.BasicGet{}), 404, text},
		{"basic.consume", sends(&amqp.BasicConsume{}), 404, text},
		{"queue.bind", sends(&amqp.QueueBind{Exchange: "amq.direct"}), 404, text},
		{"queue.purge", sends(&amqp.QueuePurge{}), 404, text},
		{"queue.delete", sends(&amqp.QueueDelete{}), 404, text},
	})
}

func TestBehaviour09PredeclaredExchanges(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	for name, kind := range map[string]string{
		"amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic",
		"amq.headers": "headers", "amq.match": "headers", "amq.rabbitmq.trace": "topic",
	} {
		internal := name == "amq.rabbitmq.trace"
		call[*amqp.ExchangeDeclareOk](c, &amqp.ExchangeDeclare{Exchange: name, Type: kind, Durable: true, Internal: internal})
		call[*amqp.ExchangeDeclareOk](c, &amqp.ExchangeDeclare{Exchange: name, Passive: true})
	}
}

func TestBehaviour10PassiveDeclareComparesNothing(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	c.publish("", "q", "one")
	c.publish("", "q", "two")
	ok := call[*amqp.QueueDeclareOk](c, &amqp.QueueDeclare{
		Queue: "q", Passive: true, AutoDelete: true, Arguments: amqp.Table{"x-expires": int32(1)},
	})
	if ok.Queue != "q" || ok.MessageCount != 2 || ok.ConsumerCount != 0 {
		t.Errorf("%+v", ok)
	}
	call[*amqp.ExchangeDeclareOk](c, &amqp.ExchangeDeclare{Exchange: "amq.topic", Type: "nonsense", Passive: true})
}

func TestBehaviour11UnknownDeliveryTag(t *testing.T) {
	_, address := startBroker(t)
	const text = "PRECONDITION_FAILED - unknown delivery tag "
	held := func(then ...amqp.Method) func(*rawClient) {
		return func(c *rawClient) {
			c.declare("q" + c.socket.LocalAddr().String())
			for range 3 {
				c.publish("", "q"+c.socket.LocalAddr().String(), "body")
				c.get("")
			}
			c.send(1, then...)
		}
	}
	runRefusals(t, address, false, []refusal{
		{"ack", sends(&amqp.BasicAck{DeliveryTag: 1}), 406, text + "1"},
		{"ack of tag 0", sends(&amqp.BasicAck{}), 406, text + "0"},
		{"nack", sends(&amqp.BasicNack{DeliveryTag: 5}), 406, text + "5"},
		{"reject", sends(&amqp.BasicReject{DeliveryTag: 5}), 406, text + "5"},
		{"twice", held(&amqp.BasicAck{DeliveryTag: 2}, &amqp.BasicAck{DeliveryTag: 2}), 406, text + "2"},
		{"multiple of a settled one", held(&amqp.BasicAck{DeliveryTag: 2}, &amqp.BasicAck{DeliveryTag: 2, Multiple: true}), 406, text + "2"},
		{"multiple beyond the last", held(&amqp.BasicAck{DeliveryTag: 9, Multiple: true}), 406, text + "9"},
	})
	c := openChannelRaw(t, address)
	c.send(1, &amqp.BasicAck{Multiple: true}, &amqp.BasicNack{Multiple: true}) // All, which is none.
	c.silent()
	held(&amqp.BasicAck{DeliveryTag: 2, Multiple: true})(c)
	c.send(1, &amqp.BasicAck{Multiple: true})
	if ok := call[*amqp.QueueDeleteOk](c, &amqp.QueueDelete{}); ok.MessageCount != 0 {
		t.Errorf("%d messages are left", ok.MessageCount)
	}
}

func TestBehaviour12NotImplemented(t *testing.T) {
	_, address := startBroker(t)
	const not = "NOT_IMPLEMENTED - "
	runRefusals(t, address, true, []refusal{
		{"recover without requeue", sends(&amqp.BasicRecover{}), 540, not + "requeue=false"},
		{"immediate", func(c *rawClient) {
			c.publish("", "k", "body", func(m *amqp.BasicPublish, _ *amqp.Properties) { m.Immediate = true })
		}, 540, not + "immediate=true"},
		{"prefetch size", sends(&amqp.BasicQos{PrefetchSize: 7}), 540, not + "prefetch_size!=0 (7)"},
		{"flow off", sends(&amqp.ChannelFlow{}), 540, not + "active=false"},
	})
}

func TestBehaviour12RecoverRequeues(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q")
	for i := range 3 {
		c.publish("", "q", fmt.Sprint(i))
	}
	for range 3 {
		c.get("q")
	}
	call[*amqp.BasicRecoverOk](c, &amqp.BasicRecover{Requeue: true})
	for i := range 3 {
		ok, _, body := c.get("q")
		if body != fmt.Sprint(i) || !ok.Redelivered || ok.DeliveryTag != uint64(i+4) {
			t.Errorf("%d: %q, %+v", i, body, ok)
		}
	}
}

func TestBehaviour15ReturnComesBeforeItsConfirm(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q")
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	for i := uint64(1); i <= 20; i++ {
		c.publish("", "nowhere", "lost", mandatory)
		returned := receive[*amqp.BasicReturn](c, 1)
		if returned.ReplyCode != 312 || returned.ReplyText != "NO_ROUTE" || returned.RoutingKey != "nowhere" {
			t.Fatalf("%+v", returned)
		}
		if _, body := c.content(); body != "lost" {
			t.Fatalf("returned %q", body)
		}
		if ack := receive[*amqp.BasicAck](c, 1); ack.DeliveryTag != 2*i-1 {
			t.Fatalf("%d: %+v", i, ack)
		}
		c.publish("", "nowhere", "dropped and confirmed")
		if ack := receive[*amqp.BasicAck](c, 1); ack.DeliveryTag != 2*i {
			t.Fatalf("%d: %+v", i, ack)
		}
	}
	// A message of several frames that goes nowhere.
	large := strings.Repeat("x", 20_000)
	c.publish("", "nowhere", large, mandatory)
	receive[*amqp.BasicReturn](c, 1)
	if _, body := c.content(); body != large {
		t.Errorf("returned %d bytes", len(body))
	}
	receive[*amqp.BasicAck](c, 1)
	c.publish("", "nowhere", large)
	receive[*amqp.BasicAck](c, 1)
}

func TestBehaviour15PublishToADeletedQueueIsConfirmed(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	for i := range 20 {
		c.declare("q", durableQueue)
		c.publish("", "q", "body")
		other := openChannelRaw(t, address)
		call[*amqp.QueueDeleteOk](other, &amqp.QueueDelete{Queue: "q"})
		if ack := receive[*amqp.BasicAck](c, 1); ack.DeliveryTag != uint64(i+1) {
			t.Fatalf("%d: %+v", i, ack)
		}
	}
}

func TestBehaviour24DeliveryCount(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	for _, kind := range []string{"quorum", "classic"} {
		c.declare(kind, durableQueue, func(m *amqp.QueueDeclare) { m.Arguments = amqp.Table{"x-queue-type": kind} })
		c.publish("", kind, "body", func(_ *amqp.BasicPublish, p *amqp.Properties) {
			p.Headers, p.ContentType = amqp.Table{"a": "b"}, "text/plain"
		})
		for i := range 3 {
			ok, p, body := c.get(kind)
			count, counted := p.Headers["x-delivery-count"]
			if ok.Redelivered != (i > 0) || counted != (i > 0 && kind == "quorum") || counted && count != int64(i) {
				t.Errorf("%s, delivery %d: redelivered %v, headers %v", kind, i, ok.Redelivered, p.Headers)
			}
			if body != "body" || p.Headers["a"] != "b" || p.ContentType != "text/plain" {
				t.Errorf("%s, delivery %d: %q, %+v", kind, i, body, p)
			}
			c.send(1, &amqp.BasicNack{DeliveryTag: ok.DeliveryTag, Requeue: true})
		}
	}
}

func TestBehaviour26ConsumerCancelNotify(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	old := openRaw(t, address, rawOptions{capabilities: amqp.Table{"nothing": true}})
	old.openChannel(1)
	c.declare("q", durableQueue)
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q", ConsumerTag: "one"})
	call[*amqp.BasicConsumeOk](old, &amqp.BasicConsume{Queue: "q", ConsumerTag: "two"})
	other := openChannelRaw(t, address)
	call[*amqp.QueueDeleteOk](other, &amqp.QueueDelete{Queue: "q"})
	if m := receive[*amqp.BasicCancel](c, 1); m.ConsumerTag != "one" || !m.NoWait {
		t.Errorf("%+v", m)
	}
	old.silent()
	// The tag is free again.
	c.declare("r")
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "r", ConsumerTag: "one"})
}

func TestBehaviour26Blocked(t *testing.T) {
	b := memoryBroker(t, 1)
	f, address := serveFront(t, b)
	c := openChannelRaw(t, address)
	old := openRaw(t, address, rawOptions{capabilities: amqp.Table{"nothing": true}})
	old.openChannel(1)
	idle := openChannelRaw(t, address)
	c.declare("q")
	c.publish("", "nowhere", "body", mandatory)
	receive[*amqp.BasicReturn](c, 1)
	c.content()
	old.publish("", "nowhere", "body", mandatory)
	receive[*amqp.BasicReturn](old, 1)
	old.content()

	f.block("low on disk")
	if m := receive[*amqp.ConnectionBlocked](c, 0); m.Reason != "low on disk" {
		t.Errorf("%+v", m)
	}
	idle.silent() // Whoever doesn't publish goes on, and hears nothing.
	c.send(1, &amqp.ChannelFlow{Active: true})
	old.send(1, &amqp.ChannelFlow{Active: true})
	idle.publish("", "nowhere", "body")
	if m := receive[*amqp.ConnectionBlocked](idle, 0); m.Reason != "low on disk" {
		t.Errorf("%+v", m)
	}
	f.block("")
	receive[*amqp.ConnectionUnblocked](c, 0)
	receive[*amqp.ConnectionUnblocked](idle, 0)
	// What was not read meanwhile is read now.
	receive[*amqp.ChannelFlowOk](c, 1)
	receive[*amqp.ChannelFlowOk](old, 1)
	c.silent()
	idle.silent()
}

func TestBehaviour28RoundRobin(t *testing.T) {
	_, address := startBroker(t)
	a, b := openChannelRaw(t, address), openChannelRaw(t, address)
	a.declare("q", durableQueue)
	for _, c := range []*rawClient{a, b} {
		call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q", NoAck: true})
	}
	p := openChannelRaw(t, address)
	const n = 10
	for i := range n {
		p.publish("", "q", fmt.Sprint(i))
	}
	for i := range n / 2 {
		_, first := a.delivery()
		_, second := b.delivery()
		if got := []string{first, second}; fmt.Sprint(got) != fmt.Sprint([]int{2 * i, 2*i + 1}) {
			t.Errorf("turn %d: %v", i, got)
		}
	}
}

func TestBehaviour28PrefetchPerConsumer(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	call[*amqp.BasicQosOk](c, &amqp.BasicQos{PrefetchCount: 2})
	for range 10 {
		c.publish("", "q", "body")
	}
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	c.delivery()
	d, _ := c.delivery()
	c.silent()
	c.send(1, &amqp.BasicAck{DeliveryTag: d.DeliveryTag})
	if d, _ := c.delivery(); d.DeliveryTag != 3 {
		t.Errorf("%+v", d)
	}
	// A second consumer has its own two.
	c.send(1, &amqp.BasicConsume{Queue: "q"})
	receive[*amqp.BasicConsumeOk](c, 1)
	c.delivery()
	c.delivery()
	c.silent()
}

func TestBehaviour28PrefetchSharedByTheChannel(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	call[*amqp.BasicQosOk](c, &amqp.BasicQos{PrefetchCount: 3, Global: true})
	for range 10 {
		c.publish("", "q", "body")
	}
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	for range 3 {
		c.delivery()
	}
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	c.silent()
	c.send(1, &amqp.BasicAck{DeliveryTag: 3, Multiple: true})
	for range 3 {
		c.delivery()
	}
	c.silent()
}

func TestBehaviour29TransientQueuesAreAccepted(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	call[*amqp.QueueDeclareOk](c, &amqp.QueueDeclare{Queue: "q"})
	c.publish("", "q", "body")
	// Another connection finds what this one's publish has made by its answer.
	call[*amqp.QueueDeclareOk](c, &amqp.QueueDeclare{Queue: "q", Passive: true})
	other := openChannelRaw(t, address)
	if _, _, body := other.get("q"); body != "body" {
		t.Errorf("got %q", body)
	}
}
