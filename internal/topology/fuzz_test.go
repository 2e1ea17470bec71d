package topology

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// sampleOps has an op of every kind.
func sampleOps(t testing.TB) []byte {
	d := driver{t: t}
	arguments := amqp.Table{"x-match": "any", "a": int32(1), "t": amqp.Table{"n": nil}}
	b := AppendPutVhost(nil, Vhost{Name: "v", Description: "d", Tags: []string{"x"}, DefaultQueueType: "quorum"})
	b = AppendPutUser(b, User{Name: "u", PasswordHash: HashPassword([]byte("salt"), "p"), Tags: []string{"administrator", "y"}})
	b = AppendPutPermission(b, Permission{User: "u", Vhost: "v", Configure: ".*", Write: "^a", Read: ""})
	b = append(b, d.must(AppendDeclareExchange(nil, &Exchange{Vhost: "v", Name: "x", Kind: "headers", AutoDelete: true, Arguments: amqp.Table{"alternate-exchange": "y"}}))...)
	b = append(b, d.must(AppendDeclareQueue(nil, &Queue{ID: 7, Group: 1 << 31, Vhost: "v", Name: "q", Exclusive: true, Owner: "c", Broker: "b", Boot: 9, Type: "classic"}))...)
	b = append(b, d.must(AppendDeclareQueue(nil, &Queue{ID: 8, Group: 3, Vhost: "v", Name: "r", Durable: true, AckQuorum: "all", Arguments: amqp.Table{"x-ack-quorum": "all"}}))...)
	b = append(b, d.must(AppendBind(nil, &Binding{Vhost: "v", Source: "x", Destination: "q", RoutingKey: "k", Arguments: arguments}))...)
	b = append(b, d.must(AppendBind(nil, &Binding{Vhost: "v", Source: "amq.topic", Destination: "x", ToExchange: true, RoutingKey: "a.*.#"}))...)
	return b
}

func sampleEnd(t testing.TB) []byte {
	d := driver{t: t}
	b := d.must(AppendUnbind(nil, &Binding{Vhost: "v", Source: "amq.topic", Destination: "x", ToExchange: true, RoutingKey: "a.*.#"}))
	b = AppendDeleteQueue(b, "v", "q", 7)
	b = AppendDeleteExchange(b, "v", "x", true)
	b = AppendDeleteVolatile(b, "b", 10)
	b = AppendDeleteOwned(b, "c")
	b = AppendDeleteTransient(b)
	b = AppendDeletePermission(b, "u", "v")
	b = AppendDeleteUser(b, "u")
	b = AppendDeleteVhost(b, "v")
	return AppendEndSession(b, 1)
}

func FuzzApply(f *testing.F) {
	f.Add(AppendBatch(nil, 1))
	f.Add(AppendSubmission(AppendBatch(nil, 1), 1, 1, sampleOps(f)))
	f.Add(AppendSubmission(AppendSubmission(AppendBatch(nil, 1), 1, 1, sampleOps(f)), 2, 1, sampleEnd(f)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		d := newDriver(t)
		d.apply(sampleOps(t))
		var before, after bytes.Buffer
		if err := d.state.Checkpoint(&before); err != nil {
			t.Fatal(err)
		}
		var fx Effects
		if err := d.state.Apply(10, payload, &fx); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			if err := d.state.Checkpoint(&after); err != nil || !bytes.Equal(before.Bytes(), after.Bytes()) {
				t.Fatalf("a malformed batch changed the state (%v)", err)
			}
			return
		}
		d.restart()
	})
}

func FuzzRestore(f *testing.F) {
	for _, ops := range [][]byte{nil, sampleOps(f), append(sampleOps(f), sampleEnd(f)...)} {
		d := newDriver(f)
		d.apply(ops)
		var b bytes.Buffer
		if err := d.state.Checkpoint(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Restore(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		d := driver{t: t, state: s}
		d.restart()
	})
}

// FuzzTopic holds the trie against the naive matcher.
func FuzzTopic(f *testing.F) {
	f.Add("a.*.#", "#.b", "a.x.b")
	f.Add("#.*.#", ".", "..")
	f.Fuzz(func(t *testing.T, one, two, key string) {
		if len(one) > maxName || len(two) > maxName || len(key) > maxName {
			return
		}
		d := newDriver(t)
		for i, pattern := range []string{one, two} {
			name := []string{"q0", "q1"}[i]
			d.queue(name)
			d.do(d.bind(Binding{Vhost: "/", Source: "amq.topic", Destination: name, RoutingKey: pattern}))
		}
		want := 0
		for _, pattern := range []string{one, two} {
			if naiveTopic(words(pattern), words(key)) {
				want++
			}
		}
		if got := d.route("amq.topic", key, nil); len(got) != want {
			t.Fatalf("%q and %q with key %q: got %v", one, two, key, got)
		}
	})
}

func TestEveryCutOfABatchIsRefusedOrWhole(t *testing.T) {
	whole := AppendSubmission(AppendBatch(nil, 1), 1, 1, append(sampleOps(t), sampleEnd(t)...))
	for n := 1; n < len(whole); n++ {
		if err := New().Apply(1, whole[:n], new(Effects)); err == nil && n != 9 { // 9: a batch without submissions
			t.Errorf("the first %d of %d bytes are taken for a batch", n, len(whole))
		}
	}
	if err := New().Apply(1, nil, new(Effects)); err != nil {
		t.Errorf("an empty entry: %v", err)
	}
}

func TestLengthsThatLieTakeNoMemory(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	batch := AppendBatch(nil, 1)
	head := append([]byte(checkpointMagic), checkpointVersion, 1)
	inputs := [][]byte{
		append(append([]byte{}, batch...), append([]byte{1, 1}, huge...)...),
		AppendSubmission(batch, 1, 1, append([]byte{byte(opDeleteUser)}, huge...)),
		AppendSubmission(batch, 1, 1, append([]byte{byte(opPutUser), 1, 'u', 0}, huge...)),
		append(head, append([]byte{byte(opBind)}, huge...)...),
		append(head, byte(opBind), 0xff, 0xff, 0xff, 0x07), // just below the bound
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i, b := range inputs {
		if i < 3 {
			if err := New().Apply(1, b, new(Effects)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%d: %v", i, err)
			}
		} else if _, err := Restore(bytes.NewReader(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d: %v", i, err)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}
