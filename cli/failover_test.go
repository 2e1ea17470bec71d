package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// A publish loop and a consume loop live through the kill of the broker that both
// are connected to and that leads their queue: nothing is lost, and what comes
// twice had been printed right before.
func TestPublishAndConsumeOutliveTheirBroker(t *testing.T) {
	l := clusterAt(t)
	rest := l.others(l.leader)
	urls := strings.Join([]string{l.amqp[l.leader], l.amqp[rest[0]], l.amqp[rest[1]]}, ",")
	command(t, "", "declare", "queue", "q", "--url", urls).want(t, exitOK)
	publisher := start(t, "publish", "q", "--url", urls, "--count", "3000", "--size", "32", "--rate", "1500", "--window", "50")
	consumer := start(t, "consume", "q", "--url", urls, "--follow")
	consumer.stdout.waitFor(t, fmt.Sprintf("%010d", 600))
	l.kill(t, l.leader)
	publisher.stderr.waitFor(t, "lost the connection to ")
	publisher.stderr.waitFor(t, "connected to ")
	publisher.stderr.waitFor(t, "3,000 messages published, 3,000 confirmed")
	consumer.stderr.waitFor(t, "connected to ")
	counts := map[string]int{}
	for i := 1; i <= 3000; i++ {
		consumer.stdout.waitFor(t, fmt.Sprintf("%010d", i))
	}
	if code := consumer.signal(t, os.Interrupt); code != exitOK {
		t.Errorf("exit code %d: %s", code, consumer.stderr.waitFor(t, ""))
	}
	for line := range strings.Lines(consumer.stdout.waitFor(t, "")) {
		counts[line]++
	}
	twice := 0
	for _, n := range counts {
		if n > 1 {
			twice++
		}
	}
	if len(counts) != 3000 || twice > 200 { // The prefetch is what can be under way.
		t.Errorf("%d different messages, %d twice", len(counts), twice)
	}
	if code := l.signal(t, os.Interrupt); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
