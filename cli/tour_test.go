package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTheTour is README's: the leader of the queue is killed while messages flow,
// and every message comes once, also those of a publisher that it served itself.
func TestTheTour(t *testing.T) {
	t.Run("publisher at a broker that lives", func(t *testing.T) { tour(t, false) })
	t.Run("publisher at the leader", func(t *testing.T) { tour(t, true) })
}

func tour(t *testing.T, atLeader bool) {
	const messages = "3000"
	l := clusterAt(t)
	rest := l.others(l.leader)
	urls := func(names ...string) string {
		var list []string
		for _, name := range names {
			list = append(list, l.amqp[name])
		}
		return strings.Join(list, ",")
	}
	here, there := urls(rest[0], rest[1], l.leader), urls(rest[1], rest[0], l.leader)
	if atLeader {
		here = urls(l.leader, rest[0], rest[1])
	}
	command(t, "", "publish", "--declare", "hello", "first message", "--url", here).want(t, exitOK, "1 message published, 1 confirmed")
	command(t, "", "consume", "hello", "--url", there).want(t, exitOK).wantOut(t, "first message\n")

	consumer := start(t, "consume", "hello", "--count", messages, "--timeout", "1m", "--url", there)
	publisher := start(t, "publish", "hello", "--count", messages, "--rate", "1000", "--size", "100", "--url", here)
	consumer.stdout.waitForCount(t, "\n", 500)
	l.kill(t, l.leader)
	for _, p := range []*process{publisher, consumer} {
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
			t.Fatalf("it does not end: %s", p.stderr.waitFor(t, ""))
		}
		if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
			t.Errorf("exit code %d: %s", code, p.stderr.waitFor(t, ""))
		}
	}
	publisher.stderr.waitFor(t, "3,000 messages published, 3,000 confirmed")
	lines := strings.Split(strings.TrimSuffix(consumer.stdout.waitFor(t, ""), "\n"), "\n")
	slices.Sort(lines)
	if distinct := len(slices.Compact(slices.Clone(lines))); len(lines) != 3000 || distinct != 3000 {
		t.Errorf("%d messages came, %d different ones", len(lines), distinct)
	}
	command(t, "", "consume", "hello", "--url", here).want(t, exitOK).wantOut(t, "") // Nothing is left.
}
