package replicate

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// How a mirror that fell behind the kept log gets a checkpoint. raft has a
// message and a progress state for it (MsgSnap, StateSnapshot); neither is
// used. What has to travel is gigabytes, and the owners carry it; raft's leader
// would only wait, for a report that could be forgotten. Instead its Storage
// never has a snapshot, and so the leader goes on probing the mirror; and the
// mirror's raft is told of the checkpoint by the mirror's own owner, once all
// of it is there. The answer that raft gives then is what makes the leader go
// on behind the checkpoint, whichever leader that is by now.
//
//	leader's owner                         mirror's owner
//	Behind → mirror
//	Sending(mirror, at)       offer at ──▶ Offer(at): false, and raft answers
//	                                       where it is; or true:
//	      state, members, bodies above ◀── log.HardState's commit
//	                  … bytes … ─────────▶ stages them
//	                                       Install(at, members): true
//	                                       swaps the state machine, replaces
//	                                       the log by the checkpoint (fsync)
//	                                       Installed(nil)
//	                     MsgAppResp(at) ◀─ raft
//	Sent(mirror)              done ◀──────

// Behind appends to dst the mirrors, learners among them, that are heard and
// need entries that the log no longer keeps, but for those that something is
// being sent to. Empty when this member does not lead.
func (n *Node) Behind(dst []uint64) []uint64 {
	if n.err != nil || n.role != Leader {
		return dst
	}
	floor := n.storage.terms.floor().Index
	n.raft.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if _, sending := n.sending[id]; !sending && id != n.config.ID && p.Next <= floor && n.hears(id) {
			dst = append(dst, id)
		}
	})
	return dst
}

// Sending tells that a checkpoint at a position is on its way to a mirror:
// KeepFrom does not pass the position, and Behind does not name the mirror,
// until Sent or until this member leads no more.
func (n *Node) Sending(to uint64, at entry.Position) {
	if n.role == Leader {
		n.sending[to] = at.Index
	}
}

// Sent tells that what Sending announced has ended, well or not. A mirror that
// still needs a checkpoint is named by Behind again.
func (n *Node) Sent(to uint64) { delete(n.sending, to) }

// Offer reports whether a checkpoint at a position that the group has
// committed would bring this member further. If not, raft answers the leader
// with where it is: the leader did not know.
func (n *Node) Offer(at entry.Position) (needed bool, err error) {
	if n.err != nil {
		return false, n.err
	}
	if n.installing != 0 || n.role == Leader {
		return false, nil
	}
	floor, last := n.storage.terms.floor().Index, n.storage.terms.last
	has := at.Index <= n.now.Commit || at.Index >= floor && at.Index <= last && n.storage.terms.at(at.Index) == at.Term
	if !has {
		return true, nil
	}
	defer n.rescue(&err)
	n.snapshot(at, n.storage.members)
	return false, nil
}

// Install makes raft adopt a checkpoint at a position that the group has
// committed, whose state, members and live bodies the owner has at hand. When
// it reports true, then from here on the state machine is the checkpoint's
// (the next entry applied is at.Index+1), and the owner now has the log replace
// the group's entries by the checkpoint, and calls Installed when that is
// durable; the Node hands the log nothing meanwhile. When it reports false,
// nothing is to be done: the entries up to the position are here already, and
// the leader is told so.
//
// Errors: ErrInstalling while another is being installed, or when an Advance is due;
// ErrMembers when this member is not among them; ErrFailed.
func (n *Node) Install(at entry.Position, members Members) (adopted bool, err error) {
	switch {
	case n.err != nil:
		return false, n.err
	case n.installing != 0 || len(n.readies) > 0:
		return false, ErrInstalling
	case !members.Has(n.config.ID):
		return false, fmt.Errorf("%w: %x is not among %+v", ErrMembers, n.config.ID, members)
	}
	defer n.rescue(&err)
	n.snapshot(at, members)
	if !n.raft.HasReady() {
		return false, nil
	}
	// Whether raft adopted it is seen in what it has Ready. If it did, nothing
	// in there is to be applied; else it may wait for Advance.
	ready := n.raft.Ready()
	if raft.IsEmptySnap(ready.Snapshot) {
		n.readies = append(n.readies, ready)
		return false, nil
	}
	if err := n.handle(ready, nil); err != nil {
		return false, n.fail(err)
	}
	return true, nil
}

// snapshot gives raft the metadata of a checkpoint, as from the present leader.
// Without one it comes from nobody, and the answer goes nowhere.
func (n *Node) snapshot(at entry.Position, members Members) {
	status := n.raft.BasicStatus()
	term, from := status.HardState.GetTerm(), status.Lead
	if at.Term > term {
		term, from = at.Term, raft.None
	}
	n.dirty = true
	_ = n.raft.Step(&raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: &n.config.ID, From: &from, Term: &term,
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: &at.Index, Term: &at.Term, ConfState: members.state(),
		}},
	})
}

// adopt follows raft to a checkpoint. It is a write like others, which the
// owner makes; those that come after it wait for it.
func (n *Node) adopt(s *raftpb.Snapshot) {
	m := s.GetMetadata()
	at := entry.Position{Term: m.GetTerm(), Index: m.GetIndex()}
	n.storage.terms = terms{runs: []entry.Position{at}, last: at.Index}
	n.storage.members = membersOf(m.GetConfState())
	n.ring.truncate(n.ring.first)
	n.sizes = sizes{}
	n.applied = at
	n.installing = n.writes.push(nil, nil)
}

// Installed tells that the log has durably taken the checkpoint of Install, or
// has failed to.
func (n *Node) Installed(err error) {
	if n.err != nil || n.installing == 0 {
		return
	}
	if err != nil {
		_ = n.fail(fmt.Errorf("install a checkpoint: %w", err))
		return
	}
	n.writes.done(n.installing)
	n.installing = 0
	for _, w := range n.waiting {
		n.append(w)
	}
	n.waiting = nil
	n.Completed(Completion{})
}
