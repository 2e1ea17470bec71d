package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/bench/report"
	"github.com/mirrormq/mirrormq/internal/launch"
)

// built is the program, built once for all tests that start brokers.
var built struct {
	once sync.Once
	dir  string // removed by TestMain
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts brokers")
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "mirrormq-bench-test-"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir, "../cli").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("build: %w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "cli")
}

// compare runs the command line and returns what it wrote. Nothing of the
// brokers may be left then.
func compare(t *testing.T, arguments ...string) report.Document {
	t.Helper()
	brokers, files := t.TempDir(), t.TempDir()
	name := func(file string) string { return filepath.Join(files, file) }
	app := &cli.App{Name: "bench", Commands: Command(program(t)).Subcommands, Writer: &strings.Builder{}}
	arguments = append([]string{"bench", "compare", "--dir", brokers, "--rounds", "1", "--warm-up", "0", "--duration", "0",
		"--json", name("json"), "--html", name("html"), "--history", name("history")}, arguments...)
	if err := app.RunContext(t.Context(), arguments); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(brokers); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	text, err := os.ReadFile(name("json"))
	if err != nil {
		t.Fatal(err)
	}
	var d report.Document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"html", "history"} {
		if info, err := os.Stat(name(file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	return d
}

// expect checks that each broker took so many messages in each scenario.
func expect(t *testing.T, d report.Document, brokers []string, messages uint64) {
	t.Helper()
	for _, c := range d.Comparisons {
		for i, name := range brokers {
			if len(c.Reports[i]) != 1 {
				t.Fatalf("%s: %d reports of %s", c.Scenario, len(c.Reports[i]), name)
			}
			r := c.Reports[i][0]
			if r.Broker != name || r.Total != messages || len(r.Problems) > 0 || r.PeakRSS <= 0 {
				t.Errorf("%s: %s: %+v", c.Scenario, name, r)
			}
		}
	}
}

func TestCompareOurBrokerWithTheNullBrokerAndJetStream(t *testing.T) {
	d := compare(t, "--against", "null,jetstream", "--scenario", "one-broker,fan-out", "--brokers", "1", "--count", "400", "--driver", "lean")
	expect(t, d, []string{"mirrormq", "null", "jetstream"}, 400)
	if len(d.Comparisons) != 2 || d.Comparisons[0].Reports[0][0].Fsyncs <= 0 {
		t.Errorf("%+v", d.Comparisons)
	}
}

func TestCompareClusters(t *testing.T) {
	d := compare(t, "--against", "jetstream-sync", "--scenario", "cluster", "--count", "200")
	expect(t, d, []string{"mirrormq", "jetstream-sync"}, 200)
	if d.Comparisons[0].Reports[1][0].Brokers != 3 {
		t.Errorf("%+v", d.Comparisons)
	}
}

func TestCompareABacklog(t *testing.T) {
	d := compare(t, "--against", "null", "--scenario", "backlog", "--count", "300")
	expect(t, d, []string{"mirrormq"}, 300)
	if ours := d.Comparisons[0].Reports[0][0]; ours.FillRate() <= 0 || ours.Drained <= 0 {
		t.Errorf("%+v", ours)
	}
	if len(d.Comparisons[0].Reports[1]) != 0 {
		t.Error("the null broker kept a backlog")
	}
}

func TestCompareAFailover(t *testing.T) {
	d := compare(t, "--against", "null", "--scenario", "failover", "--duration", "1s", "--kill-after", "300ms")
	ours := d.Comparisons[0].Reports[0][0]
	if ours.KilledAt == 0 || ours.ConfirmGap <= 0 || ours.DeliveryGap <= 0 || ours.Brokers != 2 {
		t.Errorf("%+v", ours)
	}
	if len(ours.Problems) > 0 {
		t.Error(ours.Problems)
	}
}

func TestCompareWithRabbitMQ(t *testing.T) {
	if os.Getenv("CI") == "" {
		t.Skip("takes half a minute: set CI to have it")
	}
	if err := launch.Installed(launch.RabbitMQ{}); err != nil {
		t.Skip(err)
	}
	d := compare(t, "--against", "rabbitmq", "--scenario", "cluster", "--count", "200")
	expect(t, d, []string{"mirrormq", "rabbitmq"}, 200)
}

// However a measurement ends, its brokers end with it.
func TestBrokersEndWithWhatTheyWereStartedFor(t *testing.T) {
	ends := map[string]func(cancel context.CancelFunc) error{
		"well":  func(context.CancelFunc) error { return nil },
		"wrong": func(context.CancelFunc) error { return errors.New("something went wrong") },
		"at ctrl-c": func(cancel context.CancelFunc) error {
			cancel()
			return context.Canceled
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dir := t.TempDir()
			var pids []int
			err := WithCluster(ctx, launch.MirrorMQ{Binary: program(t)}, dir, 3, func(c *launch.Cluster) error {
				pids = c.PIDs()
				return end(cancel)
			})
			if (err == nil) != (name == "well") {
				t.Error(err)
			}
			if len(pids) != 3 || slices.ContainsFunc(pids, func(pid int) bool { return syscall.Kill(pid, 0) == nil }) {
				t.Errorf("of the processes %v some are left", pids)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestBrokersThatDontStartAreTriedAgain(t *testing.T) {
	for starts, want := range map[int]bool{2: true, startTries + 1: false} {
		count := filepath.Join(t.TempDir(), "count")
		script := filepath.Join(t.TempDir(), "mirrormq")
		text := fmt.Sprintf("#!/bin/sh\necho >> %s\n[ $(wc -l < %[1]s) -ge %d ] || exit 1\nexec %s \"$@\"\n", count, starts, program(t))
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		dir, used := t.TempDir(), false
		err := WithCluster(t.Context(), launch.MirrorMQ{Binary: script}, dir, 1, func(*launch.Cluster) error {
			used = true
			return nil
		})
		if (err == nil) != want || used != want {
			t.Errorf("serves at start %d: %v", starts, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestUnknownBrokersAndScenariosAreRefused(t *testing.T) {
	for _, arguments := range [][]string{{"--against", "kafka"}, {"--scenario", "none"}, {"--size", "big"}} {
		app := &cli.App{Name: "bench", Commands: Command("./no-such-program").Subcommands, Writer: &strings.Builder{}}
		if err := app.RunContext(t.Context(), append([]string{"bench", "compare"}, arguments...)); err == nil {
			t.Errorf("%v: accepted", arguments)
		}
	}
}
