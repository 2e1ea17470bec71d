package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Clients of a mirror's broker may have far more on its way to the leader than
// the link between the two takes: it waits its turn. When it was sent as it came,
// the link refused it, the gateway began anew with all of it, and so on forever.
func TestMoreThanALinkTakesWaitsItsTurn(t *testing.T) {
	const clients, publishes = 4, 40
	body, large := strings.Repeat("y", 200<<10), strings.Repeat("x", 20<<20)
	c := startCluster(t, 3, func(c *Config) { c.MaxMessageSize = 32 << 20 })
	leader := c.leader(firstGroup)
	mirror := c.others(leader)[0]
	confirming(t, c.address(mirror)).declare("q", durableQueue)
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			p := confirming(t, c.address(mirror))
			last := uint64(publishes)
			for range publishes {
				p.publish("", "q", body)
			}
			if i == 0 {
				p.publish("", "q", large)
				last++
			}
			p.acks(1, last)
		})
	}
	wait.Wait()
	sizes := make(map[int]int)
	for _, got := range confirming(t, c.address(leader)).drain("q") {
		sizes[len(got)]++
	}
	if want := map[int]int{len(body): clients * publishes, len(large): 1}; fmt.Sprint(sizes) != fmt.Sprint(want) {
		t.Errorf("messages by size: %v, want %v", sizes, want)
	}
}
