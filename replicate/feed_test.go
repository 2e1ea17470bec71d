package replicate

import (
	"fmt"
	"strings"
	"testing"
)

// testFeeder keeps what it was asked to read until it is told to.
type testFeeder struct {
	asked  [][3]uint64
	spends func(uint64) bool
	served int // entries
}

func (f *testFeeder) Fetch(lo, hi, maxBytes uint64) {
	f.asked = append(f.asked, [3]uint64{lo, hi, maxBytes})
}
func (f *testFeeder) Spend(size uint64) bool { return f.spends == nil || f.spends(size) }

// serve reads what was asked for.
func (f *testFeeder) serve(m *member) {
	asked := f.asked
	f.asked = nil
	for _, a := range asked {
		read, err := m.log.Read(m.config.Group, a[0], a[1], a[2])
		f.served += len(read)
		m.node.Fetched(a[0], read, err)
	}
}

// farBehind is a leader with a mirror that lacks much of the log, and answers
// again.
func farBehind(t *testing.T, entries int) (cluster, *testFeeder) {
	t.Helper()
	f := &testFeeder{}
	c := newCluster(t, 3, Config{Feeder: f, RingBytes: 4 << 10, MaxInflight: 8 << 20})
	leader := c.elect(t)
	for i := range entries {
		propose(t, leader, fmt.Sprint(i, strings.Repeat("x", 10<<10)))
		c.exchange(t, 1, 2)
	}
	if len(f.asked) > 0 {
		t.Fatalf("asked for %v though all were there", f.asked)
	}
	leader.log.reads = 0
	return c, f
}

// tick has the leader send a heartbeat, and all answer.
func (c cluster) tick(t *testing.T) {
	t.Helper()
	c[0].node.Tick()
	c.exchange(t)
}

func TestAMirrorFarBehindGetsWhatWasReadElsewhere(t *testing.T) {
	const entries = 1000
	c, f := farBehind(t, entries)
	rounds := 0
	for ; len(c[2].applied) < len(c[0].applied); rounds++ {
		if rounds > 100 {
			t.Fatalf("it has %d of %d entries", len(c[2].applied), len(c[0].applied))
		}
		c.tick(t)
		if read := c[0].log.reads; read > f.served {
			t.Fatalf("%d entries were read on the loop", read-f.served)
		}
		f.serve(c[0])
		for _, feed := range c[0].node.storage.feeds {
			if feed.bytes > feedAhead+feedRead {
				t.Fatalf("%d bytes were read ahead", feed.bytes)
			}
		}
	}
	if f.served > entries+20 {
		t.Errorf("%d entries were read of %d", f.served, entries)
	}
	for range 2 * electionTick {
		c.tick(t)
	}
	if left := len(c[0].node.storage.feeds); left > 0 {
		t.Errorf("%d feeds are left", left)
	}
}

func TestAMirrorFarBehindGetsNoMoreThanIsSpent(t *testing.T) {
	c, f := farBehind(t, 500)
	budget := int64(0)
	f.spends = func(size uint64) bool {
		if budget <= 0 {
			return false
		}
		budget -= int64(size)
		return true
	}
	for range 10 {
		c.tick(t)
		f.serve(c[0])
	}
	if n := len(c[2].applied); n > 2 {
		t.Fatalf("it got %d entries for nothing", n)
	}
	propose(t, c[0], "others go on")
	c.exchange(t)
	if n, want := len(c[1].applied), len(c[0].applied); n != want {
		t.Fatalf("the other mirror has %d of %d entries", n, want)
	}
	budget = 1 << 20
	for range 20 {
		c.tick(t)
		f.serve(c[0])
	}
	if got := len(c[2].applied) * 10 << 10; got < 1<<20 || got > 1<<20+2*feedPiece {
		t.Fatalf("it got %d bytes for 1 MiB", got)
	}
	f.spends = nil
	for len(c[2].applied) < len(c[0].applied) {
		c.tick(t)
		f.serve(c[0])
	}
}

func TestAFailedReadForAMirrorEndsTheLeader(t *testing.T) {
	c, f := farBehind(t, 100)
	c.tick(t)
	c[0].log.failure = errDisk
	f.serve(c[0])
	if c[0].node.Err() == nil {
		t.Error("it lives on")
	}
}

// What was to be read may be cut off by a checkpoint meanwhile.
func TestWhatIsFetchedMayBeGone(t *testing.T) {
	c, f := farBehind(t, 100)
	c.tick(t)
	asked := f.asked
	if len(asked) == 0 {
		t.Fatal("nothing was asked for")
	}
	c[0].checkpoint(uint64(len(c[0].applied)))
	f.serve(c[0])
	c.tick(t)
	if err := c[0].node.Err(); err != nil {
		t.Fatal(err)
	}
	if behind := c[0].node.Behind(nil); len(behind) != 1 {
		t.Errorf("behind are %v", behind)
	}
}
