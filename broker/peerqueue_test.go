package broker

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// Clients of a mirror's broker may have far more on its way to the leader than
// the link between the two takes: it waits its turn. When it was sent as it came,
// the link refused it, the gateway began anew with all of it, and so on forever.
func TestMoreThanALinkTakesWaitsItsTurn(t *testing.T) {
	const clients, publishes = 3, 30
	body := strings.Repeat("y", 270<<10)
	c := startCluster(t, 3)
	leader := c.leader(firstGroup)
	mirror := c.others(leader)[0]
	confirming(t, c.address(mirror)).declare("q", durableQueue)
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			p := confirming(t, c.address(mirror))
			for range publishes {
				p.publish("", "q", body)
			}
			p.acks(1, publishes)
		})
	}
	wait.Wait()
	got := confirming(t, c.address(leader)).drain("q")
	if len(got) != clients*publishes || slices.ContainsFunc(got, func(b string) bool { return b != body }) {
		t.Errorf("%d messages", len(got))
	}
}
