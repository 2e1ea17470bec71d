package replicate

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Envelope is a message for one or several members.
type Envelope struct {
	To []uint64
	// Message is to be sent to each of them. Its own To names one of them, or
	// none that matters.
	Message *raftpb.Message
}

// Group puts messages into envelopes: appends that several mirrors need alike
// become one, to be encoded and published once, and so do heartbeats. Each
// member gets its messages in the order in which they come. dst's memory is
// used again: dst[:0] of the call before costs no allocation.
//
// Appends from one leader of one term at one index hold the same entries when
// they hold as many (Raft, figure 3, log matching). They may differ in the
// commit index; the later one's is sent to all: a mirror takes no more of it
// than it has entries for.
func Group(dst []Envelope, messages []*raftpb.Message) []Envelope {
	for _, m := range messages {
		if i := sameFor(dst, m); i >= 0 {
			e := &dst[i]
			e.To = append(e.To, m.GetTo())
			if m.GetCommit() > e.Message.GetCommit() {
				e.Message = m
			}
			continue
		}
		if len(dst) < cap(dst) {
			dst = dst[:len(dst)+1]
		} else {
			dst = append(dst, Envelope{})
		}
		e := &dst[len(dst)-1]
		e.To, e.Message = append(e.To[:0], m.GetTo()), m
	}
	return dst
}

// sameFor finds the envelope that m can join, -1 for none. It does not overtake
// another message for its member.
func sameFor(envelopes []Envelope, m *raftpb.Message) int {
	if m.GetType() != raftpb.MsgApp && m.GetType() != raftpb.MsgHeartbeat {
		return -1
	}
	for i := len(envelopes) - 1; i >= 0; i-- {
		e := &envelopes[i]
		if slices.Contains(e.To, m.GetTo()) {
			return -1
		}
		if len(e.To) < maxRecipients && alike(e.Message, m) {
			return i
		}
	}
	return -1
}

func alike(a, b *raftpb.Message) bool {
	if a.GetType() != b.GetType() || a.GetFrom() != b.GetFrom() || a.GetTerm() != b.GetTerm() {
		return false
	}
	if a.GetType() == raftpb.MsgHeartbeat {
		return a.GetCommit() == b.GetCommit() && string(a.GetContext()) == string(b.GetContext())
	}
	return a.GetIndex() == b.GetIndex() && a.GetLogTerm() == b.GetLogTerm() && len(a.GetEntries()) == len(b.GetEntries())
}
