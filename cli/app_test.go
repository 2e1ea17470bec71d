package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main() // This process is a mirrormq that a test has started.
	}
	// The environment of whoever runs the tests must not decide them.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "MIRRORMQ_") && name != testURL {
			_ = os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

func TestFlagsMayFollowArguments(t *testing.T) {
	app := newApp(nil, io.Discard, io.Discard)
	for _, c := range []struct{ given, want string }{
		{"publish q body --count 5", "publish --count 5 -- q body"},
		{"publish --count 5 q", "publish --count 5 -- q"},
		{"consume q --follow -o json", "consume --follow -o json -- q"},
		{"consume q --count=3", "consume --count=3 -- q"},
		{"publish q --file -", "publish --file - -- q"},
		{"publish q -- --body -n", "publish -- q --body -n"},
		{"declare queue q --type quorum", "declare queue --type quorum -- q"},
		{"publish q --persistent=false b", "publish --persistent=false -- q b"},
		{"publish q --count", "publish --count -- q"},
		{"declare", "declare"},
		{"nope q --x", "nope q --x"},
		{"--help", "--help"},
		{"publish q --generate-bash-completion", "publish q --generate-bash-completion"},
	} {
		args := append([]string{"mirrormq"}, strings.Fields(c.given)...)
		before := slices.Clone(args)
		got := strings.Join(permute(app, args)[1:], " ")
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.given, got, c.want)
		}
		if !slices.Equal(args, before) {
			t.Errorf("%s: the arguments were changed", c.given)
		}
	}
}

func TestWrongUsageIsExplained(t *testing.T) {
	for _, c := range []struct{ args, stderr string }{
		{"publsh q", `no command "publsh"; did you mean "publish"?`},
		{"zzzzzz", `no command "zzzzzz"`},
		{"declare qeue q", `did you mean "queue"?`},
		{"publish", "publish where?"},
		{"publish q --nope", "no such flag: --nope"},
		{"publish q --count x", "count"},
		{"publish q a b", "give one body"},
		{"publish q a --size 5", "give one body"},
		{"publish q --size 1XB", "no size"},
		{"publish q a --count 0", "at least 1"},
		{"publish q a --window 0", "at least 1"},
		{"publish q a --header x", "name=text"},
		{"publish q a --header x:=y", "is not JSON"},
		{"publish q a --priority 256", "from 0 to 255"},
		{"publish q a --rate -1", "not below 0"},
		{"consume", "needs a queue"},
		{"consume a b", `unexpected argument "b"`},
		{"consume q --output xml", "use body, raw, json"},
		{"consume q --ack --requeue", "choose one"},
		{"consume q --prefetch 70000", "from 0 to 65535"},
		{"get q --count 0", "at least 1"},
		{"bind e", "needs a queue"},
		{"log verify", "needs a data directory"},
		{"queues a b", "unexpected argument"},
		{"status --api ftp://x", "no HTTP URL"},
		{"publish q a --url http://x", "--url"},
	} {
		command(t, "", strings.Fields(c.args)...).want(t, exitUsage, c.stderr, "hint: ")
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			here := append(slices.Clone(path), c.Name)
			r := command(t, "", append(here, "--help")...).want(t, exitOK)
			if !strings.Contains(r.stdout, c.Usage) {
				t.Errorf("%v --help: %s", here, r.stdout)
			}
			if len(c.Subcommands) == 0 && path == nil && !strings.Contains(r.stdout, "Examples:\n      mirrormq ") &&
				!strings.Contains(r.stdout, "Examples:") {
				t.Errorf("%v --help has no examples", here)
			}
			walk(here, c.Subcommands)
		}
	}
	walk(nil, newApp(nil, io.Discard, io.Discard).Commands)
	command(t, "", "--help").want(t, exitOK)
	if r := command(t, ""); !strings.Contains(r.stdout, "Exit codes:") || r.code != exitOK {
		t.Errorf("no arguments: %+v", r)
	}
}

func TestExitCodesOfErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{errors.New("x"), exitFailure},
		{usage("x"), exitUsage},
		{fmt.Errorf("around: %w", fail(exitEmpty, "", "x")), exitEmpty},
		{&amqp.Error{Code: 404, Reason: "NOT_FOUND - no queue 'q' in vhost '/'", Server: true}, exitNotFound},
		{&amqp.Error{Code: 403, Reason: "ACCESS_REFUSED", Server: true}, exitRefused},
		{&amqp.Error{Code: 405, Reason: "RESOURCE_LOCKED", Server: true}, exitRefused},
		{&amqp.Error{Code: 406, Reason: "PRECONDITION_FAILED", Server: true}, exitRefused},
		{&amqp.Error{Code: 530, Reason: "NOT_ALLOWED", Server: true}, exitRefused},
		{&amqp.Error{Code: 320, Reason: "CONNECTION_FORCED", Server: true}, exitConnect},
		{amqp.ErrClosed, exitConnect},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, exitConnect},
		{io.EOF, exitConnect},
		{context.Canceled, exitInterrupted},
		{context.DeadlineExceeded, exitTimeout},
	} {
		if got := classify(c.err); got.code != c.code || got.Error() == "" {
			t.Errorf("%v: code %d, want %d", c.err, got.code, c.code)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	command(t, "", "publish", "q", "x", "--url", "amqp://"+address+",amqp://"+address).
		want(t, exitConnect, "cannot connect to "+address, "hint: is the broker running?")
	command(t, "", "status", "--api", "http://"+address).want(t, exitConnect, "cannot reach "+address, "hint: is the broker running")
}

func TestCompletion(t *testing.T) {
	for shell, text := range map[string]string{"bash": "complete -o", "zsh": "#compdef", "fish": "complete -c mirrormq"} {
		if r := command(t, "", "completion", shell).want(t, exitOK); !strings.Contains(r.stdout, text) {
			t.Errorf("%s: %s", shell, r.stdout)
		}
	}
	// urfave/cli looks for what is completed in os.Args itself.
	before := os.Args
	t.Cleanup(func() { os.Args = before })
	for line, want := range map[string]string{"": "publish\n", "declare": "queue\nexchange\n", "publish --co": "--count\n"} {
		os.Args = append(append([]string{"mirrormq"}, strings.Fields(line)...), "--generate-bash-completion")
		if r := command(t, "", os.Args[1:]...); !strings.Contains(r.stdout, want) {
			t.Errorf("%q: %q", line, r.stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	r := command(t, "", "version").want(t, exitOK)
	if !strings.HasPrefix(r.stdout, "mirrormq "+version) {
		t.Errorf("got %s", r.stdout)
	}
}

func TestOutputIsPlainWhereNobodyWatches(t *testing.T) {
	var b bytes.Buffer
	if err := table(&b, []string{"A", "LONG"}, [][]string{{"1", "2"}, {"333", "4"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "A    LONG\n1    2\n333  4\n"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}
