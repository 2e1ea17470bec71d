package replicate

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// FuzzStep gives members in every role messages that any bytes decode to. A
// Node may refuse them, or fail; it must not panic, and must not apply anything
// else in a place where it has applied.
func FuzzStep(f *testing.F) {
	seed := func(message *raftpb.Message) {
		b, err := proto.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
	}
	seed(appendOf(1, 1, 1, 1, Entry{Term: 1, Index: 2, Payload: []byte("x")}))
	seed(appendOf(2, 0, 0, 7))
	for _, kind := range []raftpb.MessageType{
		raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow,
	} {
		seed(&raftpb.Message{Type: kind.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(3)), Index: new(uint64(1)), LogTerm: new(uint64(1))})
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var messages []*raftpb.Message
		for _, b := range [][]byte{first, second} {
			message := new(raftpb.Message)
			if proto.Unmarshal(b, message) != nil {
				return
			}
			messages = append(messages, message)
		}
		for _, role := range []Role{Follower, PreCandidate, Leader} {
			m := follower(t)
			switch role {
			case PreCandidate:
				_ = m.node.Campaign()
			case Leader:
				m = sole(t, Config{})
				propose(t, m, "a")
			}
			for _, message := range messages {
				if err := m.node.Step(proto.Clone(message).(*raftpb.Message)); err != nil && !errors.Is(err, ErrMessage) && !errors.Is(err, ErrFailed) {
					t.Fatal(err)
				}
				if err := m.settle(); err != nil && !errors.Is(err, ErrFailed) {
					t.Fatal(err)
				}
				m.node.Tick()
			}
		}
	})
}
