package broker

import (
	"errors"
	"slices"
	"testing"

	"github.com/mirrormq/mirrormq/internal/admin"
)

// loseData starts the mirror again without its data, and returns what receives
// the end of its start.
func (c *catchupTest) loseData() <-chan error {
	c.t.Helper()
	config := c.configs[c.away]
	config.Data = c.t.TempDir()
	c.configs[c.away] = config
	started := make(chan error, 1)
	go func() {
		b, err := startAgain(c.t.Context(), config)
		if err == nil {
			c.t.Cleanup(func() { _ = b.Stop(c.t.Context()) }) // Where the test did not come so far as to stop it.
			c.brokers[c.away] = b
		}
		started <- err
	}()
	for _, name := range []string{c.leader, c.third} {
		c.eventually("a newcomer at the door", func() bool { return isNewcomer(c.brokers[name].cluster.stranger(c.away)) })
	}
	return started
}

// replace has an operator let the mirror in, and waits until it votes in all
// groups.
func (c *catchupTest) replace(started <-chan error) {
	c.t.Helper()
	if err := (source{c.brokers[c.third]}).Replace(c.t.Context(), c.away); err != nil {
		c.t.Fatal(err)
	}
	if err := <-started; err != nil {
		c.t.Fatal(err)
	}
	for _, name := range c.names {
		for _, e := range c.brokers[name].elections {
			c.eventually("its vote", func() bool {
				m, err := onLoop(c.t.Context(), e.loop, e.node.Members)
				return err == nil && len(m.Voters) == 3 && slices.Contains(m.Voters, c.brokers[c.away].members.id) &&
					len(m.Learners) == 0
			})
		}
	}
}

// votes has nothing committed without the mirror.
func (c *catchupTest) votes() {
	c.t.Helper()
	c.stop(c.third)
	c.wait(30, 100)
	c.start(c.third)
}

func TestABrokerThatLostItsDataIsReplacedAndGetsThemFromTheOthers(t *testing.T) {
	c := newCatchupTest(t)
	missed := c.last()
	c.stop(c.away)
	c.pass(missed)
	started := c.loseData()
	select {
	case err := <-started:
		t.Fatalf("it serves without data: %v", err)
	default:
	}
	c.wait(30, 100)
	c.replace(started)
	c.lead()
	c.votes()
	c.stop(c.away) // What it is outlives a restart.
	c.start(c.away)
	c.votes()
	c.serve()
	if err := (source{c.brokers[c.leader]}).Replace(t.Context(), c.third); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("replace a broker that is well: %v", err)
	}
}

// A newcomer hears of brokers that it has not met: one of them may have lost its
// data when they do.
func TestANewcomerIsToldOfTheOthers(t *testing.T) {
	c := &catchupTest{testCluster: startCluster(t, 3)}
	c.leader = c.testCluster.leader(1)
	others := c.others(c.leader)
	c.away, c.third = others[0], others[1]
	c.stop(c.away)
	started := c.loseData()
	away := func() *cluster { return c.brokers[c.away].cluster }
	c.replace(started)
	c.eventually("what the others know", func() bool {
		away().mu.Lock()
		defer away().mu.Unlock()
		return len(away().mu.known) == 2
	})
	away().mu.Lock()
	before := away().mu.known[c.third]
	delete(away().mu.known, c.third)
	away().mu.Unlock()
	c.brokers[c.leader].cluster.teach(c.away)
	c.eventually("what the leader knows of a broker", func() bool {
		away().mu.Lock()
		defer away().mu.Unlock()
		return away().mu.known[c.third] == before
	})
	away().learn(c.third, before+1)
	away().mu.Lock()
	defer away().mu.Unlock()
	if known := away().mu.known[c.third]; known != before {
		t.Errorf("what it knew, %x, is %x", before, known)
	}
}

func TestABrokerCanBeReplacedTwiceFromTheLogAlone(t *testing.T) {
	c := &catchupTest{testCluster: startCluster(t, 3)}
	c.leader = c.testCluster.leader(1)
	others := c.others(c.leader)
	c.away, c.third = others[0], others[1]
	c.wait(30, 100)
	for range 2 {
		c.stop(c.away)
		c.wait(30, 100)
		c.replace(c.loseData())
		c.lead()
		c.votes()
	}
	c.serve()
}

// One that has its data, though others know it with other data, keeps them.
func TestABrokerWithDataDoesNotBecomeANewcomer(t *testing.T) {
	c := startCluster(t, 3)
	b := c.brokers[c.others(c.leader(1))[0]]
	b.cluster.calledStranger("b9", b.members.incarnation(b.log.Identity()))
	if isClosed(b.failedChannel) {
		t.Fatalf("it ends: %v", b.failure)
	}
}

func TestANewcomersIDNamesItsBroker(t *testing.T) {
	names := []string{"b1", "b2", "b3"}
	addresses := map[string]string{"b1": "", "b2": "", "b3": ""}
	ids := make(map[uint64]bool)
	for _, name := range names {
		m := newMembers(Config{Name: name, Cluster: addresses}, 0)
		for _, identity := range []uint64{1, 1<<64 - 1, 0xdeadbeefcafe1234} {
			id := m.newcomer(identity)
			if !isNewcomer(id) || isNewcomer(m.incarnation(identity)) || m.name(id) != name || !sameData(id, identity) {
				t.Errorf("%s, %x: %x is of %q", name, identity, id, m.name(id))
			}
			ids[id] = true
		}
		if m.name(m.id) != name || isNewcomer(m.id) {
			t.Errorf("%s: %x is of %q", name, m.id, m.name(m.id))
		}
	}
	if len(ids) != 9 {
		t.Errorf("%d ids of 9", len(ids))
	}
	if m := newMembers(Config{Name: "b1", Cluster: addresses}, 0); m.name(newcomerBits|9<<newcomerPlace) != "" {
		t.Error("a broker that there is not has a name")
	}
}
