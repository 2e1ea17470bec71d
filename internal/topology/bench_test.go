package topology

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// benchBindings is how many bindings the benchmarks' exchanges have.
const benchBindings = 100_000

// benchState has 1,000 queues, and binds them benchBindings times to exchange.
func benchState(b *testing.B, exchange string, binding func(i int) Binding) *State {
	d := newDriver(b)
	for i := range 1000 {
		d.queue(fmt.Sprintf("q%d", i))
	}
	var ops []byte
	for i := range benchBindings {
		one := binding(i)
		one.Vhost, one.Source, one.Destination = "/", exchange, fmt.Sprintf("q%d", i%1000)
		var err error
		if ops, err = AppendBind(ops, &one); err != nil {
			b.Fatal(err)
		}
	}
	d.apply(ops)
	if got := len(d.state.BindingsFrom("/", exchange)); got != benchBindings {
		b.Fatalf("%d bindings", got)
	}
	return d.state
}

func benchRoute(b *testing.B, s *State, exchange string, keys [][]byte, headers func(i int) amqp.Table) {
	b.Helper()
	dst := make([]*Queue, 0, 4096)
	routed := 0
	b.ReportAllocs()
	i := 0
	var table func() amqp.Table
	if headers != nil {
		tables := make([]amqp.Table, 1024)
		for i := range tables {
			tables[i] = headers(i)
		}
		table = func() amqp.Table { return tables[i%len(tables)] }
	}
	name := []byte(exchange)
	for b.Loop() {
		found, err := s.Route("/", name, keys[i%len(keys)], table, dst)
		if err != nil {
			b.Fatal(err)
		}
		routed += len(found)
		i++
	}
	if routed == 0 {
		b.Fatal("nothing was routed")
	}
	b.ReportMetric(float64(routed)/float64(i), "queues/op")
}

func benchKeys(key func(i int) string) [][]byte {
	keys := make([][]byte, 1024)
	for i := range keys {
		keys[i] = []byte(key(i))
	}
	return keys
}

func BenchmarkRouteDefault(b *testing.B) {
	s := benchState(b, "amq.direct", func(i int) Binding { return Binding{RoutingKey: fmt.Sprint("k", i)} })
	benchRoute(b, s, "", benchKeys(func(i int) string { return fmt.Sprint("q", i%1000) }), nil)
}

func BenchmarkRouteDirect(b *testing.B) {
	s := benchState(b, "amq.direct", func(i int) Binding { return Binding{RoutingKey: fmt.Sprint("k", i)} })
	benchRoute(b, s, "amq.direct", benchKeys(func(i int) string { return fmt.Sprint("k", i*97) }), nil)
}

func BenchmarkRouteFanoutOf1000Queues(b *testing.B) {
	s := benchState(b, "amq.fanout", func(i int) Binding { return Binding{RoutingKey: fmt.Sprint("k", i)} })
	benchRoute(b, s, "amq.fanout", [][]byte{nil}, nil)
}

func BenchmarkRouteTopicExact(b *testing.B) {
	s := benchState(b, "amq.topic", func(i int) Binding { return Binding{RoutingKey: fmt.Sprintf("region%d.host%d.cpu", i%100, i/100)} })
	benchRoute(b, s, "amq.topic", benchKeys(func(i int) string { return fmt.Sprintf("region%d.host%d.cpu", i%100, i%1000) }), nil)
}

func BenchmarkRouteTopicWildcards(b *testing.B) {
	s := benchState(b, "amq.topic", func(i int) Binding {
		return Binding{RoutingKey: fmt.Sprintf([]string{"region%d.*.metric%d", "region%d.metric%d.#", "*.region%d.metric%d", "#.region%d.metric%d"}[i%4], i%100, i/100)}
	})
	benchRoute(b, s, "amq.topic", benchKeys(func(i int) string {
		return fmt.Sprintf("region%d.metric%d.region%d.metric%d", i/4%100, i, i%100, i)
	}), nil)
}

func BenchmarkRouteHeadersAll(b *testing.B) {
	s := benchState(b, "amq.headers", func(i int) Binding {
		return Binding{Arguments: amqp.Table{"format": "pdf", "customer": int32(i)}}
	})
	benchRoute(b, s, "amq.headers", [][]byte{nil}, func(i int) amqp.Table {
		return amqp.Table{"format": "pdf", "customer": int64(i * 97), "trace": "0123456789abcdef"}
	})
}

func BenchmarkRouteHeadersAny(b *testing.B) {
	s := benchState(b, "amq.headers", func(i int) Binding {
		return Binding{Arguments: amqp.Table{"x-match": "any", "order": int32(i), "customer": int32(i)}}
	})
	benchRoute(b, s, "amq.headers", [][]byte{nil}, func(i int) amqp.Table {
		return amqp.Table{"order": int32(1), "customer": int64(i * 97)}
	})
}

func BenchmarkBindAndUnbind(b *testing.B) {
	s := benchState(b, "amq.topic", func(i int) Binding { return Binding{RoutingKey: fmt.Sprintf("region%d.host%d.cpu", i%100, i/100)} })
	one := Binding{Vhost: "/", Source: "amq.topic", Destination: "q1", RoutingKey: "some.other.#"}
	ops, err := AppendBind(nil, &one)
	if err != nil {
		b.Fatal(err)
	}
	if ops, err = AppendUnbind(ops, &one); err != nil {
		b.Fatal(err)
	}
	var fx Effects
	sequence := uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		sequence++
		fx.Reset()
		if err := s.Apply(s.Applied()+1, AppendSubmission(AppendBatch(nil, 0), 1, sequence, ops), &fx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckpointAndRestore(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	s := benchState(b, "amq.topic", func(i int) Binding { return Binding{RoutingKey: fmt.Sprintf("a%d.b%d.#", r.IntN(1000), i)} })
	b.ReportAllocs()
	for b.Loop() {
		var buffer bytes.Buffer
		if err := s.Checkpoint(&buffer); err != nil {
			b.Fatal(err)
		}
		if _, err := Restore(&buffer); err != nil {
			b.Fatal(err)
		}
	}
}
