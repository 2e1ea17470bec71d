package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

const clusterAnswer = `{"name":"b1","ack_quorum":"majority","brokers":[
{"name":"b1","address":"h:1","running":true,"since":"2026-01-01T00:00:00Z"},
{"name":"b2","address":"h:2","running":true,"since":"2026-01-01T00:59:00Z"},
{"name":"b3","address":"h:3","running":false,"since":"2026-01-01T01:00:00Z"}],
"groups":[
{"id":0,"kind":"topology","role":"leader","leader":"b1","preferred_leader":"b1","term":3,"commit":10,"last":11,
"mirrors":[{"name":"b2","lag":1200,"heard":true},{"name":"b3","lag":11,"heard":false}]},
{"id":1,"kind":"queues","role":"follower","leader":"b2","preferred_leader":"b3","members":["b3","b1","b2"],"term":4,"commit":7,"last":7,"lag":3,"mirrors":[]},
{"id":2,"kind":"queues","role":"none","leader":"","preferred_leader":"b2","members":["b2","b3"],"term":4,"mirrors":[]}],
"promotions":[{"group":1,"when":"2026-01-01T01:00:01Z","from":"b3","to":"b2","term":4,"reason":"gone","clean":false,"leaderless_ms":12.5,
"positions":[{"broker":"b2","term":3,"index":7},{"broker":"b1","term":3,"index":6}]},
{"group":0,"when":"2026-01-01T00:00:00Z","from":"","to":"b1","term":1,"reason":"started","clean":true,"leaderless_ms":300,"positions":[]}],
"promotions_total":2,"promotions_unclean":1}`

func TestStatusOfACluster(t *testing.T) {
	var v clusterStatus
	if err := json.Unmarshal([]byte(clusterAnswer), &v); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	now := time.Date(2026, 1, 1, 1, 0, 5, 0, time.UTC)
	if err := v.print(&out, now, 1); err != nil {
		t.Fatal(err)
	}
	const want = `
BROKER      STATE  FOR   BACKBONE
b1 (asked)  up     1h0m  h:1
b2          up     1m5s  h:2
b3          DOWN   5s    h:3

GROUP  OF        LEADER       COPIES    TERM  COMMIT  LAST  HERE               MIRRORS
0      topology  b1           -         3     10      11    leader             b2 lacks 1,200, b3 SILENT
1      queues    b2 (for b3)  b3 b1 b2  4     7       7     follower, lacks 3  ask b2
2      queues    NONE         b2 b3     4     -       -     no copy            none

Quorum       publishes are confirmed at a majority unless their queue says otherwise
Promotions   2 seen, 1 unclean: confirmed messages may be lost

PROMOTED  GROUP  FROM  TO  TERM  BECAUSE        LEADERLESS  POSITIONS (TERM/INDEX)
4s ago    1      b3    b2  4     gone, UNCLEAN  12 ms       b2 3/7, b1 3/6
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	v.Brokers[1].Running = false
	out.Reset()
	if err := v.print(&out, now, 0); err != nil || !strings.Contains(out.String(), "No majority can be reached from here") || strings.Contains(out.String(), "PROMOTED") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestStatusAddsTheCluster(t *testing.T) {
	url := fakeAPI(t, map[string]string{"/api/overview": overviewAnswer, "/api/nodes": strings.Replace(nodesAnswer, "}]}]", `}]},{"name":"b3","running":false}]`, 1), "/api/cluster": clusterAnswer})
	r := command(t, "", "status", "--api", url).want(t, exitOK) // b3 is down, and that is no failure of b1.
	for _, want := range []string{"Broker b1  running", "b2 lacks 1,200", "2 seen", "12 ms"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in: %s", want, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "Broker b3") || strings.Contains(r.stdout, "APPLIED") {
		t.Errorf("too much: %s", r.stdout)
	}
	if r := command(t, "", "status", "--api", url, "--json").want(t, exitOK); !strings.Contains(r.stdout, `"promotions_unclean": 1`) {
		t.Errorf("json: %s", r.stdout)
	}
}

func TestStatusIsWatchedUntilInterrupted(t *testing.T) {
	answers := map[string]string{"/api/overview": overviewAnswer, "/api/nodes": nodesAnswer, "/api/cluster": clusterAnswer}
	var asked int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/overview" {
			if asked++; asked == 2 {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
		}
		_, _ = w.Write([]byte(answers[r.URL.Path]))
	}))
	defer s.Close()
	p := start(t, "status", "--watch", "--api", s.URL)
	p.stdout.waitFor(t, "asking again every second")
	p.stdout.waitForCount(t, "Broker b1  running", 2)
	if code := p.signal(t, os.Interrupt); code != exitOK {
		t.Fatalf("exit code %d: %s", code, p.stderr.waitFor(t, ""))
	}
	// The first time, it is a mistake.
	command(t, "", "status", "--watch", "--api", "http://127.0.0.1:1").want(t, exitConnect)
}

func TestHowLongAgo(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1500 * time.Millisecond: "1s", 61 * time.Second: "1m1s", 25 * time.Hour: "1d1h", 3*time.Hour + 5*time.Minute: "3h5m",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestTransferSaysWhatTheBrokerSays(t *testing.T) {
	code, answer := 0, ""
	var sent string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 100)
		n, _ := r.Body.Read(body)
		sent = r.Method + " " + r.URL.Path + " " + string(body[:n])
		w.WriteHeader(code)
		_, _ = w.Write([]byte(answer))
	}))
	defer s.Close()
	for _, c := range []struct {
		code   int
		answer string
		exit   int
		says   string
	}{
		{200, `{"group":1,"leader":"b3"}`, exitOK, "b3 leads group 1"},
		{409, `{"error":"refused","reason":"b3 is not alive"}`, exitRefused, "mirrormq: b3 is not alive"},
		{503, `{"error":"not_done","reason":"b3 did not take over"}`, exitTimeout, "b3 did not take over"},
		{404, `{}`, exitNotFound, "there is no group 1"},
		{403, `{}`, exitRefused, "refused the login"},
	} {
		code, answer = c.code, c.answer
		command(t, "", "transfer", "1", "b3", "--api", s.URL).want(t, c.exit, c.says)
		if sent != `POST /api/cluster/transfer {"group":1,"to":"b3"}` {
			t.Errorf("sent %q", sent)
		}
	}
	command(t, "", "transfer", "x", "b3").want(t, exitUsage, `"x" is no group's number`)
	command(t, "", "transfer", "1").want(t, exitUsage, "a broker's name")
}
