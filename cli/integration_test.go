package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mirrormq/mirrormq/broker"
	"github.com/mirrormq/mirrormq/client"
)

// testURL is the variable that names an AMQP broker to run these tests
// against, a RabbitMQ for comparison. Without it each test starts a broker of
// ours.
const testURL = "MIRRORMQ_TEST_URL"

// amqpBroker is the URL of a broker for one test.
func amqpBroker(t *testing.T) string {
	t.Helper()
	if url := os.Getenv(testURL); url != "" {
		return url
	}
	url, _ := startBroker(t)
	return url
}

// startBroker runs a broker of ours until the test ends.
func startBroker(t *testing.T) (amqpURL, apiURL string) {
	t.Helper()
	b, err := broker.Start(context.Background(), broker.Config{
		Name: "b1", Data: t.TempDir(), AMQP: "127.0.0.1:0", HTTP: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return "amqp://guest:guest@" + b.AMQPAddr().String() + "/", "http://guest:guest@" + b.HTTPAddr().String()
}

// shell runs commands against one broker.
type shell struct{ url string }

func (c shell) run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	at := slices.Index(args, "--")
	if at < 0 {
		at = len(args)
	}
	return command(t, stdin, slices.Insert(slices.Clone(args), at, "--url", c.url)...)
}

// queue declares a queue that is deleted when the test ends.
func (c shell) queue(t *testing.T) string {
	t.Helper()
	name := uniqueName(t)
	c.run(t, "", "declare", "queue", name).want(t, exitOK, `queue "`+name+`": 0 messages, 0 consumers`)
	t.Cleanup(func() { c.run(t, "", "delete", "queue", name, "--if-exists").want(t, exitOK) })
	return name
}

func TestPublishAndConsume(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	c.run(t, "", "publish", q, "one").want(t, exitOK, "1 message published, 1 confirmed")
	c.run(t, "two\nthree\n", "publish", q).want(t, exitOK, "2 messages published, 2 confirmed")
	path := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(path, []byte("four\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, "", "publish", q, "--file", path, "--quiet").want(t, exitOK)
	c.run(t, "", "publish", q, "--count", "2", "--", "--five").want(t, exitOK)

	all := "one\ntwo\nthree\nfour\n\n--five\n--five\n"
	c.run(t, "", "consume", q, "--requeue").want(t, exitOK, "6 messages put back").wantOut(t, all)
	c.run(t, "", "consume", q, "--count", "2", "--prefetch", "1").want(t, exitOK, "2 messages acknowledged").wantOut(t, "one\ntwo\n")
	c.run(t, "", "consume", q).want(t, exitOK, "4 messages acknowledged").wantOut(t, all[len("one\ntwo\n"):])
	c.run(t, "", "consume", q).want(t, exitOK, "0 messages acknowledged").wantOut(t, "")
}

func TestPublishManyInTheWindowAndConsumeInOrder(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	const n = 5000
	c.run(t, "", "publish", q, "--count", fmt.Sprint(n), "--size", "64", "--window", "100").want(t, exitOK, "5,000 messages published, 5,000 confirmed")
	r := c.run(t, "", "consume", q, "--prefetch", "50").want(t, exitOK, "5,000 messages acknowledged")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(lines) != n {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, fmt.Sprintf("%010d", i+1)) {
			t.Fatalf("line %d: %s", i, line)
		}
	}
}

func TestLargeBody(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	c.run(t, "", "publish", q, "--size", "5MiB").want(t, exitOK)
	if r := c.run(t, "", "consume", q, "-o", "raw").want(t, exitOK); len(r.stdout) != 5<<20 {
		t.Fatalf("%d bytes", len(r.stdout))
	}
}

func TestPropertiesArriveAsGiven(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	c.run(t, "", "publish", q, "{}", "--content-type", "application/json", "--header", "a=x,y", "--header", "n:=5",
		"--priority", "4", "--message-id", "m", "--expiration", "1h", "--correlation-id", "c", "--type", "t").want(t, exitOK)
	r := c.run(t, "", "get", q, "-o", "json", "--requeue").want(t, exitOK, "1 message, 0 left")
	var m messageView
	if err := json.Unmarshal([]byte(r.stdout), &m); err != nil {
		t.Fatal(err)
	}
	delete(m.Properties, "timestamp")
	headers, _ := m.Properties["headers"].(map[string]any)
	for _, name := range []string{"x-producer", "x-producer-sequence"} {
		if headers[name] == nil {
			t.Errorf("no header %s: a message that is published again would be there twice", name)
		}
		delete(headers, name)
	}
	got, _ := json.Marshal(m.Properties)
	const want = `{"content_type":"application/json","correlation_id":"c","delivery_mode":2,"expiration":"3600000",` +
		`"headers":{"a":"x,y","n":5},"message_id":"m","priority":4,"type":"t"}`
	if string(got) != want || m.RoutingKey != q || m.Redelivered || *m.Remaining != 0 {
		t.Errorf("got  %s\nwant %s in %s", got, want, r.stdout)
	}
	r = c.run(t, "", "get", q, "-o", "json").want(t, exitOK)
	if !strings.Contains(r.stdout, `"redelivered":true`) {
		t.Errorf("not redelivered: %s", r.stdout)
	}
	c.run(t, "", "get", q).want(t, exitEmpty, "holds no message")
}

func TestUnroutableMessagesAreAnError(t *testing.T) {
	c := shell{amqpBroker(t)}
	name := uniqueName(t)
	c.run(t, "", "publish", name, "x").want(t, exitUndelivered, "1 returned", "came back unroutable (312 NO_ROUTE)", "mirrormq declare queue "+name)
	c.run(t, "", "publish", name, "x", "--confirm=false").want(t, exitUndelivered, "came back unroutable")
	c.run(t, "", "publish", name, "x", "--mandatory=false").want(t, exitOK)
	c.run(t, "", "publish", "--exchange", name, "x").want(t, exitNotFound, "no exchange '"+name+"'", "0 of 1 message confirmed", "declare exchange")
	c.run(t, "", "publish", "--exchange", "amq.topic", "-k", "a b", "x").want(t, exitUndelivered, "mirrormq bind amq.topic QUEUE --routing-key 'a b'")
}

func TestTopologyCommands(t *testing.T) {
	c := shell{amqpBroker(t)}
	q, e, e2 := c.queue(t), uniqueName(t)+"-e", uniqueName(t)+"-e2"
	c.run(t, "", "declare", "exchange", e, "--type", "topic").want(t, exitOK)
	c.run(t, "", "declare", "exchange", e2, "--type", "headers", "--internal").want(t, exitOK)
	c.run(t, "", "declare", "exchange", e, "--passive").want(t, exitOK)
	c.run(t, "", "declare", "exchange", e, "--type", "fanout").want(t, exitRefused, "inequivalent arg 'type'", "hint: it exists with other properties")
	c.run(t, "", "declare", "queue", q, "--transient").want(t, exitRefused, "inequivalent arg 'durable'")
	c.run(t, "", "declare", "queue", q+"-missing", "--passive").want(t, exitNotFound, "no queue")

	c.run(t, "", "bind", e, q, "-k", "a.*").want(t, exitOK, "bound to exchange")
	c.run(t, "", "publish", "--exchange", e, "-k", "a.b", "by topic").want(t, exitOK)
	c.run(t, "", "unbind", e, q, "-k", "a.*").want(t, exitOK, "unbound from exchange")
	c.run(t, "", "publish", "--exchange", e, "-k", "a.b", "x").want(t, exitUndelivered)

	c.run(t, "", "bind", e, e2, "-k", "#", "--to-exchange").want(t, exitOK)
	c.run(t, "", "bind", e2, q, "--arg", "x-match=all", "--arg", "n:=5").want(t, exitOK)
	c.run(t, "", "publish", "--exchange", e, "--header", "n:=5", "by header").want(t, exitOK)
	c.run(t, "", "publish", "--exchange", e, "--header", "n:=6", "x").want(t, exitUndelivered)
	c.run(t, "", "consume", q, "--requeue").want(t, exitOK).wantOut(t, "by topic\nby header\n")

	c.run(t, "", "delete", "queue", q, "--if-empty").want(t, exitRefused, "not empty")
	c.run(t, "", "delete", "exchange", e, "--if-unused").want(t, exitRefused, "in use")
	c.run(t, "", "purge", q).want(t, exitOK, "2 messages dropped")
	c.run(t, "", "purge", q+"-missing").want(t, exitNotFound)
	c.run(t, "", "delete", "queue", q, "--if-empty", "--if-unused").want(t, exitOK, "deleted, with 0 messages")
	c.run(t, "", "delete", "queue", q).want(t, exitNotFound)
	c.run(t, "", "delete", "queue", q, "--if-exists").want(t, exitOK, "nothing to delete")
	c.run(t, "", "delete", "exchange", e).want(t, exitOK)
	c.run(t, "", "delete", "exchange", e2).want(t, exitOK)
	c.run(t, "", "delete", "exchange", e2).want(t, exitNotFound, "no exchange")
	if r := c.run(t, "", "declare", "queue", "").want(t, exitOK); !strings.HasPrefix(r.stdout, "amq.gen-") {
		t.Errorf("made-up name: %q", r.stdout)
	} else {
		c.run(t, "", "delete", "queue", strings.TrimSpace(r.stdout)).want(t, exitOK)
	}
}

func TestFollowAcknowledgesWhatItPrintedWhenInterrupted(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	p := start(t, "consume", q, "--follow", "--url", c.url)
	c.run(t, "", "publish", q, "first").want(t, exitOK)
	p.stdout.waitFor(t, "first\n")
	c.run(t, "", "publish", q, "second").want(t, exitOK)
	p.stdout.waitFor(t, "second\n")
	if code := p.signal(t, os.Interrupt); code != exitOK {
		t.Fatalf("exit code %d: %s", code, p.stderr.waitFor(t, ""))
	}
	p.stderr.waitFor(t, "2 messages acknowledged")
	c.run(t, "", "get", q).want(t, exitEmpty)
}

func TestAnInterruptedPublisherSaysWhatIsConfirmed(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	p := start(t, "publish", q, "--url", c.url)
	if _, err := io.WriteString(p.stdin, "a\nb\n"); err != nil {
		t.Fatal(err)
	}
	// A line is published as it comes, not when the input ends.
	c.run(t, "", "consume", q, "--count", "2", "--timeout", "30s").want(t, exitOK).wantOut(t, "a\nb\n")
	if code := p.signal(t, os.Interrupt); code != exitInterrupted {
		t.Fatalf("exit code %d", code)
	}
	p.stderr.waitFor(t, "interrupted; 2 of 2 messages confirmed")
}

func TestAClosedPipeEndsAConsumer(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	c.run(t, "", "publish", q, "--count", "2000", "--size", "1KiB").want(t, exitOK)
	p := &printer{"body", bufio.NewWriterSize(brokenPipe{}, 16)}
	connected, err := client.Dial(t.Context(), c.url, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k := &consumer{client: connected, printer: p, queue: q}
	if err := errors.Join(k.run(t.Context(), 20, false, nil), connected.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	c.run(t, "", "declare", "queue", q, "--passive").want(t, exitOK, "2,000 messages, 0 consumers")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestWaitingHasAnEnd(t *testing.T) {
	c := shell{amqpBroker(t)}
	q := c.queue(t)
	c.run(t, "", "publish", q, "x").want(t, exitOK)
	c.run(t, "", "consume", q, "--count", "2", "--timeout", "300ms").want(t, exitTimeout, "no message for 300ms; 1 message received").wantOut(t, "x\n")
	c.run(t, "", "get", q).want(t, exitEmpty) // What was printed is acknowledged all the same.
	c.run(t, "", "consume", q+"-missing").want(t, exitNotFound, "no queue '"+q+"-missing'")
}

func TestTheBrokerSaysNo(t *testing.T) {
	c := shell{amqpBroker(t)}
	wrong := strings.Replace(c.url, "guest:guest@", "guest:wrong@", 1)
	command(t, "", "get", "q", "--url", wrong).want(t, exitRefused, `refused the login of user "guest"`, "hint: check user and password")
	command(t, "", "get", "q", "--url", strings.TrimSuffix(c.url, "/")+"/nowhere").want(t, exitRefused, `refused vhost "nowhere"`)
	// A broker that can't be reached is passed over.
	command(t, "", "get", "missing", "--url", "amqp://127.0.0.1:1,"+c.url).want(t, exitNotFound)
}
