package replicate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// cluster is a group whose members exchange messages when they are told to.
type cluster []*member

func newCluster(t *testing.T, size int, config Config) cluster {
	t.Helper()
	seedRaft(t, 1)
	for id := range size {
		config.Voters = append(config.Voters, uint64(id+1))
	}
	var c cluster
	for _, config.ID = range config.Voters {
		c = append(c, newMember(config))
	}
	return c
}

// exchange settles the members of some ids, all by default, and moves messages
// among them until there are none. Those to others are lost.
func (c cluster) exchange(t *testing.T, among ...uint64) {
	t.Helper()
	for moved := true; moved; {
		moved = false
		for _, from := range c {
			if len(among) > 0 && !slices.Contains(among, from.config.ID) {
				continue
			}
			settle(t, from)
			sent := from.sent
			from.sent = nil
			for _, message := range sent {
				if to := message.GetTo(); len(among) == 0 || slices.Contains(among, to) {
					moved = true
					if err := c[to-1].node.Step(transmit(message)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// elect makes the first member lead.
func (c cluster) elect(t *testing.T, among ...uint64) *member {
	t.Helper()
	for _, m := range c {
		if err := m.node.ForgetLeader(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c[0].node.Campaign(); err != nil {
		t.Fatal(err)
	}
	c.exchange(t, among...)
	if s := c[0].node.Status(); s.Role != Leader {
		t.Fatalf("%+v", s)
	}
	return c[0]
}

func TestProposeTellsWhereItWillBe(t *testing.T) {
	c := newCluster(t, 3, Config{})
	leader := c.elect(t)
	want := map[uint64]string{}
	for i := range 20 {
		payload := fmt.Sprint(i)
		index, err := leader.node.Propose([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		want[index] = payload
		if i%3 == 0 {
			if err := leader.node.ProposeConfChange(&raftpb.ConfChange{Type: raftpb.ConfChangeUpdateNode.Enum(), NodeId: new(uint64(2))}); err != nil {
				t.Fatal(err)
			}
		}
		if i%4 == 0 {
			c.exchange(t)
		}
	}
	c.exchange(t)
	for index, payload := range want {
		if got := string(leader.applied[index-1].Payload); got != payload {
			t.Errorf("at %d is %q, want %q", index, got, payload)
		}
	}
	if len(want) != 20 {
		t.Errorf("%d indexes for 20 proposals", len(want))
	}
}

// A candidate may win by the votes of others before its own vote, and what it
// has not yet synced, are on its disk.
func TestALeaderCountsItsOwnDiskOnlyWhenItIsWritten(t *testing.T) {
	c := newCluster(t, 5, Config{})
	c.elect(t)
	second := c[1]
	if err := second.node.Step(appendOfLeader(1, 2, 1, 1, 1, Entry{Term: 1, Index: 2, Payload: []byte("a")})); err != nil {
		t.Fatal(err)
	}
	for _, m := range c[1:] {
		_ = m.node.ForgetLeader()
	}
	if err := second.advance(); err != nil { // handed over, never synced
		t.Fatal(err)
	}
	if err := second.node.Campaign(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := second.advance(); err != nil {
			t.Fatal(err)
		}
		sent := second.sent
		second.sent = nil
		for _, message := range sent {
			if to := c[message.GetTo()-1]; to.config.ID > 2 {
				_ = to.node.Step(transmit(message))
				settle(t, to)
				for _, answer := range to.sent {
					_ = second.node.Step(transmit(answer))
				}
				to.sent = nil
			}
		}
	}
	s := second.node.Status()
	if s.Role != Leader || s.InFlightWrites == 0 {
		t.Fatalf("%+v", s)
	}
	// 3, 4 and 5 hold all of it; 2's own disk ends at 1.
	if got := []uint64{second.node.Match(3), second.node.Match(4), second.node.Confirmed(QuorumLeader)}; !slices.Equal(got, []uint64{3, 1, s.Commit}) {
		t.Errorf("on three, on four, on the leader: %v; %+v", got, s)
	}
	second.log.sync(-1)
	second.complete()
	if second.node.Match(4) != 3 {
		t.Errorf("on four: %d", second.node.Match(4))
	}
}

func appendOfLeader(from, to, term, prevTerm, prevIndex uint64, entries ...Entry) *raftpb.Message {
	m := appendOf(term, prevTerm, prevIndex, prevIndex, entries...)
	m.From, m.To = &from, &to
	return m
}

// Raft's figure 8 (section 5.4.2), for two disks of five: 5 may hold 2/2, which
// beats 1/2 wherever that is, so 1/2 is not confirmed by a leader of term 3 as
// long as nothing of term 3 is on two disks.
func TestAnEarlierTermsEntryIsNotConfirmedByItsDisks(t *testing.T) {
	c := newCluster(t, 5, Config{MaxMessage: 1})
	one, two, five := c[0], c[1], c[4]
	one.log.entries = []Entry{{Term: 1, Index: 1}, {Term: 1, Index: 2, Payload: []byte("a")}}
	one.log.state = &HardState{Term: 2}
	two.log.entries, five.log.entries = one.log.entries[:1:1], []Entry{{Term: 1, Index: 1}, {Term: 2, Index: 2, Payload: []byte("b")}}
	five.log.state = &HardState{Term: 2, Vote: 5}
	for _, m := range c {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.node.Campaign(); err != nil {
		t.Fatal(err)
	}
	for one.node.Match(2) < 2 { // 2 takes one entry at a time
		for _, m := range c[:4] {
			settle(t, m)
			sent := m.sent
			m.sent = nil
			for _, message := range sent {
				if to := message.GetTo(); to <= 2 || message.GetType() != raftpb.MsgApp && to < 5 {
					_ = c[to-1].node.Step(transmit(message))
				}
			}
		}
	}
	if s := one.node.Status(); s.Term != 3 || two.log.last() != (entry.Position{Term: 1, Index: 2}) || one.node.Confirmed(2) != s.Commit || s.Commit != 0 {
		t.Errorf("%+v: 2 ends at %v, confirmed %d", s, two.log.last(), one.node.Confirmed(2))
	}
	c.exchange(t, 1, 2)
	if got := one.node.Confirmed(2); got != 3 {
		t.Errorf("with 3/3 on two disks, %d is confirmed", got)
	}
}

func TestALongReplayIsAppliedInPieces(t *testing.T) {
	m := sole(t, Config{MaxApply: 1000})
	for range 100 {
		propose(t, m, strings.Repeat("x", 300))
		settle(t, m)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	pieces := 0
	for {
		before := len(m.applied)
		more, err := m.node.Advance(m.apply)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.applied)-before > 4 {
			t.Errorf("%d entries of 300 bytes in one piece of 1000", len(m.applied)-before)
		}
		pieces++
		if !more {
			break
		}
	}
	if pieces < 25 || m.node.Status().Role != Candidate {
		t.Errorf("%d pieces, then %+v", pieces, m.node.Status())
	}
	settle(t, m)
	if m.node.Status().Role != Leader {
		t.Errorf("%+v", m.node.Status())
	}
}

func TestTheLogIsKeptForMirrorsWithinBounds(t *testing.T) {
	c := newCluster(t, 3, Config{KeepLive: 1 << 20, KeepAbsent: 256 << 10, KeepTail: 128 << 10, MaxMessage: 64 << 10})
	leader := c.elect(t)
	payload := strings.Repeat("x", 32<<10-entryOverhead)
	write := func(n int, among ...uint64) {
		for range n {
			propose(t, leader, payload)
			c.exchange(t, among...)
		}
	}
	check := func(what string, m *member, want uint64) {
		t.Helper()
		if got := m.node.KeepFrom(); got+2 < want || got > want+2 { // sizes are known to 64 KiB
			t.Errorf("%s: %d, want about %d", what, got, want)
		}
	}
	write(4)
	check("all have all", leader, 5)
	check("a short log is kept by a mirror", c[1], 0)
	write(4, 1, 2)
	check("3 lags", leader, 5)
	write(12, 1, 2)
	leader.node.ticks += electionTick
	leader.node.contacts[2] = contact{leader.node.ticks, 1}
	check("3 is away for long", leader, 21-8)
	check("a mirror keeps a tail", c[1], 21-4)
	leader.node.contacts[3] = contact{leader.node.ticks, 1}
	check("3 is heard again", leader, 5)
	leader.node.Sending(3, entry.Position{Term: 1, Index: 10})
	check("3 is sent a checkpoint", leader, 10)
	leader.node.Sent(3)
	check("3 lags still", leader, 5)
}

// A learner that was just added gets a checkpoint, is made a voter, and counts.
func TestANewMemberBeginsWithACheckpoint(t *testing.T) {
	c := newCluster(t, 1, Config{})
	one := c[0]
	settle(t, one)
	propose(t, one, "a", "b")
	settle(t, one)
	one.checkpoint(2)
	one.node.Checkpointed(one.log.floor)
	stale := one.log.newest()

	config := one.config
	config.ID = 2
	two := newMember(config)
	c = append(c, two)
	learn := &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(2))}
	if err := one.node.ProposeConfChange(learn); err != nil {
		t.Fatal(err)
	}
	c.exchange(t)
	one.node.Tick()
	c.exchange(t)
	if behind := one.node.Behind(nil); !slices.Equal(behind, []uint64{2}) {
		t.Fatalf("behind: %v; %+v", behind, one.node.Mirrors(nil))
	}
	if _, err := two.node.Install(stale.at, stale.members); !errors.Is(err, ErrMembers) {
		t.Errorf("a checkpoint from before it was added: %v", err)
	}
	one.checkpoint(uint64(len(one.applied)))
	if adopted, err := two.install(one.log.newest()); !adopted || err != nil {
		t.Fatal(adopted, err)
	}
	one.node.Sending(2, one.log.floor)
	if behind := one.node.Behind(nil); len(behind) > 0 {
		t.Errorf("behind while it is sent: %v", behind)
	}
	c.exchange(t)
	one.node.Sent(2)
	if behind := one.node.Behind(nil); len(behind) > 0 || one.node.Match(2) != 0 {
		t.Fatalf("behind: %v; on two voters: %d", behind, one.node.Match(2))
	}
	if err := one.node.ProposeConfChange(addVoter(2)); err != nil {
		t.Fatal(err)
	}
	c.exchange(t)
	one.node.Tick()
	c.exchange(t)
	propose(t, one, "c")
	c.exchange(t)
	last := one.node.Status().Last.Index
	if m := two.node.Members(); !slices.Equal(m.Voters, []uint64{1, 2}) || one.node.Confirmed(QuorumAll) != last || !m.Has(2) || m.Has(3) {
		t.Errorf("%+v; all have %d of %d", m, one.node.Confirmed(QuorumAll), last)
	}
	if err := two.start(); err != nil || !two.node.Members().Has(2) {
		t.Errorf("restarted: %+v, %v", two.node.Members(), err)
	}
}

func TestAFailedInstallEndsTheMember(t *testing.T) {
	c := newCluster(t, 3, Config{})
	leader := c.elect(t, 1, 2)
	propose(t, leader, "a")
	c.exchange(t, 1, 2)
	leader.checkpoint(2)
	if adopted, err := c[2].install(leader.log.newest()); !adopted || err != nil {
		t.Fatal(adopted, err)
	}
	if _, err := c[2].node.Install(entry.Position{Term: 1, Index: 2}, leader.node.Members()); !errors.Is(err, ErrInstalling) {
		t.Error(err)
	}
	// What comes meanwhile waits for the checkpoint.
	if err := c[2].node.Step(appendOfLeader(1, 3, 1, 1, 2, Entry{Term: 1, Index: 3, Payload: []byte("b")})); err != nil {
		t.Fatal(err)
	}
	if err := c[2].advance(); err != nil || len(c[2].log.waiting) != 1 || len(c[2].sent) != 0 {
		t.Errorf("%v: %d writes wait, %d messages were sent", err, len(c[2].log.waiting), len(c[2].sent))
	}
	broken := errors.New("broken")
	c[2].node.Installed(broken)
	if err := c[2].advance(); !errors.Is(err, broken) || !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

func TestAFailedMemberDoesNothing(t *testing.T) {
	m := sole(t, Config{})
	m.node.Completed(Completion{Err: errors.New("EIO")})
	n := m.node
	n.Fence(9)
	n.ReportUnreachable(1)
	n.Paused()
	n.Sent(1)
	n.Installed(nil)
	for name, err := range map[string]error{
		"forget": n.ForgetLeader(), "raise": n.Raise(9), "transfer": n.TransferLeader(2), "campaign": n.Campaign(),
	} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.Offer(entry.Position{}); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if _, err := n.Install(entry.Position{}, Members{}); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if n.Confirmed(QuorumLeader)+n.Match(1) != 0 || len(n.Behind(nil))+len(n.Mirrors(nil)) != 0 {
		t.Error("it still leads")
	}
}

func TestMirrorsTellWhereTheyAre(t *testing.T) {
	c := newCluster(t, 3, Config{})
	leader := c.elect(t)
	propose(t, leader, "a")
	c.exchange(t, 1, 2)
	want := "[{2 false 2 3 true false} {3 false 1 3 true false}]"
	if got := fmt.Sprint(leader.node.Mirrors(nil)); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// Raft's follower would pass the request on to the leader that it knows.
func TestALeaderThatHasJustSteppedDownTransfersNothing(t *testing.T) {
	c := newCluster(t, 3, Config{})
	leader := c.elect(t)
	if err := leader.node.Step(appendOfLeader(3, 1, 2, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := leader.node.TransferLeader(2); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	if _, err := leader.node.Propose([]byte("a")); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	settle(t, leader)
	for _, m := range leader.sent {
		if !betweenMembers(m.GetType()) {
			t.Errorf("it sent %v", m)
		}
	}
}
