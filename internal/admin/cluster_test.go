package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestTheClusterAsOneBrokerSeesIt(t *testing.T) {
	v := get[clusterView](t, newServer(newFake()), "/api/cluster")
	if v.Name != "b1" || v.AckQuorum != "majority" || v.PromotionsTotal != 2 || v.PromotionsUnclean != 1 {
		t.Errorf("%+v", v)
	}
	var brokers []string
	for _, b := range v.Brokers {
		brokers = append(brokers, fmt.Sprint(b.Name, " ", b.Running))
	}
	if got := strings.Join(brokers, ", "); got != "b1 true, b2 true, b3 false" {
		t.Errorf("brokers: %s", got)
	}
	if len(v.Groups) != 2 || v.Groups[0].Kind != "topology" || v.Groups[1].Kind != "queues" {
		t.Fatalf("groups: %+v", v.Groups)
	}
	led, followed := v.Groups[0], v.Groups[1]
	if led.Leader != "b1" || len(led.Mirrors) != 2 || led.Mirrors[0] != (mirrorView{"b2", 10, 1, true, false}) || !led.Mirrors[1].Behind {
		t.Errorf("group 0: %+v", led)
	}
	if followed.Leader != "b2" || followed.Role != "follower" || followed.Lag != 3 || followed.Last != 7 || followed.Mirrors == nil || len(followed.Mirrors) != 0 {
		t.Errorf("group 1: %+v", followed)
	}
	newest := v.Promotions[0]
	if newest.Group != 1 || newest.Clean || newest.Reason != "gone" || newest.Leaderless != 12.5 || newest.Positions[0] != (standingView{"b2", 3, 7, true, false}) {
		t.Errorf("newest promotion: %+v", newest)
	}
}

func TestTransfer(t *testing.T) {
	for _, c := range []struct {
		what, body string
		err        error
		code       int
		answer     string
	}{
		{"done", `{"group": 0, "to": "b2"}`, nil, 200, `{"group":0,"leader":"b2"}`},
		{"no group", `{"group": 9, "to": "b2"}`, fmt.Errorf("%w: no group 9", ErrNotFound), 404, `"reason":"no group 9"`},
		{"refused", `{"group": 1, "to": "b3"}`, fmt.Errorf("%w: b3 is not alive", ErrRefused), 409, `"reason":"b3 is not alive"`},
		{"not in time", `{"group": 1, "to": "b3"}`, errors.New("b3 did not take over"), 503, "b3 did not take over"},
		{"no JSON", `group 1`, nil, 400, "bad_request"},
		{"no group given", `{"to": "b3"}`, nil, 400, "NUMBER"},
	} {
		f := newFake()
		f.transferError = c.err
		r := request(http.MethodPost, "/api/cluster/transfer")
		r = withBody(r, c.body)
		w := serve(newServer(f), r)
		if got := body(w); w.Code != c.code || !strings.Contains(got, c.answer) {
			t.Errorf("%s: %d %s", c.what, w.Code, got)
		}
		if asked := len(f.transferred) > 0; asked != (c.code != 400) {
			t.Errorf("%s: asked for %q", c.what, f.transferred)
		}
	}
}

func TestReplace(t *testing.T) {
	for _, c := range []struct {
		what, body string
		err        error
		code       int
		answer     string
	}{
		{"done", `{"broker": "b3"}`, nil, 200, `{"broker":"b3"}`},
		{"no broker", `{"broker": "b9"}`, fmt.Errorf("%w: there is no other broker \"b9\"", ErrNotFound), 404, `there is no other broker`},
		{"refused", `{"broker": "b3"}`, fmt.Errorf("%w: b3 has its data", ErrRefused), 409, `"reason":"b3 has its data"`},
		{"not in time", `{"broker": "b3"}`, errors.New("b3 is not a member yet"), 503, "not a member yet"},
		{"none given", `{}`, nil, 400, "NAME"},
	} {
		f := newFake()
		f.replaceError = c.err
		w := serve(newServer(f), withBody(request(http.MethodPost, "/api/cluster/replace"), c.body))
		if got := body(w); w.Code != c.code || !strings.Contains(got, c.answer) || len(f.replaced) > 0 != (c.code != 400) {
			t.Errorf("%s: %d %s, asked for %q", c.what, w.Code, got, f.replaced)
		}
	}
}

func TestOnlyAnAdministratorTransfers(t *testing.T) {
	f := newFake()
	r := withBody(request(http.MethodPost, "/api/cluster/transfer"), `{"group": 0, "to": "b2"}`)
	r.SetBasicAuth("admin", "secret") // Who has no tags, whatever the name says.
	if w := serve(newServer(f), r); w.Code != 403 || len(f.transferred) > 0 {
		t.Errorf("%d %s, %q", w.Code, w.Body, f.transferred)
	}
	if w := serve(newServer(f), request(http.MethodGet, "/api/cluster/transfer")); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
}

func withBody(r *http.Request, text string) *http.Request {
	r.Body = io.NopCloser(strings.NewReader(text))
	return r
}
