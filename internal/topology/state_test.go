package topology

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

func TestNewStateHasGuest(t *testing.T) {
	d := newDriver(t)
	for range 2 {
		s := d.state
		if !s.VerifyPassword("guest", "guest") || s.VerifyPassword("guest", "Guest") || s.VerifyPassword("other", "guest") || s.VerifyPassword("other", "") {
			t.Fatal("guest's password isn't guest")
		}
		if u := s.User("guest"); !u.HasTag("administrator") || s.CheckVhost("guest", "/") != nil {
			t.Fatalf("guest is %+v", u)
		}
		d.restart()
	}
}

// The example in RabbitMQ's documentation ("Passwords: computing password hash").
func TestPasswordHashIsRabbitMQs(t *testing.T) {
	hash := HashPassword([]byte{0x90, 0x8d, 0xc6, 0x0a}, "test12")
	if got := base64.StdEncoding.EncodeToString(hash); got != "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR" {
		t.Errorf("got %s", got)
	}
}

func TestUserWithoutPasswordHashCantLogIn(t *testing.T) {
	d := newDriver(t)
	d.do(AppendPutUser(nil, User{Name: "u"}))
	if d.state.VerifyPassword("u", "") {
		t.Error("an empty password lets in a user without one")
	}
	if r := d.do(AppendPutUser(nil, User{Name: "u", PasswordHash: []byte("short")})); r.Code != Invalid {
		t.Errorf("a hash that isn't one: %+v", r)
	}
}

func TestAccessVersionChangesWithPermissions(t *testing.T) {
	d := newDriver(t)
	for _, ops := range [][]byte{
		AppendPutUser(nil, User{Name: "u"}),
		AppendPutPermission(nil, Permission{User: "u", Vhost: "/", Configure: ".*"}),
		AppendPutVhost(nil, Vhost{Name: "v"}),
		AppendDeletePermission(nil, "u", "/"),
		AppendDeleteVhost(nil, "v"),
		AppendDeleteUser(nil, "u"),
	} {
		before := d.state.AccessVersion()
		if d.do(ops); d.state.AccessVersion() == before || !d.fx.Changed {
			t.Errorf("op %d changes nothing", ops[0])
		}
	}
	before := d.state.AccessVersion()
	if d.queue("q"); d.state.AccessVersion() != before {
		t.Error("a queue changes what users may do")
	}
}

func TestDeclareOfWhatIsThereReturnsIt(t *testing.T) {
	d := newDriver(t)
	q := d.queue("q")
	r := d.do(d.must(AppendDeclareQueue(nil, &Queue{ID: 99, Vhost: "/", Name: "q"})))
	if r.Code != Exists || r.Queue != q || d.fx.Changed || len(d.fx.QueuesAdded) > 0 {
		t.Errorf("got %+v", r)
	}
	d.exchange("x", "topic", nil)
	r = d.do(d.must(AppendDeclareExchange(nil, &Exchange{Vhost: "/", Name: "x", Kind: "direct"})))
	if r.Code != Exists || r.Exchange.Kind != "topic" || d.fx.Changed {
		t.Errorf("got %+v", r)
	}
}

func TestSubmissionTwiceIsAppliedOnce(t *testing.T) {
	d := newDriver(t)
	ops := d.must(AppendDeclareQueue(nil, &Queue{ID: 1, Vhost: "/", Name: "q"}))
	ops = AppendDeleteQueue(ops, "/", "q", 0)
	payload := AppendSubmission(AppendSubmission(AppendBatch(nil, 1), 5, 7, ops), 5, 7, ops)
	var fx Effects
	if err := d.state.Apply(1, payload, &fx); err != nil {
		t.Fatal(err)
	}
	d.restart()
	if err := d.state.Apply(2, payload, &fx); err != nil {
		t.Fatal(err)
	}
	var duplicates []bool
	for _, r := range fx.Results {
		duplicates = append(duplicates, r.Duplicate)
	}
	if !slices.Equal(duplicates, []bool{false, true, true, true}) || len(fx.QueuesAdded) != 1 {
		t.Errorf("got %+v", fx)
	}
}

func TestDeleteOfAQueueDeclaredAgainLeavesIt(t *testing.T) {
	d := newDriver(t)
	old := d.queue("q")
	d.do(AppendDeleteQueue(nil, "/", "q", old.ID))
	again := d.queue("q")
	if r := d.do(AppendDeleteQueue(nil, "/", "q", old.ID)); r.Code != Missing || d.state.Queue("/", "q") != again {
		t.Errorf("got %+v", r)
	}
}

func TestExclusiveQueuesGoWithTheirConnection(t *testing.T) {
	d := newDriver(t)
	for i, owner := range []string{"c1", "c2", "c1"} {
		q := d.declare(Queue{Name: fmt.Sprint("q", i), Exclusive: true, Durable: true, Owner: owner, Group: entry.Volatile, Broker: "b", Boot: 1})
		if q.Durable {
			t.Error("an exclusive queue is durable")
		}
		d.do(d.bind(Binding{Vhost: "/", Source: "amq.fanout", Destination: q.Name}))
	}
	d.restart()
	d.do(AppendDeleteOwned(nil, "c1"))
	if got := d.route("amq.fanout", "", nil); !slices.Equal(got, []string{"q1"}) || len(d.fx.QueuesDeleted) != 2 {
		t.Errorf("left: %v, deleted %d", got, len(d.fx.QueuesDeleted))
	}
}

func TestVolatileQueuesOfEarlierBootsGo(t *testing.T) {
	d := newDriver(t)
	d.queue("durable")
	for _, q := range []Queue{{Name: "old", Broker: "b1", Boot: 1}, {Name: "new", Broker: "b1", Boot: 2}, {Name: "other", Broker: "b2", Boot: 1}} {
		q.Group = entry.Volatile
		d.declare(q)
	}
	d.do(AppendDeleteVolatile(nil, "b1", 2))
	if len(d.fx.QueuesDeleted) != 1 || d.fx.QueuesDeleted[0].Name != "old" {
		t.Errorf("deleted %+v", d.fx.QueuesDeleted)
	}
	if d.do(AppendDeleteVolatile(nil, "b1", 0)); d.state.QueueCount() != 2 {
		t.Errorf("%d left", d.state.QueueCount())
	}
}

func TestDurableAutoDeleteExchangesGoWithTheirLastBinding(t *testing.T) {
	d := newDriver(t)
	const chain = 3000
	q := d.queue("q")
	for i := range chain {
		d.declareExchange(Exchange{Name: fmt.Sprintf("x%04d", i), Kind: "fanout", AutoDelete: true, Durable: true})
		b := Binding{Vhost: "/", Source: fmt.Sprintf("x%04d", i), Destination: "q"}
		if i > 0 {
			b.ToExchange, b.Destination = true, fmt.Sprintf("x%04d", i-1)
		}
		d.do(d.bind(b))
	}
	d.do(d.bind(Binding{Vhost: "/", Source: "amq.topic", ToExchange: true, Destination: "x0007"}))
	d.restart()
	if got := d.route(fmt.Sprintf("x%04d", chain-1), "", nil); len(got) != 1 {
		t.Fatalf("a chain of exchanges leads to %v", got)
	}
	d.do(AppendDeleteQueue(nil, "/", "q", q.ID))
	if n := len(d.fx.ExchangesDeleted); n != chain || d.fx.ExchangesDeleted[0].Name != "x0000" {
		t.Errorf("%d exchanges deleted", n)
	}
	if got := d.state.Bindings("/"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestUnbindingTheLastBindingDeletesItsAutoDeleteExchange(t *testing.T) {
	d := newDriver(t)
	d.queue("q")
	d.declareExchange(Exchange{Name: "x", Kind: "topic", AutoDelete: true})
	one, two := Binding{Vhost: "/", Source: "x", Destination: "q", RoutingKey: "a"}, Binding{Vhost: "/", Source: "x", ToExchange: true, Destination: "x", RoutingKey: "#"}
	d.do(d.bind(one))
	d.do(d.bind(two))
	if d.do(d.unbind(one)); d.state.Exchange("/", "x") == nil {
		t.Fatal("the exchange went before its last binding")
	}
	if d.do(d.unbind(two)); d.state.Exchange("/", "x") != nil {
		t.Fatal("the exchange is left without a binding")
	}
	if d.do(d.must(AppendDeclareExchange(nil, &Exchange{Vhost: "/", Name: "x", Kind: "direct", AutoDelete: true}))); d.state.Exchange("/", "x") == nil {
		t.Fatal("a new auto-delete exchange went without ever having had a binding")
	}
}

func TestDeletingAVhostTakesAllThatIsInIt(t *testing.T) {
	d := newDriver(t)
	d.apply(sampleOps(t))
	before := d.state.QueueCount()
	d.do(AppendDeleteVhost(nil, "v"))
	if before != 2 || d.state.QueueCount() != 0 || len(d.fx.QueuesDeleted) != 2 || len(d.fx.ExchangesDeleted) != 1 || !slices.Equal(d.fx.VhostsDeleted, []string{"v"}) {
		t.Errorf("left %d queues, effects %+v", d.state.QueueCount(), d.fx)
	}
	if got := d.state.Permissions(); len(got) != 1 {
		t.Errorf("permissions left: %v", got)
	}
	if _, err := d.state.Route("v", []byte("x"), nil, nil, nil); err == nil {
		t.Error("a vhost that is gone routes")
	}
	d.restart()
}

func TestNamesThatAreTooLongAreInvalid(t *testing.T) {
	d := newDriver(t)
	long := strings.Repeat("n", 256)
	d.queue("q")
	for i, ops := range [][]byte{
		d.must(AppendDeclareQueue(nil, &Queue{ID: 5, Vhost: "/", Name: long})),
		d.must(AppendDeclareQueue(nil, &Queue{ID: 5, Vhost: "/"})),
		d.must(AppendDeclareQueue(nil, &Queue{Vhost: "/", Name: "no id"})),
		d.must(AppendDeclareQueue(nil, &Queue{ID: 1, Vhost: "/", Name: "an id that is taken"})),
		d.must(AppendDeclareQueue(nil, &Queue{ID: 5, Vhost: "/", Name: "no owner", Exclusive: true})),
		d.must(AppendDeclareExchange(nil, &Exchange{Vhost: "/", Name: long, Kind: "direct"})),
		d.must(AppendDeclareExchange(nil, &Exchange{Vhost: "/", Name: "x", Kind: "unknown"})),
		d.bind(Binding{Vhost: "/", Source: "amq.topic", Destination: "q", RoutingKey: long}),
		d.bind(Binding{Vhost: "/", Source: "amq.match", Destination: "q", Arguments: amqp.Table{"x-match": "some"}}),
		AppendPutVhost(nil, Vhost{Name: long}),
		AppendPutUser(nil, User{Name: long}),
		AppendPutPermission(nil, Permission{User: "guest", Vhost: "/", Read: strings.Repeat("a", 5000)}),
	} {
		if r := d.do(ops); r.Code != Invalid || d.fx.Changed || r.Refusal("/") == nil {
			t.Errorf("%d: got %+v", i, r)
		}
	}
}

func TestTablesThatCantBeEncodedLeaveTheBytesAsTheyWere(t *testing.T) {
	bad := amqp.Table{"a": struct{}{}}
	before := []byte("before")
	for i, f := range []func() ([]byte, error){
		func() ([]byte, error) { return AppendDeclareQueue(before, &Queue{Arguments: bad}) },
		func() ([]byte, error) { return AppendDeclareExchange(before, &Exchange{Arguments: bad}) },
		func() ([]byte, error) { return AppendBind(before, &Binding{Arguments: bad}) },
	} {
		if got, err := f(); err == nil || !bytes.Equal(got, before) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
}

func TestQueuesAreCountedByGroup(t *testing.T) {
	d := newDriver(t)
	d.do(AppendPutVhost(nil, Vhost{Name: "v"}))
	for i, q := range []Queue{{Vhost: "/", Group: 1}, {Vhost: "/", Group: 2}, {Vhost: "v", Group: 1}, {Vhost: "v", Group: 3}} {
		q.Name = fmt.Sprint("q", i)
		d.declare(q)
	}
	expect := func(want ...int) {
		t.Helper()
		for i, n := range want {
			if got := d.state.QueuesIn(entry.GroupID(i + 1)); got != n {
				t.Errorf("%d queues in group %d, want %d", got, i+1, n)
			}
		}
	}
	expect(2, 1, 1)
	d.restart()
	expect(2, 1, 1)
	d.do(AppendDeleteQueue(nil, "/", "q1", 0))
	d.do(AppendDeleteVhost(nil, "v"))
	d.restart()
	expect(1, 0, 0)
}
