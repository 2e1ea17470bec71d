package main

import (
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// served is a serve command under way.
type served struct {
	*process
	amqp, http string
}

var addressField = regexp.MustCompile(`\b(amqp|http)=(\S+)`)

// serveAt runs serve on free ports.
func serveAt(t *testing.T, data string, more ...string) *served {
	t.Helper()
	args := append([]string{"serve", "--data", data, "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"}, more...)
	s := &served{process: start(t, args...)}
	text := s.stderr.waitFor(t, "broker is ready")
	for _, m := range addressField.FindAllStringSubmatch(text, -1) {
		if m[1] == "amqp" {
			s.amqp = "amqp://guest:guest@" + m[2] + "/"
		} else {
			s.http = "http://guest:guest@" + m[2]
		}
	}
	if s.amqp == "" || s.http == "" {
		t.Fatalf("no addresses in: %s", text)
	}
	return s
}

func (s *served) end(t *testing.T) {
	t.Helper()
	if code := s.signal(t, syscall.SIGTERM); code != exitOK {
		t.Fatalf("serve ended with %d: %s", code, s.stderr.waitFor(t, ""))
	}
}

func TestServeKeepsMessagesOverACleanStop(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := serveAt(t, data)
	command(t, "a\nb\n", "publish", "--declare", "q", "--url", s.amqp).want(t, exitOK, "2 messages published, 2 confirmed")
	r := command(t, "", "queues", "--api", s.http).want(t, exitOK)
	if !regexp.MustCompile(`/ +q +classic +running +2 +0 `).MatchString(r.stdout) {
		t.Errorf("queues: %s", r.stdout)
	}
	r = command(t, "", "status", "--api", s.http).want(t, exitOK)
	if !strings.Contains(r.stdout, "2 ready, 0 unacknowledged") || !strings.Contains(r.stdout, "leader") {
		t.Errorf("status: %s", r.stdout)
	}
	command(t, "", "log", "verify", data).want(t, exitFailure, "hint: stop the broker first")
	s.end(t)

	if r := command(t, "", "log", "verify", data).want(t, exitOK); !strings.Contains(r.stdout, "every checksum is right") {
		t.Errorf("verify: %s", r.stdout)
	}
	if r := command(t, "", "log", "inspect", data).want(t, exitOK); !strings.Contains(r.stdout, "entry") {
		t.Errorf("inspect: %s", r.stdout)
	}
	s = serveAt(t, data)
	command(t, "", "consume", "q", "--url", s.amqp).want(t, exitOK).wantOut(t, "a\nb\n")
	s.end(t)
}

func TestServeSaysWhyItDoesNotStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	command(t, "", "serve", "--data", t.TempDir(), "--amqp", l.Addr().String(), "--http", "-").
		want(t, exitFailure, "address already in use", "hint: another process listens there")

	command(t, "", "serve", "--data", t.TempDir(), "--amqp", "203.0.113.1:0", "--http", "-").want(t, exitFailure, "amqp: listen tcp 203.0.113.1:0")

	data := t.TempDir()
	s := serveAt(t, data)
	command(t, "", "serve", "--data", data, "--amqp", "127.0.0.1:0", "--http", "-").want(t, exitFailure, "hint: another broker uses this --data directory")
	s.end(t)
}

func TestProfiler(t *testing.T) {
	s := serveAt(t, t.TempDir(), "--pprof", "127.0.0.1:0")
	m := regexp.MustCompile(`address=(http://\S+/debug/pprof/)`).FindStringSubmatch(s.stderr.waitFor(t, "profiler is on"))
	if m == nil {
		t.Fatal("no address")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(m[1])
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s", answer.Status)
	}
	s.end(t)
}
