package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProbesNeedNoPassword(t *testing.T) {
	f := newFake()
	s := newServer(f)
	plain := func(path string) (int, string) {
		r := request("GET", path)
		r.Header.Del("Authorization")
		w := serve(s, r)
		return w.Code, body(w)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := plain(path); code != 200 || text != "ok" {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	f.healthy, f.ready = errors.New("the log cannot be written"), errors.New("replaying group 1")
	if code, text := plain("/healthz"); code != 503 || text != "the log cannot be written" {
		t.Errorf("/healthz: %d %s", code, text)
	}
	if code, text := plain("/readyz"); code != 503 || text != "replaying group 1" {
		t.Errorf("/readyz: %d %s", code, text)
	}
}

func TestAllElseNeedsAPassword(t *testing.T) {
	s := newServer(newFake())
	for _, path := range []string{"/", "/metrics", "/api/overview", "/api/nope"} {
		r := request("GET", path)
		r.Header.Del("Authorization")
		w := serve(s, r)
		if w.Code != 401 || w.Body.Len() != 0 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic realm=") {
			t.Errorf("%s without credentials: %d %s", path, w.Code, w.Body)
		}
		r.SetBasicAuth("guest", "wrong")
		w = serve(s, r)
		if got := body(w); w.Code != 401 || got != `{"error":"not_authorized","reason":"Login failed"}` {
			t.Errorf("%s with a wrong password: %d %s", path, w.Code, got)
		}
	}
	r := request("GET", "/api/whoami")
	r.RemoteAddr = "192.0.2.7:1000"
	if w := serve(s, r); w.Code != 401 {
		t.Errorf("guest from elsewhere: %d", w.Code)
	}
	r.RemoteAddr = "@"
	if w := serve(s, r); w.Code != 401 {
		t.Errorf("guest from an unknown address: %d", w.Code)
	}
	r.SetBasicAuth("admin", "secret")
	if w := serve(s, r); w.Code != 200 || body(w) != `{"name":"admin","tags":[]}` {
		t.Errorf("admin from elsewhere: %d", w.Code)
	}
}

func TestMetrics(t *testing.T) {
	f := newFake()
	f.queueList = append(f.queueList, Queue{Vhost: "/", Name: "\xff"}, Queue{Vhost: "/", Name: "\xfe"})
	s := newServer(f)
	s.config.Metrics.ObserveFsync(3*time.Millisecond, 4096)
	w := serve(s, request("GET", "/metrics"))
	text := body(w)
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, text)
	}
	for _, line := range []string{
		`mirrormq_build_info{broker="b1",go="`, `version="1.2.3"} 1`,
		`mirrormq_queue_messages_ready{queue="a/b c",vhost="/"} 5`,
		`mirrormq_queue_consumers{queue="q2",vhost="/"} 0`,
		`mirrormq_queue_messages_ready{queue="\"\\xfe\"",vhost="/"} 0`,
		"mirrormq_messages_ready 5", "mirrormq_messages_published_total 7", "mirrormq_messages_delivered_total 5",
		"mirrormq_queues 2", "mirrormq_connections 1",
		"mirrormq_log_disk_bytes 1000", "mirrormq_log_live_bytes 600", "mirrormq_log_segments 2",
		"mirrormq_log_fsync_duration_seconds_count 1", "mirrormq_log_written_bytes_total 4096",
		`mirrormq_group_commit_index{group="0"} 10`, `mirrormq_group_leader{group="0"} 1`, `mirrormq_group_leader{group="1"} 0`,
		`mirrormq_group_leader_known{group="1"} 1`, `mirrormq_group_lag_entries{group="1"} 3`,
		`mirrormq_mirror_match_index{group="0",mirror="b2"} 10`, `mirrormq_mirror_lag_entries{group="0",mirror="b3"} 11`,
		`mirrormq_mirror_heard{group="0",mirror="b2"} 1`, `mirrormq_mirror_heard{group="0",mirror="b3"} 0`,
		`mirrormq_broker_up{broker="b1"} 1`, `mirrormq_broker_up{broker="b3"} 0`,
		"mirrormq_promotions_total 2", "mirrormq_promotions_unclean_total 1",
		"mirrormq_disk_alarm 1", "mirrormq_memory_alarm 0", "mirrormq_queues_without_series 0", "go_goroutines",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
	// Help, types and names as Prometheus wants them.
	families, err := s.config.Metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "mirrormq_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestQueueSeriesAreBounded(t *testing.T) {
	for _, c := range []struct{ bound, shown, omitted int }{{0, 5, 0}, {2, 2, 3}, {-1, 0, 5}} {
		f := newFake()
		f.queueList = nil
		for i := range 5 {
			f.queueList = append(f.queueList, Queue{Vhost: "/", Name: fmt.Sprintf("q%d", 4-i)})
		}
		s := New(Config{Source: f, Authenticator: guestOnly{}, Metrics: NewMetrics(MetricsConfig{QueueSeries: c.bound})})
		text := body(serve(s, request("GET", "/metrics")))
		if got := strings.Count(text, "\nmirrormq_queue_messages_ready{"); got != c.shown {
			t.Errorf("bound %d: %d queues have series", c.bound, got)
		}
		if !strings.Contains(text, fmt.Sprintf("\nmirrormq_queues_without_series %d\n", c.omitted)) {
			t.Errorf("bound %d: not %d omitted", c.bound, c.omitted)
		}
		if c.bound == 2 && !strings.Contains(text, `{queue="q1",`) {
			t.Error("the first queues by name are not those shown")
		}
	}
}

func TestMetricsCanBeOpen(t *testing.T) {
	s := New(Config{Source: newFake(), Authenticator: guestOnly{}, Metrics: NewMetrics(MetricsConfig{}), OpenMetrics: true})
	r := request("GET", "/metrics")
	r.Header.Del("Authorization")
	if w := serve(s, r); w.Code != 200 {
		t.Fatalf("%d", w.Code)
	}
}

func TestObservingAnFsyncAllocatesNothing(t *testing.T) {
	m := NewMetrics(MetricsConfig{})
	if n := testing.AllocsPerRun(100, func() { m.ObserveFsync(time.Millisecond, 1) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestServerServesUntilItIsClosed(t *testing.T) {
	f := newFake()
	s := New(Config{Source: f, Authenticator: guestOnly{}, Metrics: NewMetrics(MetricsConfig{}), SampleInterval: time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Start(l)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, _ := http.NewRequest("GET", "http://"+l.Addr().String()+"/api/connections/", nil)
	r.SetBasicAuth("guest", "guest")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != 200 || !strings.Contains(string(text), peer[:10]) {
		t.Fatalf("%d %s", answer.StatusCode, text)
	}
	for range 2 { // Close is idempotent.
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Do(r); err == nil {
		t.Fatal("served after Close")
	}
}

func TestCloseCutsOffAHangingClient(t *testing.T) {
	s := newServer(newFake())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Start(l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /api")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the connection is still open: %v", err)
	}
}
