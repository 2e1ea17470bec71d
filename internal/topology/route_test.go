package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

func TestTopicPatterns(t *testing.T) {
	for _, c := range []struct{ pattern, matching, other string }{
		{"a.b.c", "a.b.c", "a.b|a.b.c.d|a.b.d|a..c"},
		{"*.b", "a.b|.b", "b|a.b.c"},
		{"a.*", "a.b|a.", "a|a.b.c"},
		{"*", "a|*|#", "|a.b"},
		{"#", "|a|a.b|.|..", ""},
		{"a.#", "a|a.b|a.b.c|a.", "b|b.a|ab"},
		{"#.a", "a|b.a|c.b.a|a.a", "a.b|"},
		{"#.a.#", "a|b.a.c|a.a|b.c.a.d.e", "b|b.c|"},
		{"*.#.*", "a.b|a.c.b", "a|"},
		{"#.*", "a|a.b", ""},
		{"*.#", "a|a.b", ""},
		{"#.#", "|a|a.b", ""},
		{"#.*.#.*.#", "a.b|a.b.c", "a|"},
		{"", "", "a|."},
		{".", ".", "|a|.."},
		{"a.#.b.#.c", "a.b.c|a.x.b.y.z.c|a.b.b.c", "a.c|a.b|b.c"},
	} {
		d := newDriver(t)
		d.queue("q")
		d.do(d.bind(Binding{Vhost: "/", Source: "amq.topic", Destination: "q", RoutingKey: c.pattern}))
		for _, key := range strings.Split(c.matching, "|") {
			if len(d.route("amq.topic", key, nil)) != 1 {
				t.Errorf("%q doesn't match %q", c.pattern, key)
			}
		}
		for key := range strings.SplitSeq(c.other, "|") {
			if c.other != "" && len(d.route("amq.topic", key, nil)) != 0 {
				t.Errorf("%q matches %q", c.pattern, key)
			}
		}
		d.do(d.unbind(Binding{Vhost: "/", Source: "amq.topic", Destination: "q", RoutingKey: c.pattern}))
		if x := d.state.vhosts["/"].exchanges["amq.topic"]; !x.topic.bare() {
			t.Errorf("%q leaves nodes behind", c.pattern)
		}
	}
}

// A recursive search would take some 10^30 steps here.
func TestTopicPatternsOfManyHashesAreFast(t *testing.T) {
	d := newDriver(t)
	d.queue("q")
	pattern := strings.TrimSuffix(strings.Repeat("#.a.", 50), ".") + ".b"
	d.do(d.bind(Binding{Vhost: "/", Source: "amq.topic", Destination: "q", RoutingKey: pattern}))
	if got := d.route("amq.topic", strings.TrimSuffix(strings.Repeat("a.", 127), "."), nil); len(got) != 0 {
		t.Error(got)
	}
}

func TestHeadersMatching(t *testing.T) {
	type T = amqp.Table
	for i, c := range []struct {
		arguments, headers T
		want               bool
	}{
		{nil, nil, true},
		{T{"x-match": "any"}, T{"a": "1"}, false},
		{T{"a": "1"}, T{"a": "1", "b": "2"}, true},
		{T{"a": "1", "b": "2"}, T{"a": "1"}, false},
		{T{"a": "1", "b": "2", "x-match": "any"}, T{"a": "1"}, true},
		{T{"a": "1", "b": "2", "x-match": "any"}, T{"a": "2"}, false},
		{T{"a": nil}, T{"a": "whatever"}, true},
		{T{"a": nil}, T{"a": nil}, true},
		{T{"a": nil}, T{"b": "1"}, false},
		{T{"a": "1"}, T{"a": nil}, false},
		{T{"a": int32(1)}, T{"a": int64(1)}, true},
		{T{"a": int32(1)}, T{"a": 1.0}, true},
		{T{"a": int32(1)}, T{"a": 1.5}, false},
		{T{"a": int32(1)}, T{"a": "1"}, false},
		{T{"a": int32(1)}, T{"a": time.Unix(1, 0)}, true},
		{T{"a": "z"}, T{"a": []byte("z")}, true},
		{T{"a": true}, T{"a": true}, true},
		{T{"a": true}, T{"a": int32(1)}, false},
		{T{"a": []any{int32(1)}}, T{"a": []any{int32(1)}}, true},
		{T{"a": []any{int32(1)}}, T{"a": []any{int64(1)}}, false},
		{T{"x-a": "1"}, T{}, true},
		{T{"x-a": "1", "x-match": "all-with-x"}, T{}, false},
		{T{"x-a": "1", "x-match": "all-with-x"}, T{"x-a": "1"}, true},
		{T{"x-a": "1", "x-match": "any"}, T{"x-a": "1"}, false},
		{T{"x-a": "1", "x-match": "any-with-x"}, T{"x-a": "1"}, true},
		{T{"a": 1e300}, T{"a": 1e300}, true},
	} {
		d := newDriver(t)
		d.queue("q")
		b := Binding{Vhost: "/", Source: "amq.headers", Destination: "q", Arguments: c.arguments}
		d.do(d.bind(b))
		if got := len(d.route("amq.headers", "", c.headers)) == 1; got != c.want {
			t.Errorf("%d: %v with %v: %v", i, c.arguments, c.headers, got)
		}
		d.do(d.unbind(b))
		if x := d.state.vhosts["/"].exchanges["amq.headers"]; len(x.headers.buckets) != 0 || !x.headers.always.empty() {
			t.Errorf("%d: %v leaves something behind", i, c.arguments)
		}
	}
}

func TestRouteFollowsExchangesAndCycles(t *testing.T) {
	d := newDriver(t)
	for _, x := range []string{"a", "b", "c"} {
		d.exchange(x, "fanout", nil)
	}
	for _, q := range []string{"q1", "q2", "q3"} {
		d.queue(q)
	}
	for _, b := range []Binding{
		{Source: "a", Destination: "b", ToExchange: true},
		{Source: "b", Destination: "c", ToExchange: true},
		{Source: "c", Destination: "a", ToExchange: true},
		{Source: "a", Destination: "a", ToExchange: true},
		{Source: "c", Destination: "q1"}, {Source: "b", Destination: "q2"}, {Source: "a", Destination: "q1"}, {Source: "a", Destination: "q1", RoutingKey: "again"},
	} {
		b.Vhost = "/"
		d.do(d.bind(b))
	}
	if got := d.route("b", "k", nil); !slices.Equal(got, []string{"q1", "q2"}) {
		t.Errorf("got %v", got)
	}
	if got := d.route("", "q3", nil); !slices.Equal(got, []string{"q3"}) {
		t.Errorf("default exchange: got %v", got)
	}
}

func TestRouteFallsBackToAlternateExchanges(t *testing.T) {
	d := newDriver(t)
	d.exchange("a", "direct", amqp.Table{"alternate-exchange": "b"})
	d.exchange("b", "direct", amqp.Table{"alternate-exchange": "a"})
	d.exchange("c", "direct", amqp.Table{"alternate-exchange": "missing"})
	d.queue("q1")
	d.queue("q2")
	d.do(d.bind(Binding{Vhost: "/", Source: "a", Destination: "q1", RoutingKey: "1"}))
	d.do(d.bind(Binding{Vhost: "/", Source: "b", Destination: "q2", RoutingKey: "2"}))
	for _, c := range []struct {
		exchange, key string
		want          []string
	}{{"a", "1", []string{"q1"}}, {"a", "2", []string{"q2"}}, {"b", "1", []string{"q1"}}, {"a", "3", []string{}}, {"c", "1", []string{}}} {
		if got := d.route(c.exchange, c.key, nil); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: got %v", c.exchange, c.key, got)
		}
	}
}

// randomWords makes a key, or a pattern, of few different words.
func randomWords(r *rand.Rand, pattern bool) string {
	list := make([]string, r.IntN(6))
	for i := range list {
		list[i] = []string{"a", "b", "c", "", "d", "*", "#", "#"}[r.IntN(8)]
		if !pattern && len(list[i]) == 1 && r.IntN(8) > 0 {
			list[i] = string('a' + rune(r.IntN(4)))
		}
	}
	return strings.Join(list, ".")
}

func randomHeaders(r *rand.Rand, arguments bool) amqp.Table {
	values := []any{"1", "2", []byte("1"), int32(1), int64(1), 1.0, float32(1.5), true, false, nil, time.Unix(1, 0).UTC(), uint16(2), int8(2)}
	t := amqp.Table{}
	for range r.IntN(4) {
		t[[]string{"a", "b", "c", "x-d"}[r.IntN(4)]] = values[r.IntN(len(values))]
	}
	if arguments && r.IntN(4) > 0 {
		t["x-match"] = []string{"all", "any", "all-with-x", "any-with-x"}[r.IntN(4)]
	}
	return t
}

func TestRouteFindsWhatAScanOfAllBindingsFinds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		d := newDriver(t)
		exchanges := map[string]Exchange{}
		for i := range 8 {
			e := Exchange{Name: fmt.Sprintf("x%d", i), Kind: []string{"direct", "fanout", "topic", "headers"}[i%4], Durable: true}
			if r.IntN(2) == 0 {
				e.Arguments = amqp.Table{"alternate-exchange": fmt.Sprintf("x%d", r.IntN(10))}
			}
			d.declareExchange(e)
			exchanges[e.Name] = e
		}
		var queues []string
		for i := range 40 {
			queues = append(queues, fmt.Sprintf("q%d", i))
			d.queue(queues[i])
		}
		var bindings []Binding
		for range 300 {
			b := Binding{Vhost: "/", Source: fmt.Sprintf("x%d", r.IntN(8)), RoutingKey: randomWords(r, true), Destination: fmt.Sprintf("q%d", r.IntN(40))}
			if r.IntN(20) == 0 {
				b.ToExchange, b.Destination = true, fmt.Sprintf("x%d", r.IntN(8))
			}
			if r.IntN(2) == 0 {
				b.Arguments = randomHeaders(r, true)
			}
			if d.do(d.bind(b)).Code == OK {
				bindings = append(bindings, b)
			}
			if i := r.IntN(len(bindings)); r.IntN(3) == 0 {
				if d.do(d.unbind(bindings[i])).Code != OK {
					t.Fatalf("%+v wasn't there to unbind", bindings[i])
				}
				bindings = slices.Delete(bindings, i, i+1)
			}
		}
		for i := range 400 {
			if i == 200 {
				d.restart()
			}
			exchange, key, headers := fmt.Sprintf("x%d", r.IntN(8)), randomWords(r, false), randomHeaders(r, false)
			want := naiveRoute(exchanges, bindings, queues, exchange, key, headers)
			if got := d.route(exchange, key, headers); !slices.Equal(got, want) {
				t.Fatalf("%s %q %v: got %v, want %v", exchange, key, headers, got, want)
			}
		}
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	d := newDriver(t)
	for i := range 40 {
		d.queue(fmt.Sprintf("q%d", i))
	}
	headers := func() amqp.Table { return nil }
	table := amqp.Table{"a": "1", "n": int32(5)}
	withTable := func() amqp.Table { return table }
	d.exchange("x", "fanout", nil)
	for _, b := range []Binding{
		{Source: "amq.direct", RoutingKey: "k"}, {Source: "amq.fanout"}, {Source: "amq.topic", RoutingKey: "a.*.c"}, {Source: "amq.topic", RoutingKey: "#.c"},
		{Source: "amq.headers", Arguments: amqp.Table{"a": "1", "n": int64(5)}}, {Source: "x"},
	} {
		for i := range 3 {
			b.Vhost, b.Destination = "/", fmt.Sprintf("q%d", i)
			d.do(d.bind(b))
		}
	}
	d.do(d.bind(Binding{Vhost: "/", Source: "amq.match", Destination: "x", ToExchange: true}))
	dst := make([]*Queue, 0, 64)
	for _, c := range []struct {
		exchange, key string
		headers       func() amqp.Table
	}{{"", "q1", headers}, {"amq.direct", "k", headers}, {"amq.fanout", "", headers}, {"amq.topic", "a.b.c", headers}, {"amq.headers", "", withTable}, {"amq.match", "", headers}} {
		exchange, key := []byte(c.exchange), []byte(c.key)
		n := testing.AllocsPerRun(100, func() {
			found, err := d.state.Route("/", exchange, key, c.headers, dst)
			if err != nil || len(found) == 0 {
				t.Fatal(c.exchange, found, err)
			}
		})
		if n != 0 {
			t.Errorf("a route through %q allocates %v times", c.exchange, n)
		}
	}
}
