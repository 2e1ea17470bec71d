package admin

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// What the recovery tests of amqp091-go v1.16.0 do (internal/utils/http.go):
// list with a trailing slash, find by connection_name, delete by escaped name.
func TestAClientFindsItsConnectionAndDropsIt(t *testing.T) {
	f := newFake()
	s := newServer(f)
	list := get[[]struct {
		Name             string `json:"name"`
		ClientProperties struct {
			ConnectionName string `json:"connection_name"`
		} `json:"client_properties"`
	}](t, s, "/api/connections/")
	if len(list) != 1 || list[0].ClientProperties.ConnectionName != "me" {
		t.Fatalf("got %+v", list)
	}
	w := serve(s, request("DELETE", "/api/connections/"+url.PathEscape(list[0].Name)))
	if w.Code != http.StatusNoContent {
		t.Fatalf("delete: %d %s", w.Code, w.Body)
	}
	if f.closed[peer] != "Closed via management plugin" {
		t.Fatalf("closed: %v", f.closed)
	}
	r := request("DELETE", "/api/connections/"+url.PathEscape(peer))
	r.Header.Set("X-Reason", "maintenance")
	if serve(s, r); f.closed[peer] != "maintenance" {
		t.Fatalf("closed: %v", f.closed)
	}
}

func TestErrorsAreRabbitMQs(t *testing.T) {
	s := newServer(newFake())
	for _, path := range []string{
		"/api/nope", "/api/", "/api/queues/nov", "/api/queues/%2f/nope", "/api/exchanges/nov", "/api/exchanges/%2f/nope",
		"/api/bindings/nov", "/api/connections/nope", "/api/vhosts/nope", "/api/nodes/nope", "/api/channels/nope",
		"/api/queues//x", "/api/connections/nope/channels", "/api/queues/%2f/nope/bindings", "/api/queues/%zz",
	} {
		r := request("GET", "/")
		r.URL.Path, r.URL.RawPath = mustUnescape(path), path
		w := serve(s, r)
		if got, want := body(w), `{"error":"Object Not Found","reason":"Not Found"}`; w.Code != 404 || got != want {
			t.Errorf("%s: %d %s", path, w.Code, got)
		}
	}
	if w := serve(s, request("DELETE", "/api/connections/nope")); w.Code != 404 {
		t.Errorf("delete of a missing connection: %d", w.Code)
	}
	w := serve(s, request("POST", "/api/connections/"+url.PathEscape(peer)))
	if w.Code != 405 || w.Header().Get("Allow") != "DELETE, GET, HEAD" {
		t.Errorf("wrong method: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

func mustUnescape(path string) string {
	if s, err := url.PathUnescape(path); err == nil {
		return s
	}
	return path
}

func TestQueuesAreListedByVhostAndName(t *testing.T) {
	s := newServer(newFake())
	list := get[[]object](t, s, "/api/queues")
	if len(list) != 2 || list[0]["name"] != "a/b c" || list[1]["name"] != "q2" {
		t.Fatalf("got %v", list)
	}
	if list := get[[]object](t, s, "/api/queues/other/"); len(list) != 0 {
		t.Fatalf("other vhost: %v", list)
	}
	q := get[object](t, s, "/api/queues/%2F/a%2Fb%20c")
	for field, want := range map[string]any{
		"name": "a/b c", "vhost": "/", "type": "classic", "durable": true, "auto_delete": false, "exclusive": false,
		"node": "b1", "state": "running", "messages": 7.0, "messages_ready": 5.0, "messages_unacknowledged": 2.0, "consumers": 1.0,
	} {
		if q[field] != want {
			t.Errorf("%s: got %v, want %v", field, q[field], want)
		}
	}
	if got := fmt.Sprint(q["arguments"]); got != "map[x-max-length:10]" {
		t.Errorf("arguments: %s", got)
	}
	consumers := q["consumer_details"].([]any)
	if len(consumers) != 1 || consumers[0].(object)["consumer_tag"] != "c1" {
		t.Errorf("consumers: %v", consumers)
	}
	// A tool tells "no consumers" from "not asked" by the empty list.
	if q := get[object](t, s, "/api/queues/%2F/q2"); q["consumer_details"] == nil || q["leader"] != "b1" {
		t.Errorf("q2: %v", q)
	}
}

func TestListsArePagedAndFiltered(t *testing.T) {
	f := newFake()
	f.queueList = nil
	for i := range 25 {
		f.queueList = append(f.queueList, Queue{Vhost: "/", Name: fmt.Sprintf("q%02d", i)})
	}
	s := newServer(f)
	type pageOf struct {
		FilteredCount int      `json:"filtered_count"`
		ItemCount     int      `json:"item_count"`
		Items         []object `json:"items"`
		Page          int      `json:"page"`
		PageCount     int      `json:"page_count"`
		PageSize      int      `json:"page_size"`
		TotalCount    int      `json:"total_count"`
	}
	p := get[pageOf](t, s, "/api/queues?page=3&page_size=10")
	if p.ItemCount != 5 || p.PageCount != 3 || p.TotalCount != 25 || p.Items[0]["name"] != "q20" {
		t.Errorf("last page: %+v", p)
	}
	p = get[pageOf](t, s, "/api/queues/%2f?page=1&name=^q1&use_regex=true")
	if p.FilteredCount != 10 || p.TotalCount != 25 || p.PageSize != 100 {
		t.Errorf("filtered: %+v", p)
	}
	if p = get[pageOf](t, s, "/api/queues?page=1&name=Q24"); p.FilteredCount != 1 {
		t.Errorf("filtered by substring: %+v", p)
	}
	for _, bad := range []string{"page=0", "page=x", "page=1&page_size=501", "page=4&page_size=10", "page=1&name=(&use_regex=true"} {
		if w := serve(s, request("GET", "/api/queues?"+bad)); w.Code != 400 {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
}

func TestOverviewAndNodes(t *testing.T) {
	f := newFake()
	s := newServer(f)
	s.config.Metrics.ObserveFsync(time.Millisecond, 10)
	v := get[object](t, s, "/api/overview")
	if v["product_name"] != "MirrorMQ" || v["product_version"] != "1.2.3" || v["node"] != "b1" {
		t.Errorf("overview: %v", v)
	}
	if got := v["queue_totals"].(object); got["messages"] != 7.0 || got["messages_ready"] != 5.0 {
		t.Errorf("queue_totals: %v", got)
	}
	if got := v["object_totals"].(object); got["queues"] != 2.0 || got["exchanges"] != 3.0 {
		t.Errorf("object_totals: %v", got)
	}
	if got := v["message_stats"].(object); got["publish"] != 7.0 || got["deliver_get"] != 5.0 {
		t.Errorf("message_stats: %v", got)
	}
	if got := v["listeners"].([]any)[0].(object); got["port"] != 5672.0 || got["protocol"] != "amqp" {
		t.Errorf("listeners: %v", got)
	}
	n := get[[]object](t, s, "/api/nodes")[0]
	if n["name"] != "b1" || n["running"] != true || n["disk_free_alarm"] != true || n["mem_alarm"] != false {
		t.Errorf("node: %v", n)
	}
	if got := n["log"].(object); got["disk_bytes"] != 1000.0 || got["fsyncs"] != 1.0 {
		t.Errorf("log: %v", got)
	}
	if got := n["groups"].([]any)[0].(object); got["commit"] != 10.0 || got["role"] != "leader" {
		t.Errorf("groups: %v", got)
	}
	if got := get[object](t, s, "/api/nodes/b1"); got["name"] != "b1" || got["log"] == nil {
		t.Errorf("node b1: %v", got)
	}
	// The others are there too: as far as one knows of them.
	if list := get[[]object](t, s, "/api/nodes"); len(list) != 3 || list[1]["name"] != "b2" || list[1]["running"] != true || list[2]["running"] != false {
		t.Errorf("nodes: %v", list)
	}
	if got := get[object](t, s, "/api/nodes/b3"); got["name"] != "b3" || got["running"] != false {
		t.Errorf("node b3: %v", got)
	}
	if got := get[object](t, s, "/api/whoami"); got["name"] != "guest" || fmt.Sprint(got["tags"]) != "[administrator]" {
		t.Errorf("whoami: %v", got)
	}
}

func TestExchangesBindingsVhostsAndChannels(t *testing.T) {
	s := newServer(newFake())
	if got := get[[]object](t, s, "/api/exchanges/%2f"); len(got) != 2 || got[0]["name"] != "" || got[1]["type"] != "topic" {
		t.Errorf("exchanges: %v", got)
	}
	if got := get[object](t, s, "/api/exchanges/%2f/amq.default"); got["name"] != "" {
		t.Errorf("default exchange: %v", got)
	}
	for _, path := range []string{
		"/api/bindings", "/api/bindings/%2f", "/api/queues/%2f/q2/bindings", "/api/exchanges/%2f/amq.topic/bindings/source",
	} {
		got := get[[]object](t, s, path)
		if len(got) != 1 || got[0]["destination_type"] != "queue" || got[0]["routing_key"] != "a.b" {
			t.Errorf("%s: %v", path, got)
		}
	}
	for _, path := range []string{"/api/bindings/other", "/api/exchanges/%2f/amq.topic/bindings/destination"} {
		if got := get[[]object](t, s, path); len(got) != 0 {
			t.Errorf("%s: %v", path, got)
		}
	}
	if got := get[[]object](t, s, "/api/vhosts"); len(got) != 2 || got[0]["name"] != "/" || got[0]["messages"] != 7.0 {
		t.Errorf("vhosts: %v", got)
	}
	if got := get[[]object](t, s, "/api/channels"); len(got) != 1 || got[0]["confirm"] != true || got[0]["number"] != 1.0 {
		t.Errorf("channels: %v", got)
	}
	escaped := url.PathEscape(peer)
	if got := get[[]object](t, s, "/api/connections/"+escaped+"/channels"); len(got) != 1 {
		t.Errorf("channels of a connection: %v", got)
	}
	c := get[object](t, s, "/api/connections/"+escaped)
	if c["user_provided_name"] != "me" || c["timeout"] != 10.0 || c["connected_at"] != 1767323045000.0 || c["ssl_cipher"] != nil {
		t.Errorf("connection: %v", c)
	}
	if got := get[[]object](t, s, "/api/vhosts/%2f/connections"); len(got) != 1 {
		t.Errorf("connections of a vhost: %v", got)
	}
}

type table map[string]any // as the AMQP codec's, a type of its own

func TestAnyTableOfAClientBecomesJSON(t *testing.T) {
	deep := table{}
	for range 200 {
		deep = table{"t": deep}
	}
	f := newFake()
	f.queueList[0].Arguments = table{
		"bytes": []byte("abc"), "nan": math.NaN(), "inf": float32(math.Inf(1)), "time": time.Unix(5, 0),
		"array": []any{int8(1), "x", nil, table{"y": uint16(2)}}, "bad": "\xff", "deep": deep, "void": nil,
	}
	q := get[object](t, newServer(f), "/api/queues/%2f/q2")["arguments"].(object)
	for field, want := range map[string]string{
		"bytes": "abc", "nan": "NaN", "inf": "+Inf", "time": "5", "array": "[1 x <nil> map[y:2]]", "bad": "\uFFFD", "void": "<nil>",
	} {
		if got := fmt.Sprint(q[field]); got != want {
			t.Errorf("%s: got %s, want %s", field, got, want)
		}
	}
}

func TestRatesComeFromTwoSamples(t *testing.T) {
	f := newFake()
	s := newServer(f)
	now := time.Unix(1000, 0)
	rateOf := func() (queue, total float64) {
		q := get[object](t, s, "/api/queues/%2f/q2")
		o := get[object](t, s, "/api/overview")
		read := func(v object) float64 {
			return v["message_stats"].(object)["publish_details"].(object)["rate"].(float64)
		}
		return read(q), read(o)
	}
	s.rates.sample(now)
	if q, total := rateOf(); q != 0 || total != 0 {
		t.Fatalf("after one sample: %v, %v", q, total)
	}
	f.queueList[0].Publish += 50
	f.totals.Publish += 100
	s.rates.sample(now.Add(5 * time.Second))
	if q, total := rateOf(); q != 10 || total != 20 {
		t.Fatalf("after two samples: %v, %v", q, total)
	}
	f.queueList[0].Publish = 0 // deleted and declared again
	s.rates.sample(now.Add(10 * time.Second))
	if q, _ := rateOf(); q != 0 {
		t.Fatalf("after the counter went back: %v", q)
	}
	f.queueList = slices.Delete(f.queueList, 0, 1)
	s.rates.sample(now.Add(15 * time.Second))
	if n := len(s.rates.mu.queues); n != 1 {
		t.Fatalf("%d queues are remembered", n)
	}
}

func TestMessageStatsAreValidJSON(t *testing.T) {
	b, err := json.Marshal(messageStats{now: Counters{Ack: math.MaxUint64}})
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil || len(v) != 2*len(counterNames) {
		t.Fatalf("%v: %s", err, b)
	}
}
