package replicate

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// ErrMessage is returned by Step for a message that no member of the group
// sends to this one.
var ErrMessage = errors.New("replicate: invalid message")

// beyond is more than any term or index gets to be; raft adds to them without a
// look at overflow.
const beyond = 1 << 62

// check looks at a message from outside before raft does: raft trusts what it
// is given, and panics on contradictions.
func (n *Node) check(m *raftpb.Message) error {
	switch {
	case m == nil:
		return fmt.Errorf("%w: none", ErrMessage)
	case m.GetTo() != n.config.ID:
		return fmt.Errorf("%w: for member %x, not %x", ErrMessage, m.GetTo(), n.config.ID)
	case m.GetFrom() == 0 || m.GetFrom() == n.config.ID:
		return fmt.Errorf("%w: from member %x", ErrMessage, m.GetFrom())
	case m.GetTerm() == 0:
		return fmt.Errorf("%w: without a term", ErrMessage)
	case max(m.GetTerm(), m.GetIndex(), m.GetRejectHint()) > beyond:
		return fmt.Errorf("%w: term %d, index %d, hint %d", ErrMessage, m.GetTerm(), m.GetIndex(), m.GetRejectHint())
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		return checkEntries(m)
	case raftpb.MsgHeartbeat:
		return n.checkCommit(m)
	}
	if !betweenMembers(m.GetType()) {
		return fmt.Errorf("%w: type %v", ErrMessage, m.GetType())
	}
	return nil
}

// checkEntries holds an append to Raft's log properties: indexes follow one
// another, terms never decrease nor exceed the sender's.
func checkEntries(m *raftpb.Message) error {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		index++
		if e.GetIndex() != index || e.GetTerm() < term || e.GetTerm() == 0 || e.GetTerm() > m.GetTerm() {
			return fmt.Errorf("%w: entry %d/%d at index %d after term %d, from a leader of term %d",
				ErrMessage, e.GetTerm(), e.GetIndex(), index, term, m.GetTerm())
		}
		if e.GetType() < raftpb.EntryNormal || e.GetType() > raftpb.EntryConfChangeV2 {
			return fmt.Errorf("%w: entry %d/%d of type %d", ErrMessage, e.GetTerm(), e.GetIndex(), e.GetType())
		}
		term = e.GetTerm()
	}
	return nil
}

// checkCommit fails a member whose leader counts on entries that it does not
// have: it has lost part of its log, and what it acked with it. A leader tells
// a commit index only up to what this member has acknowledged.
func (n *Node) checkCommit(m *raftpb.Message) error {
	if last := n.storage.terms.last; m.GetTerm() >= n.now.Term && m.GetCommit() > last {
		return n.fail(fmt.Errorf("member %x counts on entry %d, the log ends at %d: it was lost", m.GetFrom(), m.GetCommit(), last))
	}
	return nil
}
