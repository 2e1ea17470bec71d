package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// localBrokers is a cluster command under way.
type localBrokers struct {
	*process
	amqp, http map[string]string // by name
	pids       map[string]int
	leader     string // of the queues
}

var (
	brokerLine = regexp.MustCompile(`(?m)^   (b\d)   AMQP (\S+)   HTTP http://(\S+)   pid (\d+)$`)
	victimLine = regexp.MustCompile(`kill -9 \d+   # (b\d), which leads the first queue`)
)

// clusterAt runs three brokers on free ports until the test ends.
func clusterAt(t *testing.T, more ...string) *localBrokers {
	t.Helper()
	if os.Getenv(testURL) != "" {
		t.Skip("another broker is tested")
	}
	args := append([]string{
		"cluster", "--data", t.TempDir(), "--amqp-port", "0", "--http-port", "0", "--backbone-port", "0",
	}, more...)
	l := &localBrokers{process: start(t, args...), amqp: map[string]string{}, http: map[string]string{}, pids: map[string]int{}}
	text := l.stderr.waitFor(t, "which leads the first queue")
	for _, m := range brokerLine.FindAllStringSubmatch(text, -1) {
		l.amqp[m[1]], l.http[m[1]] = m[2], "http://guest:guest@"+m[3]
		l.pids[m[1]], _ = strconv.Atoi(m[4])
	}
	if len(l.pids) != 3 {
		t.Fatalf("not three brokers in: %s", text)
	}
	l.leader = victimLine.FindStringSubmatch(text)[1]
	return l
}

// others are the brokers but one.
func (l *localBrokers) others(name string) (names []string) {
	for _, other := range []string{"b1", "b2", "b3"} {
		if other != name {
			names = append(names, other)
		}
	}
	return names
}

func (l *localBrokers) kill(t *testing.T, name string) {
	t.Helper()
	if err := syscall.Kill(l.pids[name], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.stderr.waitFor(t, name+" has died: signal: killed")
}

func TestAClusterLosesABrokerAndNothingElse(t *testing.T) {
	l := clusterAt(t)
	rest := l.others(l.leader)
	first, second := rest[0], rest[1]
	command(t, "a\nb\n", "publish", "--declare", "q", "--url", l.amqp[first]).want(t, exitOK, "2 messages published, 2 confirmed")
	counted := regexp.MustCompile(`/ +q +classic +running +2 +0 `)
	for name, api := range l.http {
		if r := command(t, "", "queues", "--api", api).want(t, exitOK); !counted.MatchString(r.stdout) {
			t.Errorf("queues at %s: %s", name, r.stdout)
		}
	}

	l.kill(t, l.leader)
	l.stderr.waitFor(t, "start it again with: mirrormq serve --name "+l.leader)
	command(t, "c\n", "publish", "q", "--url", l.amqp[first]).want(t, exitOK, "1 confirmed")
	// The dead broker's address is passed over.
	command(t, "", "consume", "q", "--url", l.amqp[l.leader]+","+l.amqp[second]).want(t, exitOK).wantOut(t, "a\nb\nc\n")
	r := command(t, "", "status", "--api", l.http[second]).want(t, exitOK)
	for _, want := range []string{l.leader + `\s+DOWN`, `queues +` + first + `|` + second, "gone|silent", "0 unclean"} {
		if !regexp.MustCompile(want).MatchString(r.stdout) {
			t.Errorf("no %q in: %s", want, r.stdout)
		}
	}

	if code := l.signal(t, os.Interrupt); code != exitOK {
		t.Fatalf("exit code %d: %s", code, l.stderr.waitFor(t, ""))
	}
	for name, pid := range l.pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func TestTransferByAnyBroker(t *testing.T) {
	l := clusterAt(t)
	rest := l.others(l.leader)
	r := command(t, "", "transfer", "1", rest[1], "--api", l.http[rest[0]])
	r.want(t, exitOK, rest[1]+" leads group 1")
	for name, api := range l.http {
		r := command(t, "", "status", "--api", api).want(t, exitOK)
		if !regexp.MustCompile(`1 +queues +`+rest[1]).MatchString(r.stdout) || !strings.Contains(r.stdout, "ordered") {
			t.Errorf("status of %s: %s", name, r.stdout)
		}
	}
	command(t, "", "transfer", "1", "b9", "--api", l.http["b1"]).want(t, exitRefused, `no broker "b9"`)
	command(t, "", "transfer", "9", "b1", "--api", l.http["b1"]).want(t, exitNotFound, "no group 9")
	if code := l.signal(t, syscall.SIGTERM); code != exitOK {
		t.Fatalf("exit code %d: %s", code, l.stderr.waitFor(t, ""))
	}
}

func TestABrokerThatDiedIsStartedAgain(t *testing.T) {
	l := clusterAt(t, "--restart")
	l.kill(t, l.leader)
	l.stderr.waitFor(t, l.leader+" runs again, pid ")
	l.stderr.waitForCount(t, `msg="broker is ready" name=`+l.leader, 2)
	command(t, "", "publish", "--declare", "q", "x", "--url", l.amqp[l.leader]).want(t, exitOK)
	if code := l.signal(t, os.Interrupt); code != exitOK {
		t.Fatalf("exit code %d: %s", code, l.stderr.waitFor(t, ""))
	}
}

func TestBrokersDoNotOutliveTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	l := clusterAt(t)
	var connections []net.Conn
	for _, url := range l.amqp {
		_, address, _ := strings.Cut(strings.TrimSuffix(url, "/"), "@")
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		connections = append(connections, c)
	}
	_ = l.signal(t, syscall.SIGKILL)
	for _, c := range connections {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("the broker at %v lives: %v", c.RemoteAddr(), err)
		}
	}
}

func TestAClusterSaysWhyItDoesNotStart(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	_, port, _ := net.SplitHostPort(held.Addr().String())
	p := start(t, "cluster", "--brokers", "1", "--data", t.TempDir(), "--amqp-port", port, "--http-port", "0", "--backbone-port", "0")
	<-p.ended
	text := p.stderr.waitFor(t, "b1 did not start: exit status 1")
	if !strings.Contains(text, "b1 | mirrormq: ") || !strings.Contains(text, "address already in use") {
		t.Errorf("it says: %s", text)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
}

func TestClusterFlags(t *testing.T) {
	command(t, "", "cluster", "--brokers", "0").want(t, exitUsage, "--brokers 0: from 1 to 9")
	command(t, "", "cluster", "--amqp-port", "65535").want(t, exitUsage, "--amqp-port 65535")
	command(t, "", "cluster", "--data", "").want(t, exitUsage, "--data is empty")
}

func TestASecondSignalKillsBrokersThatDoNotStop(t *testing.T) {
	out := newWatched()
	p := newPrefixes(out)
	b := &localBroker{
		name: "b1", program: "/bin/sh", args: []string{"-c", "trap '' TERM; echo deaf; exec sleep 600"},
		http: "http://127.0.0.1:1", out: p.with("b1", 0), ended: make(chan struct{}),
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	l := &localCluster{brokers: []*localBroker{b}, fail: cancel, kill: make(chan struct{}), say: p.say}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	out.waitFor(t, "b1 | deaf\n")
	stop := l.killOnSignal(ctx)
	cancel(nil)
	out.waitFor(t, "once more to kill")
	if isDone(done) {
		t.Fatal("it stopped though it was deaf")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-done
	stop()
	if !l.killed() || l.unclean() == nil {
		t.Errorf("killed %t, %v", l.killed(), l.unclean())
	}
}

func TestWholeLinesGetAPrefix(t *testing.T) {
	var out bytes.Buffer
	p := newPrefixes(&out)
	a, b := p.with("b1", 0), p.with("b2", 1)
	for _, s := range []struct {
		to   io.Writer
		text string
	}{{a, "one\ntw"}, {b, "other\n\n"}, {a, "o\nthree"}, {b, "x"}} {
		if n, err := io.WriteString(s.to, s.text); n != len(s.text) || err != nil {
			t.Fatalf("wrote %d: %v", n, err)
		}
	}
	a.flush()
	a.flush()
	p.say("said %d", 1)
	if got, want := out.String(), "b1 | one\nb2 | other\nb2 | \nb1 | two\nb1 | three\nsaid 1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	if _, err := b.Write(bytes.Repeat([]byte("y"), maxHeldLine)); err != nil || out.Len() < maxHeldLine {
		t.Errorf("an endless line is held: %d bytes are out, %v", out.Len(), err)
	}
}

func TestArgumentsAreQuotedForAShell(t *testing.T) {
	for given, want := range map[string]string{"b1=h:1,b2=h:2": "b1=h:1,b2=h:2", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := quoted(given); got != want {
			t.Errorf("%q: got %s, want %s", given, got, want)
		}
	}
}
