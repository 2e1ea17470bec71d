package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeSource is a broker of plain slices. Its fields are set before requests
// are made; the mutex is for the tests that serve and change it at once.
type fakeSource struct {
	sync.Mutex
	healthy, ready error
	node           Node
	totals         Totals
	log            LogStats
	groups         []Group
	cluster        Cluster
	transferred    []string
	replaced       []string
	replaceError   error
	transferError  error
	vhosts         []Vhost
	queueList      []Queue
	consumers      []Consumer
	exchangeList   []Exchange
	bindingList    []Binding
	connectionList []Connection
	channelList    []Channel
	closed         map[string]string // connection name to reason
}

func (f *fakeSource) Healthy() error  { return f.healthy }
func (f *fakeSource) Ready() error    { return f.ready }
func (f *fakeSource) Node() Node      { return f.node }
func (f *fakeSource) Log() LogStats   { return f.log }
func (f *fakeSource) Groups() []Group { return append([]Group(nil), f.groups...) }
func (f *fakeSource) Cluster() Cluster {
	c := f.cluster
	c.Brokers, c.Promotions = slices.Clone(c.Brokers), slices.Clone(c.Promotions)
	return c
}

func (f *fakeSource) Transfer(_ context.Context, group uint32, to string) error {
	f.transferred = append(f.transferred, fmt.Sprint(group, " ", to))
	return f.transferError
}

func (f *fakeSource) Replace(_ context.Context, broker string) error {
	f.replaced = append(f.replaced, broker)
	return f.replaceError
}

func (f *fakeSource) Vhosts() []Vhost       { return append([]Vhost(nil), f.vhosts...) }
func (f *fakeSource) Exchanges() []Exchange { return append([]Exchange(nil), f.exchangeList...) }
func (f *fakeSource) Bindings() []Binding   { return append([]Binding(nil), f.bindingList...) }
func (f *fakeSource) Channels() []Channel   { return append([]Channel(nil), f.channelList...) }

func (f *fakeSource) Totals() Totals {
	f.Lock()
	defer f.Unlock()
	return f.totals
}

func (f *fakeSource) Queues() []Queue {
	f.Lock()
	defer f.Unlock()
	return append([]Queue(nil), f.queueList...)
}

func (f *fakeSource) Connections() []Connection {
	return append([]Connection(nil), f.connectionList...)
}

func (f *fakeSource) Queue(vhost, name string) (Queue, []Consumer, error) {
	for _, q := range f.Queues() {
		if q.Vhost == vhost && q.Name == name {
			return q, f.consumers, nil
		}
	}
	return Queue{}, nil, ErrNotFound
}

func (f *fakeSource) CloseConnection(name, reason string) error {
	f.Lock()
	defer f.Unlock()
	for _, c := range f.connectionList {
		if c.Name == name {
			f.closed[name] = reason
			return nil
		}
	}
	return ErrNotFound
}

func (f *fakeSource) UserTags(user string) []string {
	if user == "guest" {
		return []string{"administrator"}
	}
	return nil
}

// guestOnly lets guest in from loopback, and admin from anywhere.
type guestOnly struct{}

func (guestOnly) Authenticate(user, password string, remote net.Addr) error {
	switch {
	case user == "admin" && password == "secret":
		return nil
	case user != "guest" || password != "guest":
		return errors.New("wrong user or password")
	case !remote.(*net.TCPAddr).IP.IsLoopback():
		return errors.New("guest may come from loopback only")
	}
	return nil
}

const peer = "127.0.0.1:54084 -> 127.0.0.1:5672"

func newFake() *fakeSource {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &fakeSource{
		node: Node{
			Name: "b1", Started: started, MemoryUsed: 10, MemoryLimit: 100, DiskFree: 5, DiskFreeLimit: 50, DiskAlarm: true,
			DataDirectory: "data",
			Listeners:     []Listener{{"amqp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5672}}},
		},
		totals: Totals{
			Counters: Counters{Publish: 7, Confirm: 6, Deliver: 3, Get: 2, Ack: 4},
			Queues:   2, Exchanges: 3, Bindings: 1, Connections: 1, Channels: 1, Consumers: 1, MessagesReady: 5, MessagesUnacked: 2,
		},
		log: LogStats{DiskBytes: 1000, LiveBytes: 600, Segments: 2, Compactions: 1},
		groups: []Group{
			{ID: 1, Role: "follower", Leader: "b2", Preferred: "b2", Term: 4, Commit: 7, Applied: 7, Last: 7, LastTerm: 4, Lag: 3},
			{
				ID: 0, Role: "leader", Leader: "b1", Preferred: "b1", Term: 3, Commit: 10, Applied: 9, Last: 11, LastTerm: 3,
				Mirrors: []Mirror{{Name: "b3", Behind: true, Lag: 11}, {Name: "b2", Match: 10, Lag: 1, Heard: true}},
			},
		},
		cluster: Cluster{
			AckQuorum: "majority",
			Brokers: []Broker{
				{Name: "b2", Address: "127.0.0.1:6223", Up: true, Since: started},
				{Name: "b1", Address: "127.0.0.1:6222", Up: true, Since: started},
				{Name: "b3", Address: "127.0.0.1:6224", Since: started.Add(time.Minute)},
			},
			Promotions: []Promotion{
				{Group: 0, When: started, To: "b1", Term: 1, Reason: "started", Clean: true},
				{
					Group: 1, When: started.Add(time.Minute), From: "b3", To: "b2", Term: 4, Reason: "gone", Leaderless: 12500 * time.Microsecond,
					Positions: []Standing{{Broker: "b2", Term: 3, Index: 7, Fenced: true}, {Broker: "b1", Term: 3, Index: 6}},
				},
			},
			PromotionsTotal: 2, PromotionsUnclean: 1,
		},
		vhosts: []Vhost{{Name: "other"}, {Name: "/", Description: "Default virtual host"}},
		queueList: []Queue{
			{Vhost: "/", Name: "q2", State: "running", Node: "b1", Type: "quorum", Durable: true, Members: []string{"b1"}},
			{
				Vhost: "/", Name: "a/b c", State: "running", Node: "b1", Type: "classic", Durable: true, Ready: 5, Unacked: 2,
				Consumers: 1, Arguments: map[string]any{"x-max-length": int32(10)}, Counters: Counters{Publish: 7},
			},
		},
		consumers: []Consumer{{Tag: "c1", Channel: peer + " (1)", ChannelNumber: 1, Connection: peer, User: "guest", Prefetch: 5}},
		exchangeList: []Exchange{
			{Vhost: "/", Name: "", Kind: "direct", Durable: true},
			{Vhost: "/", Name: "amq.topic", Kind: "topic", Durable: true},
			{Vhost: "other", Name: "amq.topic", Kind: "topic", Durable: true},
		},
		bindingList: []Binding{{Vhost: "/", Source: "amq.topic", Destination: "q2", RoutingKey: "a.b", Arguments: map[string]any{"x": 1}}},
		connectionList: []Connection{{
			Name: peer, Vhost: "/", User: "guest", State: "running", PeerHost: "127.0.0.1", PeerPort: 54084, Host: "127.0.0.1", Port: 5672,
			ConnectedAt: started, Heartbeat: 10 * time.Second,
			ClientProperties: map[string]any{"connection_name": "me", "capabilities": map[string]any{"basic.nack": true}},
		}},
		channelList: []Channel{{Name: peer + " (1)", Number: 1, Connection: peer, Vhost: "/", User: "guest", State: "running", Confirm: true}},
		closed:      map[string]string{},
	}
}

func newServer(f *fakeSource) *Server {
	return New(Config{
		Source: f, Authenticator: guestOnly{}, Metrics: NewMetrics(MetricsConfig{}), Version: "1.2.3",
		Logger: slog.New(slog.DiscardHandler),
	})
}

// request makes one as guest from loopback.
func request(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	r.SetBasicAuth("guest", "guest")
	return r
}

func serve(s *Server, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// get fetches a path as guest and decodes the JSON answer.
func get[T any](t *testing.T, s *Server, path string) T {
	t.Helper()
	w := serve(s, request("GET", path))
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Fatalf("GET %s: content type %q", path, got)
	}
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, w.Body)
	}
	return v
}

func body(w *httptest.ResponseRecorder) string {
	b, _ := io.ReadAll(w.Body)
	return strings.TrimSpace(string(b))
}

type object = map[string]any
