package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fakeAPI serves fixed answers by escaped path, to guest only.
func fakeAPI(t *testing.T, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "guest" || password != "guest" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer, ok := answers[r.URL.EscapedPath()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

const overviewAnswer = `{"product_name":"MirrorMQ","product_version":"1.2.3","node":"b1",
"queue_totals":{"messages_ready":1234,"messages_unacknowledged":5},"object_totals":{"connections":1,"channels":2,"consumers":3,"queues":4,"exchanges":7},
"message_stats":{"publish_details":{"rate":10.4}},"listeners":[{"protocol":"amqp","ip_address":"127.0.0.1","port":5672}]}`

const nodesAnswer = `[{"name":"b1","running":true,"uptime":65000,"mem_used":1048576,"mem_limit":2097152,"mem_alarm":false,
"disk_free":1,"disk_free_limit":2,"disk_free_alarm":true,"log":{"disk_bytes":2048,"live_bytes":1024,"segments":2,"fsyncs":9},
"groups":[{"id":0,"role":"leader","leader":"b1","term":2,"commit":10,"applied":9,"last":11}]}]`

func TestStatus(t *testing.T) {
	url := fakeAPI(t, map[string]string{"/api/overview": overviewAnswer, "/api/nodes": nodesAnswer})
	command(t, "", "status", "--api", url).want(t, exitOK).wantOut(t, `MirrorMQ 1.2.3
Messages     1,234 ready, 5 unacknowledged
Rates        publish 10/s, confirm 0/s, deliver 0/s, ack 0/s
Objects      1 connection, 2 channels, 3 consumers, 4 queues, 7 exchanges
Listening    amqp on 127.0.0.1:5672

Broker b1  running for 1m5s
Memory       1.0 MiB used, publishers are blocked at 2.0 MiB
Disk         1 B free, publishers are blocked at 2 B  ALARM: publishers are blocked
Log          2.0 KiB on disk, 1.0 KiB live, 2 segments, 9 fsyncs

GROUP  ROLE    LEADER  TERM  COMMIT  APPLIED  LAST
0      leader  b1      2     10      9        11
`)
	if r := command(t, "", "status", "--api", url, "--json").want(t, exitOK); !strings.Contains(r.stdout, `"mem_limit": 2097152`) {
		t.Errorf("json: %s", r.stdout)
	}
	down := fakeAPI(t, map[string]string{"/api/overview": overviewAnswer, "/api/nodes": strings.Replace(nodesAnswer, `"running":true`, `"running":false`, 1)})
	command(t, "", "status", "--api", down).want(t, exitFailure, "broker b1 no longer works", "hint: ")
}

func TestQueues(t *testing.T) {
	const q = `{"vhost":"/","name":"a/b","type":"quorum","state":"running","messages_ready":1000,"messages_unacknowledged":2,"message_bytes":2048,"consumers":1}`
	url := fakeAPI(t, map[string]string{
		"/api/queues": "[" + q + "]", "/api/queues/%2F": "[]", "/api/queues/%2F/a%2Fb": q,
	})
	const want = "VHOST  NAME  TYPE    STATE    READY  UNACKED  SIZE     CONSUMERS  PUBLISH/S  DELIVER/S  ACK/S\n" +
		"/      a/b   quorum  running  1,000  2        2.0 KiB  1          0          0          0\n"
	command(t, "", "queues", "--api", url).want(t, exitOK).wantOut(t, want)
	command(t, "", "queues", "a/b", "--api", url).want(t, exitOK).wantOut(t, want)
	command(t, "", "queues", "--api", url, "--vhost", "/").want(t, exitOK, "no queues").wantOut(t, "")
	command(t, "", "queues", "nope", "--api", url).want(t, exitNotFound, "has no queues/%2F/nope")
	if r := command(t, "", "queues", "--api", url, "--json").want(t, exitOK); !strings.Contains(r.stdout, `"name": "a/b"`) {
		t.Errorf("json: %s", r.stdout)
	}
}

func TestTheAPICanSayNo(t *testing.T) {
	url := fakeAPI(t, map[string]string{"/api/queues": "<html>"})
	command(t, "", "queues", "--api", strings.Replace(url, "http://", "http://guest:x@", 1)).want(t, exitRefused, `refused the login of user "guest"`)
	command(t, "", "queues", "--api", url).want(t, exitFailure, "sent no JSON")
	// The first that answers counts.
	command(t, "", "queues", "--api", "http://127.0.0.1:1,"+url).want(t, exitFailure, "sent no JSON")
}
