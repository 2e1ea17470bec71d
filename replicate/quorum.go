package replicate

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Quorum is how many copies must be on disk before an entry is confirmed: a
// number of members, or one of the names.
type Quorum int

const (
	// QuorumMajority: committed. Survives the loss of any minority.
	QuorumMajority Quorum = 0
	// QuorumLeader: on the leader's disk, while it hears from a majority.
	// Survives restarts; the loss of the leader's disk may lose it.
	QuorumLeader Quorum = 1
	// QuorumAll: committed, and on every voter's disk. Waits for a lost mirror
	// until it is back or removed.
	QuorumAll Quorum = -1
)

// Confirmed is the index up to which entries are confirmed under a quorum, by
// what this leader knows; 0 when it does not lead. The owner asks after each
// Advance. O(members).
//
//	QuorumLeader             on this disk, and HeardFromMajority
//	1 < n < majority         on n voters' disks, with an entry of this term
//	QuorumMajority, n = it   committed: never by the disks alone, since an
//	                         earlier term's entry is safe on a majority only
//	                         once one of this term is (Raft, section 5.4.2)
//	n > majority, QuorumAll  committed, and on n voters' disks, or on all
//
// A number above the count of voters is never confirmed. A number below the
// majority keeps its promise, to survive n−1 losses, only if whoever promotes
// a mirror has heard from N−n+1 of N of them that Fence older leaders: see
// HoldElections. It takes an entry of this term for the same reason as a
// commit does: until then a position of a term in between beats those n. After
// TransferLeader, such numbers wait for the commit as long as this leadership
// lasts: the new leader's campaign, which asks for no positions, may be on its
// way even when the transfer seems to have failed. So do they in a leadership
// that this member won below its own fence: its promise holds for itself too.
func (n *Node) Confirmed(q Quorum) uint64 {
	if n.err != nil || n.role != Leader {
		return 0
	}
	voters := len(n.storage.members.Voters)
	count := int(q)
	if q == QuorumAll {
		count = voters
	}
	majority := voters/2 + 1
	switch {
	case q == QuorumMajority || count == majority:
		return n.now.Commit
	case count < majority && (n.transferred || n.now.Term < n.fence || q == QuorumLeader && !n.HeardFromMajority()):
		return n.now.Commit
	case count < majority:
		match := n.durable()
		if q != QuorumLeader {
			match = n.Match(count)
		}
		if floor := n.storage.terms.floor().Index; match < floor || n.storage.terms.at(match) != n.now.Term {
			match = 0
		}
		return max(match, n.now.Commit)
	default:
		return min(n.Match(count), n.now.Commit)
	}
}

// Match is the highest index that is on the disks of at least count voters, as
// this leader knows; 0 when it does not lead or there are not so many voters.
func (n *Node) Match(count int) uint64 {
	if n.err != nil || n.role != Leader || count < 1 {
		return 0
	}
	n.matches = n.matches[:0]
	n.raft.WithProgress(n.collect)
	if count > len(n.matches) {
		return 0
	}
	slices.Sort(n.matches)
	return n.matches[len(n.matches)-count]
}

// collectMatch gathers voters' matches. raft counts what a new leader holds as
// matched before it is on its disk, when others' votes overtook its fsync; here
// only the disk counts.
func (n *Node) collectMatch(id uint64, kind raft.ProgressType, p tracker.Progress) {
	if kind != raft.ProgressTypePeer {
		return
	}
	if id == n.config.ID {
		p.Match = n.durable()
	}
	n.matches = append(n.matches, p.Match)
}

// durable is the index up to which this member's own log, as it is now, is on
// its disk.
func (n *Node) durable() uint64 {
	if first := n.writes.first(); first != 0 {
		return first - 1
	}
	return n.storage.terms.last
}

// contact is when a member was last heard of, in ticks, and in which term.
type contact struct{ tick, term uint64 }

// heard notes that a member has answered this one in a term: it knew of no
// later leader when it did.
func (n *Node) heard(m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp, raftpb.MsgVoteResp:
		if n.storage.members.Has(m.GetFrom()) {
			n.contacts[m.GetFrom()] = contact{n.ticks, m.GetTerm()}
		}
	}
}

// hears reports whether a member has answered in this term within an election
// timeout.
func (n *Node) hears(id uint64) bool {
	c := n.contacts[id]
	return id == n.config.ID || c.term == n.now.Term && n.ticks-c.tick < electionTick
}

// HeardFromMajority reports whether a majority of the voters, this one
// included, has answered it in its term within an election timeout. Unlike
// raft's own flags, which a leader clears once per timeout, it does not dip
// while answers keep coming.
func (n *Node) HeardFromMajority() bool {
	return n.hearsMost(n.storage.members.Voters) && n.hearsMost(n.storage.members.VotersOutgoing)
}

func (n *Node) hearsMost(voters []uint64) bool {
	count := 0
	for _, id := range voters {
		if n.hears(id) {
			count++
		}
	}
	return len(voters) == 0 || count > len(voters)/2
}

// Mirror is what a leader knows of another member.
type Mirror struct {
	ID      uint64
	Learner bool
	// Match is the index up to which its disk holds the leader's log; Next is
	// the next entry to be sent to it.
	Match, Next uint64
	// Heard says that it answered within an election timeout.
	Heard bool
	// Behind says that it needs entries that the log no longer keeps: it waits
	// for a checkpoint.
	Behind bool
}

// Mirrors appends what this leader knows of each other member to dst, by
// ascending id; nothing when it does not lead. For status and balance.
func (n *Node) Mirrors(dst []Mirror) []Mirror {
	if n.err != nil || n.role != Leader {
		return dst
	}
	n.raft.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		if id == n.config.ID {
			return
		}
		dst = append(dst, Mirror{
			ID: id, Learner: kind == raft.ProgressTypeLearner, Match: p.Match, Next: p.Next,
			Heard: n.hears(id), Behind: p.Next <= n.storage.terms.floor().Index,
		})
	})
	return dst
}
