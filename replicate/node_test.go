package replicate

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// sole is a settled group of one.
func sole(t *testing.T, config Config) *member {
	t.Helper()
	config.ID, config.Voters = 1, []uint64{1}
	m := newMember(config)
	settle(t, m)
	if m.node.Status().Role != Leader {
		t.Fatalf("%+v", m.node.Status())
	}
	return m
}

func settle(t *testing.T, m *member) {
	t.Helper()
	if err := m.settle(); err != nil {
		t.Fatal(err)
	}
}

func propose(t *testing.T, m *member, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if _, err := m.node.Propose([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPayloadIsCopiedOnceAndThenShared(t *testing.T) {
	m := sole(t, Config{})
	payload := []byte("payload")
	if _, err := m.node.Propose(payload); err != nil {
		t.Fatal(err)
	}
	clear(payload)
	if err := m.advance(); err != nil {
		t.Fatal(err)
	}
	written := m.log.waiting[0].entries[0].Payload
	settle(t, m)
	applied := m.applied[len(m.applied)-1]
	held, ok := m.node.Ring().Get(applied.Index)
	if !ok || string(held) != "payload" || &held[0] != &written[0] || &held[0] != &applied.Payload[0] {
		t.Errorf("log %q, ring %q, apply %q: not one payload", written, held, applied.Payload)
	}
}

func TestRecentEntriesAreAppliedWithoutReadingTheLog(t *testing.T) {
	m := sole(t, Config{})
	for i := range 100 {
		propose(t, m, fmt.Sprint(i))
		settle(t, m)
	}
	if m.log.reads != 0 || len(m.applied) != 101 {
		t.Errorf("%d entries were read, %d applied", m.log.reads, len(m.applied))
	}
}

func TestOldEntriesAreReadOnceInBoundedPieces(t *testing.T) {
	m := sole(t, Config{MaxApply: 1000})
	for range 100 {
		propose(t, m, strings.Repeat("x", 300))
		settle(t, m)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	m.log.largest = 0
	settle(t, m)
	if m.log.reads != 101 || m.log.largest > 1000 || len(m.applied) != 102 {
		t.Errorf("%d entries read in pieces up to %d bytes, %d applied", m.log.reads, m.log.largest, len(m.applied))
	}
}

func TestAnEntryLargerThanEveryBoundPasses(t *testing.T) {
	m := sole(t, Config{RingBytes: 500, MaxApply: 100, MaxMessage: 100, MaxUncommitted: 100})
	large := strings.Repeat("x", 1000)
	propose(t, m, "a")
	settle(t, m)
	propose(t, m, large)
	settle(t, m)
	propose(t, m, "b")
	settle(t, m)
	if n := len(m.applied); n != 4 || string(m.applied[2].Payload) != large || m.log.reads != 0 {
		t.Errorf("%d entries applied, %d read", n, m.log.reads)
	}
	if _, ok := m.node.Ring().Get(3); ok {
		t.Error("the ring holds an entry larger than itself, though it is not the newest")
	}
}

func TestALaterCompletionStandsForEarlierOnes(t *testing.T) {
	m := sole(t, Config{})
	for _, p := range []string{"a", "b", "c"} {
		propose(t, m, p)
		if err := m.advance(); err != nil {
			t.Fatal(err)
		}
	}
	if s := m.node.Status(); s.InFlightWrites != 3 || m.node.InFlight() != 3 || s.InFlightBytes != 3 || s.Uncommitted != 3 {
		t.Errorf("%+v", s)
	}
	m.log.sync(-1)
	m.completions = m.completions[2:]
	settle(t, m)
	if s := m.node.Status(); s.Applied.Index != 4 || s.InFlightWrites != 0 || m.node.InFlight() != 0 || s.InFlightBytes != 0 || s.Uncommitted != 0 {
		t.Errorf("%+v", s)
	}
}

func TestOnlyTheLeaderTakesProposals(t *testing.T) {
	m := newMember(Config{ID: 1, Voters: []uint64{1, 2}})
	settle(t, m)
	if _, err := m.node.Propose([]byte("x")); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	if err := m.node.ProposeConfChange(addVoter(3)); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
}

func TestAnApplyErrorFailsTheGroup(t *testing.T) {
	m := sole(t, Config{})
	propose(t, m, "a")
	_ = m.advance()
	m.log.sync(-1)
	m.complete()
	broken := errors.New("broken")
	_, err := m.node.Advance(func(uint64, uint64, []byte) error { return broken })
	if !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := m.node.Propose(nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestAnUnreadableEntryFailsTheGroup(t *testing.T) {
	m := sole(t, Config{})
	propose(t, m, "a")
	settle(t, m)
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	m.log.failure = errors.New("crc")
	if err := m.advance(); !errors.Is(err, ErrFailed) || !errors.Is(err, m.log.failure) {
		t.Error(err)
	}
	if m.node.Tick(); !errors.Is(m.node.Err(), m.log.failure) {
		t.Error(m.node.Err())
	}
}

func TestALogThatReturnsAnotherEntryFailsTheGroup(t *testing.T) {
	m := sole(t, Config{})
	propose(t, m, "a")
	settle(t, m)
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	m.log.entries[0].Term = 9
	if err := m.advance(); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

// follower is a member of three that has applied one entry of leader 2's.
func follower(t *testing.T) *member {
	t.Helper()
	m := newMember(Config{ID: 1, Voters: []uint64{1, 2, 3}})
	if err := m.node.Step(appendOf(1, 0, 0, 1, Entry{Term: 1, Index: 1, Payload: []byte("a")})); err != nil {
		t.Fatal(err)
	}
	settle(t, m)
	if s := m.node.Status(); s.Applied.Index != 1 || s.Leader != 2 {
		t.Fatalf("%+v", s)
	}
	return m
}

func appendOf(term, prevTerm, prevIndex, commit uint64, entries ...Entry) *raftpb.Message {
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)),
		Term: &term, LogTerm: &prevTerm, Index: &prevIndex, Commit: &commit,
	}
	for _, e := range entries {
		m.Entries = append(m.Entries, fromLog(e))
	}
	return m
}

func TestAContradictionThatRaftFindsFailsTheGroup(t *testing.T) {
	m := follower(t)
	// Leader 2 of term 1 sends two more entries. Leader 2 of term 2 replaces them
	// by one, and yet counts on both.
	for _, message := range []*raftpb.Message{
		appendOf(1, 1, 1, 1, Entry{Term: 1, Index: 2}, Entry{Term: 1, Index: 3}),
		appendOf(2, 1, 1, 1, Entry{Term: 2, Index: 2}),
	} {
		if err := m.node.Step(message); err != nil {
			t.Fatal(err)
		}
		if message.GetTerm() == 1 {
			settle(t, m)
		}
	}
	heartbeat := &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2)), Commit: new(uint64(3)),
	}
	if err := m.node.Step(heartbeat); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "tocommit(3)") {
		t.Error(err)
	}
}

func TestStepRefusesWhatNoMemberSends(t *testing.T) {
	m := follower(t)
	good := func() *raftpb.Message {
		return appendOf(2, 1, 1, 1, Entry{Term: 1, Index: 2}, Entry{Term: 2, Index: 3})
	}
	for name, spoil := range map[string]func(*raftpb.Message){
		"for another":        func(m *raftpb.Message) { m.To = new(uint64(3)) },
		"from nobody":        func(m *raftpb.Message) { m.From = nil },
		"from itself":        func(m *raftpb.Message) { m.From = m.To },
		"without a term":     func(m *raftpb.Message) { m.Term = nil },
		"a proposal":         func(m *raftpb.Message) { m.Type = raftpb.MsgProp.Enum() },
		"a local message":    func(m *raftpb.Message) { m.Type = raftpb.MsgStorageAppendResp.Enum() },
		"a checkpoint":       func(m *raftpb.Message) { m.Type = raftpb.MsgSnap.Enum() },
		"a gap":              func(m *raftpb.Message) { m.Entries[1].Index = new(uint64(4)) },
		"no entry":           func(m *raftpb.Message) { m.Entries[1] = nil },
		"a falling term":     func(m *raftpb.Message) { m.LogTerm = new(uint64(2)) },
		"a term too high":    func(m *raftpb.Message) { m.Term = new(uint64(1)) },
		"an unknown kind":    func(m *raftpb.Message) { m.Entries[0].Type = raftpb.EntryType(3).Enum() },
		"a negative kind":    func(m *raftpb.Message) { m.Entries[0].Type = raftpb.EntryType(-1).Enum() },
		"the end of indexes": func(m *raftpb.Message) { m.Index, m.Entries = new(^uint64(0)), nil },
	} {
		message := good()
		spoil(message)
		if err := m.node.Step(message); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.node.Step(nil); !errors.Is(err, ErrMessage) {
		t.Error(err)
	}
	stranger := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(9)), To: new(uint64(1)), Term: new(uint64(1))}
	if err := m.node.Step(stranger); err != nil {
		t.Error(err)
	}
	if err := m.node.Step(good()); err != nil {
		t.Error(err)
	}
	if settle(t, m); m.node.Status().Last != (entry.Position{Term: 2, Index: 3}) {
		t.Errorf("%+v", m.node.Status())
	}
}

func TestALostLogFailsTheGroup(t *testing.T) {
	m := follower(t)
	heartbeat := &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(1)), Commit: new(uint64(7)),
	}
	if err := m.node.Step(heartbeat); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "lost") {
		t.Error(err)
	}
	if m.sent = nil; m.settle() == nil || len(m.sent) > 0 {
		t.Errorf("it lives and sent %v", m.sent)
	}
}

func TestAVoteIsNotAnsweredOnceTheDiskBroke(t *testing.T) {
	m := follower(t)
	m.sent = nil
	vote := &raftpb.Message{
		Type: raftpb.MsgVote.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(2)),
		Index: new(uint64(1)), LogTerm: new(uint64(1)), Context: []byte("CampaignTransfer"),
	}
	if err := m.node.Step(vote); err != nil {
		t.Fatal(err)
	}
	if err := m.advance(); err != nil || len(m.log.waiting) != 1 {
		t.Fatal(err, len(m.log.waiting))
	}
	m.log.failure = errors.New("EIO")
	m.log.sync(-1)
	m.complete()
	if err := m.advance(); !errors.Is(err, m.log.failure) || len(m.sent) > 0 {
		t.Errorf("%v; it sent %v", err, m.sent)
	}
}

func TestNewRefusesAConfigThatCannotWork(t *testing.T) {
	notify, log := func(Completion) {}, &fakeLog{}
	for name, config := range map[string]Config{
		"no id":          {Voters: []uint64{1}, Log: log, Notify: notify},
		"a reserved id":  {ID: 1<<64 - 1, Voters: []uint64{1}, Log: log, Notify: notify},
		"no log":         {ID: 1, Voters: []uint64{1}, Notify: notify},
		"no notify":      {ID: 1, Voters: []uint64{1}, Log: log},
		"no transport":   {ID: 1, Voters: []uint64{1, 2}, Log: log, Notify: notify},
		"no voters":      {ID: 1, Log: log, Notify: notify},
		"a voter's id 0": {ID: 1, Voters: []uint64{1, 0}, Log: log, Notify: notify, Transport: &member{}},
	} {
		if _, err := New(config); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefusesACheckpointThatTheLogDoesNotKnow(t *testing.T) {
	log := &fakeLog{floor: entry.Position{Term: 2, Index: 5}, entries: []Entry{{Term: 2, Index: 6}, {Term: 3, Index: 7}}}
	for _, applied := range []entry.Position{{}, {Term: 2, Index: 4}, {Term: 3, Index: 8}, {Term: 3, Index: 6}, {Term: 2, Index: 7}} {
		_, err := New(Config{ID: 1, Voters: []uint64{1}, Log: log, Notify: func(Completion) {}, Applied: applied})
		if !errors.Is(err, ErrState) {
			t.Errorf("applied %v: %v", applied, err)
		}
	}
}

func TestTheStoredCommitIndexIsAdvisory(t *testing.T) {
	known := &terms{runs: []entry.Position{{Term: 2, Index: 5}, {Term: 4, Index: 8}}, last: 9}
	applied := entry.Position{Term: 2, Index: 6}
	for _, c := range []struct{ stored, want HardState }{
		{HardState{}, HardState{Term: 4, Commit: 6}},
		{HardState{Term: 3, Vote: 7, Commit: 7}, HardState{Term: 4, Commit: 7}},
		{HardState{Term: 4, Vote: 7, Commit: 3}, HardState{Term: 4, Vote: 7, Commit: 6}},
		{HardState{Term: 5, Vote: 7, Commit: 12}, HardState{Term: 5, Vote: 7, Commit: 9}},
	} {
		if got, err := initialState(c.stored, applied, known); err != nil || got != c.want {
			t.Errorf("%+v becomes %+v, %v; want %+v", c.stored, got, err, c.want)
		}
	}
}

func TestALogThatLostItsUnsyncedTailStarts(t *testing.T) {
	m := sole(t, Config{})
	propose(t, m, "a", "b")
	settle(t, m)
	propose(t, m, "c")
	settle(t, m)
	m.log.entries = m.log.entries[:1] // as with fsync: never; the hard state was luckier
	m.applied = nil
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	settle(t, m)
	if len(m.applied) != 2 || m.applied[1].Term != 2 {
		t.Errorf("applied %v", m.applied)
	}
}

func addVoter(id uint64) raftpb.ConfChangeI {
	return &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &id}
}

func TestMembersChange(t *testing.T) {
	seedRaft(t, 1)
	one := sole(t, Config{})
	two := newMember(Config{ID: 2, Voters: []uint64{1}})
	exchange := func() {
		for len(one.sent)+len(two.sent) > 0 {
			for _, pair := range [][2]*member{{one, two}, {two, one}} {
				for _, message := range pair[0].sent {
					if err := pair[1].node.Step(message); err != nil {
						t.Fatal(err)
					}
				}
				pair[0].sent = nil
				settle(t, pair[1])
			}
		}
	}
	if err := one.node.ProposeConfChange(addVoter(2)); err != nil {
		t.Fatal(err)
	}
	settle(t, one)
	propose(t, one, "a")
	settle(t, one)
	if one.node.Status().Commit != 2 {
		t.Fatalf("two voters, one disk: %+v", one.node.Status())
	}
	one.node.Tick()
	settle(t, one)
	exchange()
	if s := two.node.Status(); s.Applied != one.position() || s.Applied.Index != 3 {
		t.Fatalf("one %+v, two %+v", one.node.Status(), s)
	}

	// A restart replays the change, and doesn't take itself for the sole voter.
	if err := one.start(); err != nil {
		t.Fatal(err)
	}
	settle(t, one)
	if s := one.node.Status(); s.Role != Follower || s.Applied.Index < 2 {
		t.Fatalf("%+v", s)
	}

	// The new leader takes the old one out.
	for range 2 * electionTick {
		one.node.Tick()
		two.node.Tick()
	}
	settle(t, one)
	settle(t, two)
	exchange()
	leader := one
	if two.node.Status().Role == Leader {
		leader = two
	}
	if err := leader.node.ProposeConfChange(&raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &leader.config.ID}); err != nil {
		t.Fatalf("one %+v, two %+v: %v", one.node.Status(), two.node.Status(), err)
	}
	settle(t, leader)
	exchange()
	if s := leader.node.Status(); s.Role != Follower || s.Err != nil {
		t.Errorf("a removed leader: %+v", s)
	}
}

func TestAMalformedConfigurationChangeFailsTheGroup(t *testing.T) {
	for _, payload := range []string{"\xff", ""} {
		m := newMember(Config{ID: 1, Voters: []uint64{1, 2, 3}})
		err := m.node.Step(appendOf(1, 0, 0, 1, Entry{Term: 1, Index: 1, Kind: 1, Payload: []byte(payload)}))
		if err == nil {
			err = m.settle()
		}
		if payload != "" && !errors.Is(err, ErrFailed) {
			t.Errorf("%q: %v", payload, err)
		}
	}
	m := newMember(Config{ID: 1, Voters: []uint64{1}})
	m.log.entries = []Entry{{Term: 1, Index: 1, Kind: 2, Payload: []byte{0x12, 4, 0x08, 1, 0x10, 1}}} // remove 1
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	if err := m.settle(); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

func TestTheLoggerIsNotAskedForLinesThatNobodyReads(t *testing.T) {
	var b strings.Builder
	logger := raftLogger{slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	logger.Infof("%d", 1)
	logger.Warningf("%d", 2)
	logger.Warning(3)
	logger.Errorf("%d", 4)
	logger.Error(5)
	logger.Debug(6)
	if got := b.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "msg=4") || !strings.Contains(got, "msg=5") {
		t.Error(got)
	}
}
