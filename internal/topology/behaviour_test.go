package topology

import (
	"strings"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// The texts here are what RabbitMQ 3.10.8 answered, unless a case says else.

const (
	channelFatal    = false
	connectionFatal = true
)

func wantRefusal(t *testing.T, what string, got *amqp.Error, code uint16, connection bool, text string) {
	t.Helper()
	if text == "" {
		if got != nil {
			t.Errorf("%s: got %v, want no error", what, got)
		}
		return
	}
	if got == nil {
		t.Errorf("%s: got no error, want %d %s", what, code, text)
		return
	}
	if got.Code != code || got.Text != text || got.Connection != connection {
		t.Errorf("%s:\ngot  %d %s (connection-fatal: %v)\nwant %d %s (connection-fatal: %v)",
			what, got.Code, got.Text, got.Connection, code, text, connection)
	}
}

func TestBehaviour01MissingNames(t *testing.T) {
	wantRefusal(t, "queue", NoSuchQueue("/", "q"), 404, channelFatal, "NOT_FOUND - no queue 'q' in vhost '/'")
	wantRefusal(t, "exchange", NoSuchExchange("/", "x"), 404, channelFatal, "NOT_FOUND - no exchange 'x' in vhost '/'")
	d := newDriver(t)
	for _, c := range []struct {
		binding Binding
		text    string
	}{
		{Binding{Source: "nothere", Destination: "nothere"}, "NOT_FOUND - no exchange 'nothere' in vhost '/'"},
		{Binding{Source: "amq.direct", Destination: "nothere"}, "NOT_FOUND - no queue 'nothere' in vhost '/'"},
		{Binding{Source: "amq.direct", Destination: "nothere", ToExchange: true}, "NOT_FOUND - no exchange 'nothere' in vhost '/'"},
	} {
		c.binding.Vhost = "/"
		wantRefusal(t, "bind", d.do(d.bind(c.binding)).Refusal("/"), 404, channelFatal, c.text)
		wantRefusal(t, "unbind", d.do(d.unbind(c.binding)).Refusal("/"), 0, false, "")
	}
	if _, err := d.state.Route("/", []byte("x"), nil, nil, nil); err.(*amqp.Error).Text != "NOT_FOUND - no exchange 'x' in vhost '/'" {
		t.Errorf("publish: %v", err)
	}
}

func TestBehaviour02DeletingWhatIsNotThere(t *testing.T) {
	d := newDriver(t)
	for _, ops := range [][]byte{AppendDeleteQueue(nil, "/", "q", 0), AppendDeleteExchange(nil, "/", "x", true)} {
		if r := d.do(ops); r.Code != Missing || r.Refusal("/") != nil {
			t.Errorf("got %+v", r)
		}
	}
}

func TestBehaviour03InequivalentArguments(t *testing.T) {
	type T = amqp.Table
	for _, c := range []struct {
		existing, wanted T
		name, text       string // of the argument, and what comes after the vhost
	}{
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": int64(5)}, "", ""},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": int64(6)}, "x-message-ttl", "received '6' but current is '5'"},
		{T{"x-message-ttl": int32(5)}, nil, "x-message-ttl", "received none but current is the value '5' of type 'signedint'"},
		{nil, T{"x-message-ttl": int64(6)}, "x-message-ttl", "received the value '6' of type 'long' but current is none"},
		{nil, T{"x-message-ttl": uint8(6)}, "x-message-ttl", "received the value '6' of type 'unsignedbyte' but current is none"},
		{nil, T{"x-message-ttl": "6"}, "x-message-ttl", "received the value '6' of type 'longstr' but current is none"},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": time.Unix(5, 0)}, "", ""},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": 5.0}, "x-message-ttl", "received '5.0' but current is '5'"},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": 5.5}, "x-message-ttl", "received '5.5' but current is '5'"},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": true}, "x-message-ttl", "received 'true' but current is '5'"},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": T{"b": int8(1), "a": []byte("z")}}, "x-message-ttl",
			`received '[{<<"a">>,binary,<<"z">>},{<<"b">>,byte,1}]' but current is '5'`},
		{T{"x-message-ttl": int32(5)}, T{"x-message-ttl": nil}, "x-message-ttl", "received none but current is '5'"},
		{nil, T{"x-message-ttl": nil}, "x-message-ttl", "received the value 'undefined' of type 'void' but current is none"},
		{nil, T{"x-message-ttl": 1e20}, "x-message-ttl", "received the value '1.0e20' of type 'double' but current is none"},
		{nil, T{"x-message-ttl": 1e15}, "x-message-ttl", "received the value '1.0e15' of type 'double' but current is none"},
		{nil, T{"x-message-ttl": 123456789012345680.0}, "x-message-ttl", "received the value '1.2345678901234568e17' of type 'double' but current is none"},
		{nil, T{"x-message-ttl": 0.0001}, "x-message-ttl", "received the value '0.0001' of type 'double' but current is none"},
		{nil, T{"x-message-ttl": 0.00001}, "x-message-ttl", "received the value '1.0e-5' of type 'double' but current is none"},
		{nil, T{"x-message-ttl": float32(0.1)}, "x-message-ttl", "received the value '0.10000000149011612' of type 'float' but current is none"},
		{nil, T{"x-message-ttl": 0.0}, "x-message-ttl", "received the value '0.0' of type 'double' but current is none"},
		{T{"x-overflow": "drop-head"}, T{"x-overflow": []byte("drop-head")}, "", ""},
		{T{"x-overflow": "drop-head"}, T{"x-overflow": "reject-publish"}, "x-overflow", "received 'reject-publish' but current is 'drop-head'"},
		{nil, T{"x-queue-type": "classic"}, "", ""},
		{T{"x-queue-type": "classic"}, nil, "", ""},
		{T{"x-queue-type": "classic"}, T{"x-queue-type": "quorum"}, "x-queue-type", "received 'quorum' but current is 'classic'"},
		{T{"x-queue-type": "quorum"}, T{"x-queue-type": "classic"}, "x-queue-type", "received 'classic' but current is 'quorum'"},
		{T{"x-queue-type": "quorum"}, nil, "x-queue-type", "received none but current is the value 'quorum' of type 'longstr'"},
		{nil, T{"x-queue-type": "quorum"}, "x-queue-type", "received the value 'quorum' of type 'longstr' but current is none"},
		{nil, T{"x-unknown": "1"}, "", ""},
		{T{"x-unknown": "1"}, T{"x-unknown": int32(1)}, "", ""},
		{nil, T{"x-delivery-limit": int32(1)}, "", ""}, // a classic queue knows none
		{T{"x-queue-type": "quorum"}, T{"x-queue-type": "quorum", "x-delivery-limit": int32(1)}, "x-delivery-limit",
			"received the value '1' of type 'signedint' but current is none"},
		{T{"x-queue-type": "quorum"}, T{"x-queue-type": "quorum", "x-max-priority": int32(1)}, "", ""},
		{T{"x-single-active-consumer": true}, T{"x-single-active-consumer": false}, "x-single-active-consumer", "received 'false' but current is 'true'"},
		{T{"x-single-active-consumer": true}, nil, "x-single-active-consumer", "received none but current is the value 'true' of type 'bool'"},
		{T{"x-dead-letter-exchange": "a"}, T{"x-dead-letter-exchange": "b"}, "x-dead-letter-exchange", "received 'b' but current is 'a'"},
		{nil, T{"x-max-priority": int32(-4)}, "x-max-priority", "received the value '-4' of type 'signedint' but current is none"},
		{T{"x-expires": int32(10000), "x-message-ttl": int32(1)}, T{"x-expires": int32(10001), "x-message-ttl": int32(2)},
			"x-expires", "received '10001' but current is '10000'"},
		{nil, T{"x-ack-quorum": "all"}, "x-ack-quorum", "received the value 'all' of type 'longstr' but current is none"}, // ours
	} {
		text := ""
		if c.text != "" {
			text = "PRECONDITION_FAILED - inequivalent arg '" + c.name + "' for queue 'q' in vhost '/': " + c.text
		}
		got := CheckQueueEquivalent(&Queue{Vhost: "/", Name: "q", Durable: true, Arguments: c.existing}, &Queue{Vhost: "/", Name: "q", Durable: true, Arguments: c.wanted})
		wantRefusal(t, "queue", got, 406, channelFatal, text)
	}
}

func TestBehaviour03InequivalentProperties(t *testing.T) {
	for _, c := range []struct {
		existing, wanted Queue
		text             string
	}{
		{Queue{Durable: true}, Queue{}, "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"},
		{Queue{}, Queue{Durable: true}, "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"},
		{Queue{Durable: true}, Queue{Durable: true, AutoDelete: true}, "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"},
		{Queue{Exclusive: true, Owner: "c"}, Queue{Exclusive: true, Owner: "c", Durable: true}, ""},
		{Queue{Exclusive: true, Owner: "c"}, Queue{Exclusive: true, Owner: "c", AutoDelete: true}, "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"},
	} {
		c.existing.Vhost, c.existing.Name = "/", "q"
		if c.text != "" {
			c.text = "PRECONDITION_FAILED - " + c.text
		}
		wantRefusal(t, "queue", CheckQueueEquivalent(&c.existing, &c.wanted), 406, channelFatal, c.text)
	}
	type T = amqp.Table
	for _, c := range []struct {
		existing, wanted Exchange
		text             string
	}{
		{Exchange{Kind: "direct"}, Exchange{Kind: "topic"}, "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'"},
		{Exchange{Durable: true}, Exchange{}, "inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'"},
		{Exchange{}, Exchange{AutoDelete: true}, "inequivalent arg 'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'"},
		{Exchange{}, Exchange{Internal: true}, "inequivalent arg 'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'"},
		{Exchange{}, Exchange{Arguments: T{"alternate-exchange": "b"}},
			"inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received the value 'b' of type 'longstr' but current is none"},
		{Exchange{Arguments: T{"alternate-exchange": "a"}}, Exchange{Arguments: T{"alternate-exchange": "b"}},
			"inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received 'b' but current is 'a'"},
		{Exchange{Arguments: T{"alternate-exchange": "a"}}, Exchange{},
			"inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received none but current is the value 'a' of type 'longstr'"},
		{Exchange{}, Exchange{Arguments: T{"other": "b"}}, ""},
	} {
		c.existing.Vhost, c.existing.Name = "/", "x"
		if c.text != "" {
			c.text = "PRECONDITION_FAILED - " + c.text
		}
		wantRefusal(t, "exchange", CheckExchangeEquivalent(&c.existing, &c.wanted), 406, channelFatal, c.text)
	}
}

func TestBehaviour03InvalidArguments(t *testing.T) {
	type T = amqp.Table
	quorum := func(name string, v any) T { return T{"x-queue-type": "quorum", name: v} }
	for _, c := range []struct {
		arguments T
		text      string // after "… - invalid arg '", with @ for "' for queue 'q' in vhost '/'"
	}{
		{T{"x-message-ttl": int32(-1)}, "x-message-ttl@: {value_negative,-1}"},
		{quorum("x-message-ttl", int32(-1)), "x-message-ttl@: {value_negative,-1}"},
		{T{"x-message-ttl": int64(0)}, ""},
		{T{"x-message-ttl": int64(1) << 40}, "x-message-ttl@: {value_too_large,1099511627776}"},
		{T{"x-message-ttl": "zz"}, `x-message-ttl@: "expected integer, got longstr"`},
		{T{"x-message-ttl": true}, `x-message-ttl@: "expected integer, got bool"`},
		{T{"x-message-ttl": 1.5}, `x-message-ttl@: "expected integer, got double"`},
		{T{"x-message-ttl": nil}, `x-message-ttl@: "expected integer, got void"`},
		{T{"x-message-ttl": []any{int32(1)}}, `x-message-ttl@: "expected integer, got array"`},
		{T{"x-message-ttl": T{"a": int32(1)}}, `x-message-ttl@: "expected integer, got table"`},
		{T{"x-message-ttl": []byte("zz")}, `x-message-ttl@: "expected integer, got binary"`},
		{T{"x-message-ttl": time.Unix(1, 0)}, `x-message-ttl@: "expected integer, got timestamp"`},
		{T{"x-message-ttl": amqp.Decimal{Scale: 1, Value: 5}}, `x-message-ttl@: "expected integer, got decimal"`},
		{T{"x-message-ttl": float32(2)}, `x-message-ttl@: "expected integer, got float"`},
		{T{"x-message-ttl": uint16(3)}, ""},
		{T{"x-expires": int32(-1)}, "x-expires@: {value_negative,-1}"},
		{T{"x-expires": int64(0)}, "x-expires@: {value_zero,0}"},
		{T{"x-expires": int64(1) << 40}, "x-expires@: {value_too_large,1099511627776}"},
		{T{"x-max-length": int64(1) << 40}, ""},
		{T{"x-max-length": int32(-1)}, "x-max-length@: {value_negative,-1}"},
		{T{"x-max-length-bytes": int32(-1)}, "x-max-length-bytes@: {value_negative,-1}"},
		{T{"x-max-priority": int16(256)}, "x-max-priority@: {max_value_exceeded,256}"},
		{T{"x-max-priority": int64(0)}, ""},
		{quorum("x-max-priority", int64(0)), "x-max-priority@ of queue type rabbit_quorum_queue"},
		{T{"x-delivery-limit": int64(3)}, "x-delivery-limit@ of queue type rabbit_classic_queue"},
		{quorum("x-delivery-limit", int64(3)), ""},
		{T{"x-queue-mode": "zz"}, `x-queue-mode@: "unsupported queue mode 'zz'"`},
		{T{"x-queue-mode": "lazy"}, ""},
		{T{"x-queue-mode": nil}, "x-queue-mode@: {unacceptable_type,void}"},
		{quorum("x-queue-mode", "lazy"), "x-queue-mode@ of queue type rabbit_quorum_queue"},
		{T{"x-queue-type": "zz"}, `x-queue-type@: "unsupported queue type 'zz'"`},
		{T{"x-queue-type": int32(1)}, "x-queue-type@: {unacceptable_type,signedint}"},
		{T{"x-queue-type": "stream"}, `x-queue-type@: "unsupported queue type 'stream'"`}, // ours: RabbitMQ has streams
		{T{"x-overflow": "zz"}, "x-overflow@: invalid_overflow"},
		{T{"x-overflow": true}, "x-overflow@: {unacceptable_type,bool}"},
		{quorum("x-overflow", "reject-publish-dlx"), ""},
		{T{"x-single-active-consumer": nil}, "x-single-active-consumer@: {unacceptable_type,void}"},
		{T{"x-single-active-consumer": "true"}, "x-single-active-consumer@: {unacceptable_type,longstr}"},
		{T{"x-dead-letter-routing-key": "zz"}, "x-dead-letter-routing-key@: routing_key_but_no_dlx_defined"},
		{T{"x-dead-letter-routing-key": "k", "x-dead-letter-exchange": "zz"}, ""},
		{T{"x-queue-version": int64(3)}, `x-queue-version@: "unsupported queue version '3'"`},
		{T{"x-queue-version": int64(2)}, ""},
		{T{"x-dead-letter-strategy": "zz"}, "x-dead-letter-strategy@ of queue type rabbit_classic_queue"},
		{quorum("x-dead-letter-strategy", "zz"), "x-dead-letter-strategy@: invalid_dlx_strategy"},
		{quorum("x-quorum-initial-group-size", int32(0)), "x-quorum-initial-group-size@: {value_zero,0}"},
		{quorum("x-queue-leader-locator", "zz"), "x-queue-leader-locator@: invalid_queue_locator_arg"},
		{T{"x-queue-type": "quorum", "x-queue-mode": "lazy", "x-message-ttl": int32(-1)}, "x-message-ttl@: {value_negative,-1}"},
		{T{"x-ack-quorum": "some"}, "x-ack-quorum@: invalid_ack_quorum"}, // ours
		{T{"x-ack-quorum": "2"}, ""},
		{T{"x-unknown": "zz"}, ""},
	} {
		text := ""
		if c.text != "" {
			text = "PRECONDITION_FAILED - invalid arg '" + strings.Replace(c.text, "@", "' for queue 'q' in vhost '/'", 1)
		}
		wantRefusal(t, "declare", CheckNewQueue(&Queue{Vhost: "/", Name: "q", Durable: true, Arguments: c.arguments}), 406, channelFatal, text)
	}
	wantRefusal(t, "dlx", CheckNewQueue(&Queue{Vhost: "/", Name: "q", Arguments: T{"x-dead-letter-exchange": int32(1)}}), 406, channelFatal,
		"PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'")
	wantRefusal(t, "ack quorum", CheckAckQuorum(&Queue{Vhost: "/", Name: "q", AckQuorum: "4"}, 3), 406, channelFatal,
		"PRECONDITION_FAILED - ack quorum 4 of queue 'q' in vhost '/' is above the 3 copies of its group")
}

func TestBehaviour03InvalidQuorumQueue(t *testing.T) {
	arguments := amqp.Table{"x-queue-type": "quorum"}
	for _, c := range []struct {
		queue Queue
		text  string
	}{
		{Queue{Durable: true}, "Cannot declare a server-named queue for type rabbit_quorum_queue"},
		{Queue{Name: "q"}, "invalid property 'non-durable' for queue 'q' in vhost '/'"},
		{Queue{Name: "q", Durable: true, AutoDelete: true}, "invalid property 'auto-delete' for queue 'q' in vhost '/'"},
		{Queue{Name: "q", Durable: true, Exclusive: true}, "invalid property 'exclusive-owner' for queue 'q' in vhost '/'"},
		{Queue{Name: "q", AutoDelete: true, Exclusive: true}, "invalid property 'auto-delete' for queue 'q' in vhost '/'"},
	} {
		c.queue.Vhost, c.queue.Arguments = "/", arguments
		wantRefusal(t, "declare", CheckNewQueue(&c.queue), 406, channelFatal, "PRECONDITION_FAILED - "+c.text)
	}
}

func TestBehaviour04LockedQueues(t *testing.T) {
	const text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
	mine := &Queue{Vhost: "/", Name: "q", Exclusive: true, Owner: "c1"}
	shared := &Queue{Vhost: "/", Name: "q"}
	wantRefusal(t, "exclusive vs not", CheckQueueEquivalent(mine, shared), 405, channelFatal, text)
	wantRefusal(t, "not vs exclusive", CheckQueueEquivalent(shared, mine), 405, channelFatal, text)
	wantRefusal(t, "another's", CheckQueueEquivalent(mine, &Queue{Exclusive: true, Owner: "c2"}), 405, channelFatal, text)
	wantRefusal(t, "another's passively", CheckQueueOwner(mine, "c2"), 405, channelFatal, text)
	wantRefusal(t, "one's own", CheckQueueOwner(mine, "c1"), 0, false, "")
	wantRefusal(t, "everyone's", CheckQueueOwner(shared, "c1"), 0, false, "")
}

func TestBehaviour05ExclusiveUse(t *testing.T) {
	wantRefusal(t, "consume", QueueInExclusiveUse("/", "q"), 403, channelFatal, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use")
}

func TestBehaviour06ReservedNames(t *testing.T) {
	const refused, asDefault = "ACCESS_REFUSED - ", "ACCESS_REFUSED - operation not permitted on the default exchange"
	wantRefusal(t, "queue", CheckNewQueueName("amq.foo"), 403, channelFatal, refused+"queue name 'amq.foo' contains reserved prefix 'amq.*'")
	wantRefusal(t, "exchange", CheckNewExchangeName("amq.zz"), 403, channelFatal, refused+"exchange name 'amq.zz' contains reserved prefix 'amq.*'")
	wantRefusal(t, "other", CheckNewQueueName("amqp"), 0, false, "")
	wantRefusal(t, "default", CheckNotDefaultExchange(""), 403, channelFatal, asDefault)
	wantRefusal(t, "delete default", CheckExchangeDeletion("/", ""), 403, channelFatal, asDefault)
	wantRefusal(t, "delete", CheckExchangeDeletion("/", "amq.direct"), 403, channelFatal, refused+"deletion of system exchange 'amq.direct' in vhost '/' not allowed")
	wantRefusal(t, "delete missing", CheckExchangeDeletion("/", "amq.nothere"), 403, channelFatal, refused+"deletion of system exchange 'amq.nothere' in vhost '/' not allowed")
	wantRefusal(t, "internal", CheckPublish(&Exchange{Vhost: "/", Name: "t.x", Internal: true}), 403, channelFatal, refused+"cannot publish to internal exchange 't.x' in vhost '/'")
	wantRefusal(t, "kind", CheckNewExchange(&Exchange{Kind: "zz"}), 503, connectionFatal, "COMMAND_INVALID - unknown exchange type 'zz'")
	wantRefusal(t, "alternate", CheckNewExchange(&Exchange{Vhost: "/", Name: "t.x", Kind: "direct", Arguments: amqp.Table{"alternate-exchange": int32(1)}}),
		406, channelFatal, "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 't.x' in vhost '/'")

	d := newDriver(t)
	d.queue("q")
	wantRefusal(t, "state: bind default", d.do(d.bind(Binding{Vhost: "/", Destination: "q", RoutingKey: "k"})).Refusal("/"), 403, channelFatal, asDefault)
	wantRefusal(t, "state: delete", d.do(AppendDeleteExchange(nil, "/", "amq.topic", false)).Refusal("/"), 403, channelFatal,
		refused+"deletion of system exchange 'amq.topic' in vhost '/' not allowed")
	d.exchange("x", "direct", nil)
	d.do(d.bind(Binding{Vhost: "/", Source: "x", Destination: "q"}))
	wantRefusal(t, "state: in use", d.do(AppendDeleteExchange(nil, "/", "x", true)).Refusal("/"), 406, channelFatal,
		"PRECONDITION_FAILED - exchange 'x' in vhost '/' in use")
}

func TestBehaviour06InvalidMatch(t *testing.T) {
	for _, c := range []struct {
		kind string
		v    any
		text string
	}{
		{"headers", "zz", `Invalid x-match field value <<"zz">>; expected all, any, all-with-x, or any-with-x`},
		{"headers", int32(3), "Invalid x-match field type signedint (value 3); expected longstr"},
		{"headers", []byte("any"), `Invalid x-match field type binary (value <<"any">>); expected longstr`},
		{"headers", nil, "Invalid x-match field type void (value undefined); expected longstr"},
		{"headers", "any-with-x", ""},
		{"topic", "zz", ""},
	} {
		if c.text != "" {
			c.text = "PRECONDITION_FAILED - " + c.text
		}
		wantRefusal(t, "bind", CheckBinding(c.kind, amqp.Table{"x-match": c.v}), 406, channelFatal, c.text)
	}
}

// RabbitMQ 3.10 doesn't yet name the action; later versions do, and so do we.
func TestBehaviour07Permissions(t *testing.T) {
	d := newDriver(t)
	d.do(AppendPutUser(nil, User{Name: "limited", PasswordHash: HashPassword([]byte("salt"), "pw")}))
	d.do(AppendPutPermission(nil, Permission{User: "limited", Vhost: "/", Configure: "^ok", Write: "^ok", Read: ""}))
	s := d.state
	wantRefusal(t, "configure", s.CheckAccess("limited", "/", Configure, QueueKind, "q"), 403, channelFatal,
		"ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'limited'")
	wantRefusal(t, "write default", s.CheckAccess("limited", "/", Write, ExchangeKind, ""), 403, channelFatal,
		"ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'limited'")
	wantRefusal(t, "read", s.CheckAccess("limited", "/", Read, QueueKind, "ok"), 403, channelFatal,
		"ACCESS_REFUSED - read access to queue 'ok' in vhost '/' refused for user 'limited'")
	wantRefusal(t, "allowed", s.CheckAccess("limited", "/", Configure, QueueKind, "ok.q"), 0, false, "")
	wantRefusal(t, "guest", s.CheckAccess("guest", "/", Write, ExchangeKind, "anything"), 0, false, "")
	wantRefusal(t, "vhost", s.CheckVhost("limited", "/"), 0, false, "")
	d.do(AppendPutVhost(nil, Vhost{Name: "other"}))
	wantRefusal(t, "other vhost", s.CheckVhost("limited", "other"), 530, connectionFatal, "NOT_ALLOWED - access to vhost 'other' refused for user 'limited'")
	if r := d.do(AppendPutPermission(nil, Permission{User: "limited", Vhost: "/", Configure: "("})); r.Code != Invalid {
		t.Errorf("a permission that isn't a regular expression: %+v", r)
	}
}

func TestBehaviour08Names(t *testing.T) {
	for given, want := range map[string]string{"q": "q", "am\nq.\rfoo": "amq.foo", "\r\n": ""} {
		if got := StripName(given); got != want {
			t.Errorf("StripName(%q) = %q, want %q", given, got, want)
		}
	}
	wantRefusal(t, "no name", NoPreviousQueue(), 404, channelFatal, "NOT_FOUND - no previously declared queue")
}

func TestBehaviour09PredeclaredExchanges(t *testing.T) {
	d := newDriver(t)
	d.do(AppendPutVhost(nil, Vhost{Name: "other"}))
	want := "|direct amq.direct|direct amq.fanout|fanout amq.headers|headers amq.match|headers amq.rabbitmq.trace|topic|internal amq.topic|topic "
	for _, vhost := range []string{"/", "other"} {
		got := ""
		for _, x := range d.state.Exchanges(vhost) {
			got += x.Name + "|" + x.Kind
			if x.Internal {
				got += "|internal"
			}
			if got += " "; !x.Durable || x.AutoDelete || !x.Predeclared {
				t.Errorf("%+v", x)
			}
		}
		if got != want {
			t.Errorf("vhost %s has %s", vhost, got)
		}
	}
}

func TestBehaviour19UnknownVhost(t *testing.T) {
	wantRefusal(t, "open", New().CheckVhost("guest", "nothere"), 530, connectionFatal, "NOT_ALLOWED - vhost nothere not found")
}
