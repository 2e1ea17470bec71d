package broker

import (
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// The tests named TestBehaviourNN… hold the broker to the behaviour of that
// number in RABBITMQ.md. The texts are those that RabbitMQ 3.10.8 answered.

// refusal is one thing that a client does and the error that it gets.
type refusal struct {
	name string
	// do leaves the client waiting for the error.
	do   func(c *rawClient)
	code uint16
	text string
}

// run does each in a connection of its own. fatal tells which of the two kinds
// of error is expected.
func runRefusals(t *testing.T, address string, fatal bool, refusals []refusal) {
	t.Helper()
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			c := openChannelRaw(t, address)
			c.t = t
			r.do(c)
			if fatal {
				c.connectionError(r.code, r.text)
				return
			}
			c.channelError(r.code, r.text)
			c.openChannel(1) // The connection and the number go on.
		})
	}
}

// sends returns what sends methods on channel 1.
func sends(methods ...amqp.Method) func(*rawClient) {
	return func(c *rawClient) { c.send(1, methods...) }
}

func TestBehaviour01NotFound(t *testing.T) {
	_, address := startBroker(t)
	const queue, exchange = "NOT_FOUND - no queue 'nope' in vhost '/'", "NOT_FOUND - no exchange 'nope' in vhost '/'"
	runRefusals(t, address, false, []refusal{
		{"queue.declare passive", sends(&amqp.QueueDeclare{Queue: "nope", Passive: true}), 404, queue},
		{"queue.declare passive of an empty name", sends(&amqp.QueueDeclare{Passive: true}), 404, "NOT_FOUND - no queue '' in vhost '/'"},
		{"queue.purge", sends(&amqp.QueuePurge{Queue: "nope"}), 404, queue},
		{"queue.bind", sends(&amqp.QueueBind{Queue: "nope", Exchange: "amq.direct"}), 404, queue},
		{"queue.bind to a missing exchange", func(c *rawClient) {
			c.declare("there")
			c.send(1, &amqp.QueueBind{Queue: "there", Exchange: "nope"})
		}, 404, exchange},
		{"basic.consume", sends(&amqp.BasicConsume{Queue: "nope"}), 404, queue},
		{"basic.get", sends(&amqp.BasicGet{Queue: "nope"}), 404, queue},
		{"basic.publish", func(c *rawClient) { c.publish("nope", "k", "body") }, 404, exchange},
		{"exchange.declare passive", sends(&amqp.ExchangeDeclare{Exchange: "nope", Type: "direct", Passive: true}), 404, exchange},
		{"exchange.bind source", sends(&amqp.ExchangeBind{Source: "nope", Destination: "amq.direct"}), 404, exchange},
		{"exchange.bind destination", sends(&amqp.ExchangeBind{Source: "amq.direct", Destination: "nope"}), 404, exchange},
	})
}

func TestBehaviour02DeletingWhatIsMissingIsOk(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	if ok := call[*amqp.QueueDeleteOk](c, &amqp.QueueDelete{Queue: "nope"}); ok.MessageCount != 0 {
		t.Errorf("%d messages in a missing queue", ok.MessageCount)
	}
	call[*amqp.ExchangeDeleteOk](c, &amqp.ExchangeDelete{Exchange: "nope"})
	if ok := call[*amqp.BasicCancelOk](c, &amqp.BasicCancel{ConsumerTag: "nope"}); ok.ConsumerTag != "nope" {
		t.Errorf("cancel-ok for %q", ok.ConsumerTag)
	}
	call[*amqp.QueueUnbindOk](c, &amqp.QueueUnbind{Queue: "nope", Exchange: "amq.direct"})
	call[*amqp.ExchangeUnbindOk](c, &amqp.ExchangeUnbind{Source: "nope", Destination: "amq.direct"})
}

func TestBehaviour03InequivalentArguments(t *testing.T) {
	_, address := startBroker(t)
	owner := openChannelRaw(t, address)
	owner.declare("q", durableQueue, func(m *amqp.QueueDeclare) { m.Arguments = amqp.Table{"x-expires": int32(60000)} })
	call[*amqp.ExchangeDeclareOk](owner, &amqp.ExchangeDeclare{Exchange: "x", Type: "direct", Durable: true})
	queue := func(change func(*amqp.QueueDeclare)) func(*rawClient) {
		m := &amqp.QueueDeclare{Queue: "q", Durable: true, Arguments: amqp.Table{"x-expires": int32(60000)}}
		change(m)
		return sends(m)
	}
	const inequivalent = "PRECONDITION_FAILED - inequivalent arg "
	runRefusals(t, address, false, []refusal{
		{"durable", queue(func(m *amqp.QueueDeclare) { m.Durable = false }), 406,
			inequivalent + "'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"},
		{"auto_delete", queue(func(m *amqp.QueueDeclare) { m.AutoDelete = true }), 406,
			inequivalent + "'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"},
		{"another value", queue(func(m *amqp.QueueDeclare) { m.Arguments["x-expires"] = int32(5) }), 406,
			inequivalent + "'x-expires' for queue 'q' in vhost '/': received '5' but current is '60000'"},
		{"no value", queue(func(m *amqp.QueueDeclare) { m.Arguments = nil }), 406,
			inequivalent + "'x-expires' for queue 'q' in vhost '/': received none but current is the value '60000' of type 'signedint'"},
		{"exchange type", sends(&amqp.ExchangeDeclare{Exchange: "x", Type: "fanout", Durable: true}), 406,
			inequivalent + "'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'"},
		{"exchange durable", sends(&amqp.ExchangeDeclare{Exchange: "x", Type: "direct"}), 406,
			inequivalent + "'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'"},
	})
	c := openChannelRaw(t, address)
	for name, arguments := range map[string]amqp.Table{
		"another width":       {"x-expires": int64(60000)},
		"the default type":    {"x-expires": int32(60000), "x-queue-type": "classic"},
		"an unknown argument": {"x-expires": int32(60000), "x-nobody-knows": "it"},
	} {
		c.send(1, &amqp.QueueDeclare{Queue: "q", Durable: true, Arguments: arguments})
		if _, m := c.method(); m.ID() != amqp.IDQueueDeclareOk {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

const lockedText = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."

func TestBehaviour04ResourceLocked(t *testing.T) {
	_, address := startBroker(t)
	owner := openChannelRaw(t, address)
	owner.declare("q")
	runRefusals(t, address, false, []refusal{
		{"queue.declare", sends(&amqp.QueueDeclare{Queue: "q"}), 405, lockedText},
		{"queue.declare exclusive", sends(&amqp.QueueDeclare{Queue: "q", Exclusive: true}), 405, lockedText},
		{"queue.declare passive", sends(&amqp.QueueDeclare{Queue: "q", Passive: true}), 405, lockedText},
		{"queue.bind", sends(&amqp.QueueBind{Queue: "q", Exchange: "amq.direct"}), 405, lockedText},
		{"queue.unbind", sends(&amqp.QueueUnbind{Queue: "q", Exchange: "amq.direct"}), 405, lockedText},
		{"queue.purge", sends(&amqp.QueuePurge{Queue: "q"}), 405, lockedText},
		{"queue.delete", sends(&amqp.QueueDelete{Queue: "q"}), 405, lockedText},
		{"basic.get", sends(&amqp.BasicGet{Queue: "q"}), 405, lockedText},
		{"basic.consume", sends(&amqp.BasicConsume{Queue: "q"}), 405, lockedText},
	})
	// Publishing to it is everyone's right.
	other := openChannelRaw(t, address)
	call[*amqp.ConfirmSelectOk](other, &amqp.ConfirmSelect{})
	other.publish("", "q", "hello")
	receive[*amqp.BasicAck](other, 1)
	if _, _, body := owner.get("q"); body != "hello" {
		t.Errorf("got %q", body)
	}
}

func TestBehaviour04ExclusiveQueueEndsWithItsConnection(t *testing.T) {
	_, address := startBroker(t)
	owner := openChannelRaw(t, address)
	owner.declare("q")
	owner.send(0, &amqp.ConnectionClose{ReplyCode: 200})
	receive[*amqp.ConnectionCloseOk](owner, 0)
	other := openChannelRaw(t, address)
	other.send(1, &amqp.QueueDeclare{Queue: "q", Passive: true})
	other.channelError(404, "NOT_FOUND - no queue 'q' in vhost '/'")
}

func TestBehaviour05ExclusiveConsumer(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q", Exclusive: true})
	const text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
	runRefusals(t, address, false, []refusal{
		{"a second consumer", sends(&amqp.BasicConsume{Queue: "q"}), 403, text},
		{"a second exclusive one", sends(&amqp.BasicConsume{Queue: "q", Exclusive: true}), 403, text},
	})
	// An exclusive one beside another.
	d := openChannelRaw(t, address)
	d.declare("r", durableQueue)
	call[*amqp.BasicConsumeOk](d, &amqp.BasicConsume{Queue: "r"})
	d.send(1, &amqp.BasicConsume{Queue: "r", Exclusive: true})
	d.channelError(403, "ACCESS_REFUSED - queue 'r' in vhost '/' in exclusive use")
}

func TestBehaviour06ReservedNames(t *testing.T) {
	_, address := startBroker(t)
	const refused, isDefault = "ACCESS_REFUSED - ", "ACCESS_REFUSED - operation not permitted on the default exchange"
	runRefusals(t, address, false, []refusal{
		{"a queue amq.x", sends(&amqp.QueueDeclare{Queue: "amq.x"}), 403, refused + "queue name 'amq.x' contains reserved prefix 'amq.*'"},
		{"an exchange amq.x", sends(&amqp.ExchangeDeclare{Exchange: "amq.x", Type: "direct"}), 403, refused + "exchange name 'amq.x' contains reserved prefix 'amq.*'"},
		{"declaring the default exchange", sends(&amqp.ExchangeDeclare{Type: "direct"}), 403, isDefault},
		{"deleting the default exchange", sends(&amqp.ExchangeDelete{}), 403, isDefault},
		{"binding the default exchange", func(c *rawClient) {
			c.declare("mine")
			c.send(1, &amqp.QueueBind{Queue: "mine", RoutingKey: "k"})
		}, 403, isDefault},
		{"deleting a predeclared exchange", sends(&amqp.ExchangeDelete{Exchange: "amq.direct"}), 403,
			refused + "deletion of system exchange 'amq.direct' in vhost '/' not allowed"},
		{"publishing to an internal exchange", func(c *rawClient) { c.publish("amq.rabbitmq.trace", "k", "body") }, 403,
			refused + "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'"},
	})
}

func TestBehaviour13ConsumerTagReuse(t *testing.T) {
	_, address := startBroker(t)
	c := openChannelRaw(t, address)
	c.declare("q")
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q", ConsumerTag: "x"})
	c.send(1, &amqp.BasicConsume{Queue: "q", ConsumerTag: "x"})
	c.connectionError(530, "NOT_ALLOWED - attempt to reuse consumer tag 'x'")
}

func TestBehaviour14ConfirmAndTxExcludeOneAnother(t *testing.T) {
	_, address := startBroker(t)
	const failed = "PRECONDITION_FAILED - "
	runRefusals(t, address, false, []refusal{
		{"tx after confirm", func(c *rawClient) {
			call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
			c.send(1, &amqp.TxSelect{})
		}, 406, failed + "cannot switch from confirm to tx mode"},
		{"confirm after tx", func(c *rawClient) {
			call[*amqp.TxSelectOk](c, &amqp.TxSelect{})
			c.send(1, &amqp.ConfirmSelect{})
		}, 406, failed + "cannot switch from tx to confirm mode"},
		{"commit outside", sends(&amqp.TxCommit{}), 406, failed + "channel is not transactional"},
		{"rollback outside", sends(&amqp.TxRollback{}), 406, failed + "channel is not transactional"},
	})
	c := openChannelRaw(t, address)
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
}

func TestBehaviour21PublishChecks(t *testing.T) {
	_, address := startBroker(t, func(c *Config) { c.MaxMessageSize = 100_000 })
	expiring := func(s string) func(*rawClient) {
		return func(c *rawClient) {
			c.publish("", "k", "body", func(_ *amqp.BasicPublish, p *amqp.Properties) {
				p.Expiration, p.Present = s, amqp.FlagExpiration
			})
		}
	}
	const failed = "PRECONDITION_FAILED - "
	runRefusals(t, address, false, []refusal{
		{"too large", func(c *rawClient) { c.publish("", "k", string(make([]byte, 100_001))) }, 406,
			failed + "message size 100001 is larger than configured max size 100000"},
		{"another user", func(c *rawClient) {
			c.publish("", "k", "body", func(_ *amqp.BasicPublish, p *amqp.Properties) { p.UserID = "a" })
		}, 406, failed + "user_id property set to 'a' but authenticated user was 'guest'"},
		{"no number", expiring("foo"), 406, failed + "invalid expiration 'foo': no_integer"},
		{"empty", expiring(""), 406, failed + "invalid expiration '': no_integer"},
		{"negative", expiring("-1"), 406, failed + "invalid expiration '-1': {value_negative,-1}"},
		{"fraction", expiring("10.5"), 406, failed + `invalid expiration '10.5': {leftover_string,".5"}`},
		{"too long", expiring("315360000001"), 406, failed + "invalid expiration '315360000001': {value_too_large,315360000001}"},
	})
	c := openChannelRaw(t, address)
	c.declare("q")
	c.publish("", "q", string(make([]byte, 100_000)), func(_ *amqp.BasicPublish, p *amqp.Properties) {
		p.UserID, p.Expiration = "guest", "315360000000"
	})
	if _, _, body := c.get("q"); len(body) != 100_000 {
		t.Errorf("got %d bytes", len(body))
	}
}
