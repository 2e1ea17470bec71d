package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "1KiB": 1024, "1k": 1024, "1kb": 1000, "16MiB": 16 << 20, "1.5 GiB": 3 << 29, "2GB": 2e9, "7B": 7,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XB", "NaN", "1e30", "MiB", "inf"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, n)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 200 << 20: "200 MiB", 1 << 50: "1024 TiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestWatermarks(t *testing.T) {
	for text, want := range map[string]int64{"0.4": 400, "40%": 400, "1": 1000, "100%": 1000, "2MiB": 2 << 20, "5000000": 5_000_000} {
		if got, err := parseWatermark(text, 1000); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "101%", "-1", "x", "0%", "NaN", "4", "1000KiB"} {
		if n, err := parseWatermark(text, 1000); err == nil {
			t.Errorf("%q is taken for %d", text, n)
		}
	}
	if _, err := parseWatermark("0.4", 0); err == nil {
		t.Error("a share of unknown memory is taken")
	}
}

func TestTables(t *testing.T) {
	got, err := parseTable("arg", []string{
		"a=text", "b=x=y,z", "n:=5", "f:=1.5", "t:=true", "list:=[1,\"x\"]", "table:={\"k\":2}", "empty=", "null:=null",
	})
	want := amqp.Table{
		"a": "text", "b": "x=y,z", "n": int64(5), "f": 1.5, "t": true, "list": []any{int64(1), "x"},
		"table": amqp.Table{"k": int64(2)}, "empty": "", "null": nil,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#v, %v", got, err)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"x", "=v", ":=1", "x:=", "x:=1 2"} {
		if _, err := parseTable("arg", []string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// bodiesOf runs fn with the bodies that a publish command line means.
func bodiesOf(t *testing.T, stdin string, args ...string) (texts []string, total int64, err error) {
	t.Helper()
	app := newApp(strings.NewReader(stdin), io.Discard, io.Discard)
	for _, c := range app.Commands {
		if c.Name != "publish" {
			continue
		}
		c.Action = func(c *cli.Context) error {
			b, n, err := newBodies(c, c.Args().Slice()[1:])
			if err != nil {
				return err
			}
			defer b.close()
			total = n
			for {
				body, err := b.next(context.Background())
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				texts = append(texts, string(body))
			}
		}
	}
	err = app.Run(permute(app, append([]string{"mirrormq", "publish", "q"}, args...)))
	return texts, total, err
}

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		stdin, args string
		want        []string
		total       int64
	}{
		{"", "one", []string{"one"}, 1},
		{"", "one --count 3", []string{"one", "one", "one"}, 3},
		{"a\nb\n\nc", "", []string{"a", "b", "", "c"}, 0},
		{"a\nb\nc\n", "--count 2", []string{"a", "b"}, 0},
		{"", "", nil, 0},
		{"whole\nfile\n", "--file -", []string{"whole\nfile\n"}, 1},
		{"", "--size 3 --count 2", []string{" th", " th"}, 2},
		{"", "--size 15 --count 2", []string{"0000000001quick"[:10] + "quick", "0000000002quick"}, 2},
		{"", "--size 0", []string{""}, 1},
	} {
		got, total, err := bodiesOf(t, c.stdin, strings.Fields(c.args)...)
		if c.args == "--size 15 --count 2" { // Numbered, then the made-up text.
			for i := range got {
				if len(got[i]) != 15 || !strings.HasPrefix(got[i], fmt.Sprintf("%010d", i+1)) {
					t.Errorf("made up: %q", got[i])
				}
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) || total != c.total {
			t.Errorf("%q %s: got %q, %d, %v", c.stdin, c.args, got, total, err)
		}
	}
	if _, _, err := bodiesOf(t, "", "--file", t.TempDir()+"/missing"); classify(err).code != exitNotFound {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadingLinesEndsWithTheCommand(t *testing.T) {
	r, w := io.Pipe()
	b := &bodies{left: 10}
	b.readLines(r)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.next(ctx); err != context.Canceled {
		t.Fatalf("got %v", err)
	}
	b.close()
	_ = w.Close() // Ends the reader's goroutine; TestMain checks.
}

func TestProgressLine(t *testing.T) {
	var sent, settled atomic.Int64
	sent.Store(600)
	p := &progress{total: 1000, sent: &sent, settled: &settled}
	if got, want := p.line(2*time.Second), "[==================            ]  60%  600/1,000  300/s  1s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	settled.Store(1000)
	if got, want := p.line(2*time.Second), "[==============================] 100%  1,000/1,000  500/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.total = 0
	if got, want := p.line(2*time.Second), "1,000 messages  500/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{"a.b": "a.b", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "#": "'#'"} {
		if got := shellWord(name); got != want {
			t.Errorf("%q: got %s", name, got)
		}
	}
	for name, want := range map[string]string{"a b": "a b", "": `""`, "a\x1b[1m": `"a\x1b[1m"`} {
		if got := printableName(name); got != want {
			t.Errorf("%q: got %s", name, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}
