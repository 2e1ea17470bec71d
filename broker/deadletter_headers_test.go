package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// showField prints a field with its type, tables with sorted keys. Times are
// left out: they differ from run to run.
func showField(v any) string {
	switch v := v.(type) {
	case amqp.Table:
		var fields []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if _, isTime := v[key].(time.Time); !isTime {
				fields = append(fields, key+"="+showField(v[key]))
			}
		}
		return "{" + strings.Join(fields, " ") + "}"
	case []any:
		var elements []string
		for _, e := range v {
			elements = append(elements, showField(e))
		}
		return "[" + strings.Join(elements, " ") + "]"
	}
	return fmt.Sprintf("%T(%v)", v, v)
}

// dieOf is a rejection in a queue, of a message published to an exchange.
func dieOf(queue, exchange, key string) death {
	return death{queue: queue, exchange: exchange, reason: deathRejected, key: key, at: time.Unix(1700000000, 0)}
}

// What RabbitMQ 3.10.8 put into the headers after each rejection. From 3.13 on
// there are the x-last-death headers besides, which the test takes away.
func TestBehaviour23HeadersAreRabbitMQs(t *testing.T) {
	for _, test := range []struct {
		name       string
		headers    amqp.Table
		expiration string
		deaths     []death
		rekeyed    bool
		want       []string // after each death
	}{
		{
			name:       "once, twice, and once more where it was",
			headers:    amqp.Table{"h": int32(1), "CC": []any{"c1", "c2"}, "BCC": []any{"b1"}},
			expiration: "60000",
			rekeyed:    true,
			deaths:     []death{dieOf("q1", "x", "k"), dieOf("d1", "dlx", "dk"), dieOf("q1", "", "q1")},
			want: []string{
				"{h=int32(1) x-death=[" +
					"{count=int64(1) exchange=string(x) original-expiration=string(60000) queue=string(q1) reason=string(rejected) routing-keys=[string(k) string(c1) string(c2)]}" +
					"] x-first-death-exchange=string(x) x-first-death-queue=string(q1) x-first-death-reason=string(rejected)}",
				"{h=int32(1) x-death=[" +
					"{count=int64(1) exchange=string(dlx) queue=string(d1) reason=string(rejected) routing-keys=[string(dk)]} " +
					"{count=int64(1) exchange=string(x) original-expiration=string(60000) queue=string(q1) reason=string(rejected) routing-keys=[string(k) string(c1) string(c2)]}" +
					"] x-first-death-exchange=string(x) x-first-death-queue=string(q1) x-first-death-reason=string(rejected)}",
				"{h=int32(1) x-death=[" +
					"{count=int64(2) exchange=string(x) original-expiration=string(60000) queue=string(q1) reason=string(rejected) routing-keys=[string(k) string(c1) string(c2)]} " +
					"{count=int64(1) exchange=string(dlx) queue=string(d1) reason=string(rejected) routing-keys=[string(dk)]}" +
					"] x-first-death-exchange=string(x) x-first-death-queue=string(q1) x-first-death-reason=string(rejected)}",
			},
		},
		{
			name:       "repeated in one queue, no headers before",
			expiration: "50000",
			deaths:     []death{dieOf("self", "", "self"), dieOf("self", "", "self"), dieOf("self", "", "self")},
			want: []string{
				"{x-death=[{count=int64(1) exchange=string() original-expiration=string(50000) queue=string(self) reason=string(rejected) routing-keys=[string(self)]}] x-first-death-exchange=string() x-first-death-queue=string(self) x-first-death-reason=string(rejected)}",
				"{x-death=[{count=int64(2) exchange=string() original-expiration=string(50000) queue=string(self) reason=string(rejected) routing-keys=[string(self)]}] x-first-death-exchange=string() x-first-death-queue=string(self) x-first-death-reason=string(rejected)}",
				"{x-death=[{count=int64(3) exchange=string() original-expiration=string(50000) queue=string(self) reason=string(rejected) routing-keys=[string(self)]}] x-first-death-exchange=string() x-first-death-queue=string(self) x-first-death-reason=string(rejected)}",
			},
		},
		{
			name:    "without a key of the queue's, CC stays",
			headers: amqp.Table{"CC": []any{"c1", "c2"}},
			deaths:  []death{dieOf("cc", "x", "kc")},
			want: []string{
				"{CC=[string(c1) string(c2)] x-death=[{count=int64(1) exchange=string(x) queue=string(cc) reason=string(rejected) routing-keys=[string(kc) string(c1) string(c2)]}] x-first-death-exchange=string(x) x-first-death-queue=string(cc) x-first-death-reason=string(rejected)}",
			},
		},
		{
			name:    "x-death from the client: no array",
			headers: amqp.Table{"x-death": "junk"},
			deaths:  []death{dieOf("q1", "x", "k")},
			want:    []string{"{x-death=[{count=int64(1) exchange=string(x) queue=string(q1) reason=string(rejected) routing-keys=[string(k)]}]}"},
		},
		{
			name:    "x-death from the client: a table",
			headers: amqp.Table{"x-death": amqp.Table{"queue": "q1"}},
			deaths:  []death{dieOf("q1", "x", "k")},
			want:    []string{"{x-death=[{count=int64(1) exchange=string(x) queue=string(q1) reason=string(rejected) routing-keys=[string(k)]}]}"},
		},
		{
			name:    "x-death from the client: an empty array",
			headers: amqp.Table{"x-death": []any{}},
			deaths:  []death{dieOf("q1", "x", "k")},
			want:    []string{"{x-death=[{count=int64(1) exchange=string(x) queue=string(q1) reason=string(rejected) routing-keys=[string(k)]}]}"},
		},
		{
			name:    "x-death from the client: a count of another width",
			headers: amqp.Table{"x-death": []any{amqp.Table{"queue": "q1", "reason": "rejected", "count": int32(7)}}},
			deaths:  []death{dieOf("q1", "x", "k")},
			want:    []string{"{x-death=[{count=int64(8) queue=string(q1) reason=string(rejected)}]}"},
		},
		{
			name: "x-death from the client: another death first, and an unknown field",
			headers: amqp.Table{"x-death": []any{
				amqp.Table{"queue": "other", "reason": "expired", "count": int64(2)},
				amqp.Table{"queue": "q1", "reason": "rejected", "count": int64(7), "zzz": true},
			}},
			deaths: []death{dieOf("q1", "x", "k")},
			want:   []string{"{x-death=[{count=int64(8) queue=string(q1) reason=string(rejected) zzz=bool(true)} {count=int64(2) queue=string(other) reason=string(expired)}]}"},
		},
		{
			name:    "x-death from the client: no count",
			headers: amqp.Table{"x-death": []any{amqp.Table{"queue": "q1", "reason": "rejected"}}},
			deaths:  []death{dieOf("q1", "x", "k")},
			want:    []string{"{x-death=[{count=int64(1) queue=string(q1) reason=string(rejected)}]}"},
		},
		{
			name: "x-death from the client: the same death twice",
			headers: amqp.Table{"x-death": []any{
				amqp.Table{"queue": "q1", "reason": "rejected", "count": int64(3)},
				amqp.Table{"queue": "q1", "reason": "rejected", "count": int64(5)},
			}},
			deaths: []death{dieOf("q1", "x", "k")},
			want:   []string{"{x-death=[{count=int64(4) queue=string(q1) reason=string(rejected)}]}"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := amqp.Properties{Headers: test.headers, Expiration: test.expiration}
			for i, d := range test.deaths {
				p = wired(t, p)
				d.deadLettered(&p, test.rekeyed)
				for name, want := range map[string]string{
					"x-last-death-queue": d.queue, "x-last-death-exchange": d.exchange, "x-last-death-reason": "rejected",
				} {
					if p.Headers[name] != want {
						t.Errorf("%s is %v, want %q", name, p.Headers[name], want)
					}
				}
				if _, expires := amqp.RawProperties(p.Append(nil)).Expiration(); expires {
					t.Error("the expiration is still there")
				}
				shown := maps.Clone(p.Headers)
				maps.DeleteFunc(shown, func(key string, _ any) bool { return strings.HasPrefix(key, "x-last-") })
				if got := showField(shown); got != test.want[i] {
					t.Errorf("after death %d\n got %s\nwant %s", i+1, got, test.want[i])
				}
			}
		})
	}
}

// wired sends properties through their encoding.
func wired(t *testing.T, p amqp.Properties) (parsed amqp.Properties) {
	t.Helper()
	if err := parsed.Parse(p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	return parsed
}

// RabbitMQ's queue fails on these and loses the message. Here what can't be
// read is left out.
func TestBehaviour23HeadersThatAreNoDeathsAreLeftOut(t *testing.T) {
	for _, test := range []struct {
		before any
		want   string
	}{
		{[]any{"junk", int32(1)}, "[{count=int64(1) exchange=string(x) queue=string(q) reason=string(rejected) routing-keys=[string(k)]}]"},
		{[]any{amqp.Table{"queue": "q", "reason": "rejected", "count": "x"}}, "[{count=int64(1) queue=string(q) reason=string(rejected)}]"},
		{[]any{amqp.Table{"queue": int32(1)}}, "[{count=int64(1) exchange=string(x) queue=string(q) reason=string(rejected) routing-keys=[string(k)]} {queue=int32(1)}]"},
		{nil, "[{count=int64(1) exchange=string(x) queue=string(q) reason=string(rejected) routing-keys=[string(k)]}]"},
	} {
		d, headers := dieOf("q", "x", "k"), amqp.Table{"x-death": test.before}
		d.record(headers, "", false)
		if got := showField(headers["x-death"]); got != test.want {
			t.Errorf("x-death %v\n got %s\nwant %s", test.before, got, test.want)
		}
	}
}

func TestBehaviour23TimeOfADeathIsItsFirst(t *testing.T) {
	headers := amqp.Table{}
	first, second := dieOf("q", "x", "k"), dieOf("q", "x", "k")
	second.at = first.at.Add(time.Hour)
	first.record(headers, "", false)
	second.record(headers, "", false)
	if at := headers["x-death"].([]any)[0].(amqp.Table)["time"]; at != first.at {
		t.Errorf("time is %v, want %v", at, first.at)
	}
}
