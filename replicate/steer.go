package replicate

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// What elect does to a member: raft's rules are untouched by all of it, but for
// when an election begins and whom a member still listens to.

// Campaign starts an election for the next term, unless this member leads
// already or cannot. It may be repeated until a leader is known.
func (n *Node) Campaign() (err error) {
	if n.err != nil {
		return n.err
	}
	defer n.rescue(&err)
	n.dirty = true
	return n.raft.Campaign()
}

// Raise moves this member to a later term, without a leader and without a vote,
// as hearing of that term from another member would; a leader steps down. A
// member of a term further below a fence than the one before it raises its term
// before it campaigns: else it would win a term whose entries the others refuse.
func (n *Node) Raise(term uint64) (err error) {
	if n.err != nil {
		return n.err
	}
	if term > beyond || n.raft.BasicStatus().HardState.GetTerm() >= term {
		return nil
	}
	for _, id := range n.storage.members.Voters {
		if id != n.config.ID {
			defer n.rescue(&err)
			n.dirty = true
			return n.raft.Step(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: &id, To: &n.config.ID, Term: &term})
		}
	}
	return nil
}

// ForgetLeader makes a follower vote for whoever campaigns next, without
// waiting for the election timeout. A leader stays what it is.
func (n *Node) ForgetLeader() (err error) {
	if n.err != nil {
		return n.err
	}
	defer n.rescue(&err)
	n.dirty = true
	return n.raft.ForgetLeader()
}

// TransferLeader hands leadership over to a voter as soon as it has all
// entries. Propose returns ErrNotLeader from here on: until the new leader is
// known, or for an election timeout if it does not take over.
//
// Errors: ErrNotLeader, ErrFailed.
func (n *Node) TransferLeader(to uint64) (err error) {
	if n.err != nil {
		return n.err
	}
	// raft would pass it on to its leader, and so from member to member.
	if n.role != Leader || n.raft.BasicStatus().RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	defer n.rescue(&err)
	n.dirty = true
	n.transferred = true
	n.raft.TransferLeader(to)
	return nil
}

// ReportUnreachable tells that what was sent to a member may be lost: the
// leader sends it again from what that member has confirmed.
func (n *Node) ReportUnreachable(id uint64) {
	if n.err != nil {
		return
	}
	defer n.rescue(&n.err)
	n.raft.ReportUnreachable(id)
	n.dirty = true
}

// Fence makes this member refuse, from now on, what leaders of terms before term
// send; it never lowers an earlier fence. Once Fenced tells the term, the last
// entry that Status tells is a promise: nothing that an earlier leader sends
// comes after it, not even after a restart. For that the log is given the term
// of the fence as this member's own, without a vote: a member that starts with
// it takes no part in the terms before, which is all that it owes them. Costs an
// fsync. REQUIRES: Advance was called since the last Step.
func (n *Node) Fence(term uint64) {
	if n.err != nil || term <= n.fence || term > beyond {
		return
	}
	n.fence = term
	if state := n.state(); state.Term != n.handed.Term || state.Vote != n.handed.Vote {
		n.append(handover{number: n.writes.push(nil, nil), state: n.hand(state)})
	}
	n.fenceWrite = n.writes.next
}

// Fenced is the term below which leaders are refused, durably; 0 for none.
func (n *Node) Fenced() uint64 {
	if n.writes.oldest() > n.fenceWrite {
		n.fenceKept = n.fence
	}
	return n.fenceKept
}

// state is the hard state that the log is to have. Where a fence is above
// raft's term, it stands for whatever was voted in the terms below it.
func (n *Node) state() HardState {
	if n.now.Term >= n.fence {
		return n.now
	}
	return HardState{Term: n.fence, Commit: n.now.Commit}
}

// hand notes that the log was given a hard state.
func (n *Node) hand(state HardState) *HardState {
	n.handed = state
	return &state
}

// fenced reports whether m comes from a leader that is fenced off. What is of a
// term before raft's own is left to raft: its answer makes such a leader step
// down.
func (n *Node) fenced(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgTimeoutNow:
		return m.GetTerm() < n.fence && m.GetTerm() >= n.now.Term
	}
	return false
}

// HoldElections says whether ticks may start an election here. They should not
// in a group with an ack quorum 1 < n < majority: an election must then wait
// for the positions of N−n+1 members, which raft knows nothing of. Whoever
// holds calls Campaign, and ForgetLeader at all that are to vote.
func (n *Node) HoldElections(hold bool) { n.held = hold }

// Tick advances raft's clock by one tick: 50 ms.
func (n *Node) Tick() {
	if n.err != nil {
		return
	}
	defer n.rescue(&n.err)
	n.ticks++
	n.storage.tick(n.ticks)
	if n.held && n.role != Leader {
		return
	}
	n.raft.Tick()
	n.dirty = true
}

// Paused tells that this process stood still for longer than an election
// timeout, so that another leader may have been elected of whom nothing was
// heard yet. A leader that is not the only voter steps down. The owner calls
// it before it handles anything that waited meanwhile: old answers would look
// like fresh ones.
func (n *Node) Paused() {
	if n.err != nil || n.role != Leader {
		return
	}
	defer n.rescue(&n.err)
	// Twice an election timeout without an answer: CheckQuorum's own way.
	for range 2 * electionTick {
		if n.raft.BasicStatus().RaftState != raft.StateLeader {
			break
		}
		n.ticks++
		n.raft.Tick()
	}
	n.dirty = true
}
