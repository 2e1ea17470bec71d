package replicate

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Apply is the state machine's side of Advance. It is called once for every
// index after Config.Applied, in order and without a gap. The payload is empty
// for entries that are none of the state machine's: a new leader's first one,
// and changes of the members; the entry counts as applied all the same. The
// payload is shared with the Ring: it must not be changed, and may be kept.
type Apply func(term, index uint64, payload []byte) error

// Advance does all that raft has ready: sends messages, hands entries and hard
// states to the log, applies committed entries. It returns when nothing is left
// that does not wait for the log, for a peer or for a tick. The owner calls it
// after every other call, or after a few of them. An error of apply fails the
// Node.
//
// REQUIRES: apply does not call the Node.
func (n *Node) Advance(apply Apply) (err error) {
	if n.err != nil {
		return n.err
	}
	defer n.rescue(&err)
	for {
		for n.dirty {
			n.dirty = false
			if !n.raft.HasReady() {
				break
			}
			if err := n.handle(n.raft.Ready(), apply); err != nil {
				return n.fail(err)
			}
		}
		n.send()
		if n.started {
			return nil
		}
		n.started = true
		if len(n.storage.voters) == 1 && n.storage.voters[0] == n.config.ID {
			n.dirty = true
			if err := n.raft.Campaign(); err != nil {
				return n.fail(err)
			}
		}
	}
}

// Completed takes what Config.Notify was given: everything that waits for the
// writes up to this one is now stepped, or goes out with the next Advance.
func (n *Node) Completed(c Completion) {
	if n.err != nil {
		return
	}
	if c.Err != nil {
		_ = n.fail(c.Err)
		return
	}
	defer n.rescue(&n.err)
	for {
		responses, ok := n.writes.pop(c.sequence)
		if !ok {
			return
		}
		n.deliver(responses)
	}
}

func (n *Node) handle(ready raft.Ready, apply Apply) error {
	if s := ready.SoftState; s != nil {
		if role := roleOf(s.RaftState); role != n.role || s.Lead != n.leader {
			n.uncommitted = 0
			n.role, n.leader = role, s.Lead
		}
	}
	if s := ready.HardState; s != nil {
		n.now = HardState{Term: s.GetTerm(), Vote: s.GetVote(), Commit: s.GetCommit()}
	}
	// Messages to mirrors first: their disks work while ours does. raft puts
	// the local ones last.
	for _, m := range ready.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			n.send()
			n.write(m)
		case raft.LocalApplyThread:
			if err := n.apply(m, apply); err != nil {
				return err
			}
		default:
			n.outbox = append(n.outbox, m)
		}
	}
	return nil
}

// write hands a MsgStorageAppend to the log. One that changes nothing but the
// commit index costs no write: what waits for it waits for the writes before.
func (n *Node) write(m *raftpb.Message) {
	changed := n.now.Term != n.handed.Term || n.now.Vote != n.handed.Vote
	if len(m.GetEntries()) == 0 && !changed {
		if !n.writes.behind(m.GetResponses()) {
			n.deliver(m.GetResponses())
		}
		return
	}
	entries := make([]Entry, len(m.GetEntries()))
	for i, e := range m.GetEntries() {
		entries[i] = toLog(e)
		n.ring.put(e)
		n.storage.terms.append(entry.Position{Term: e.GetTerm(), Index: e.GetIndex()})
	}
	var state *HardState
	if n.handed != n.now {
		n.handed = n.now
		copied := n.now
		state = &copied
	}
	completion := Completion{Group: n.config.Group, sequence: n.writes.push(entries, m.GetResponses())}
	notify := n.config.Notify
	n.config.Log.Append(n.config.Group, entries, state, func(err error) {
		completion.Err = err
		notify(completion)
	})
}

func (n *Node) apply(m *raftpb.Message, apply Apply) error {
	for _, e := range m.GetEntries() {
		payload := e.GetData()
		if e.GetType() != raftpb.EntryNormal {
			if err := n.changeMembers(e); err != nil {
				return err
			}
			payload = nil
		}
		if err := apply(e.GetTerm(), e.GetIndex(), payload); err != nil {
			return fmt.Errorf("apply entry %d/%d: %w", e.GetTerm(), e.GetIndex(), err)
		}
		n.applied = entry.Position{Term: e.GetTerm(), Index: e.GetIndex()}
		n.uncommitted -= min(n.uncommitted, uint64(len(payload)))
	}
	n.deliver(m.GetResponses())
	return nil
}

// changeMembers applies a committed configuration change. raft panics on one
// that cannot be, such as the removal of the last voter.
func (n *Node) changeMembers(e *raftpb.Entry) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("entry %d/%d: %v", e.GetTerm(), e.GetIndex(), reason)
		}
	}()
	var change raftpb.ConfChangeI
	switch e.GetType() {
	case raftpb.EntryConfChange:
		v1 := new(raftpb.ConfChange)
		change, err = v1, proto.Unmarshal(e.GetData(), v1)
	case raftpb.EntryConfChangeV2:
		v2 := new(raftpb.ConfChangeV2)
		change, err = v2, proto.Unmarshal(e.GetData(), v2)
	default:
		err = fmt.Errorf("unknown kind %d", e.GetType())
	}
	if err != nil {
		return fmt.Errorf("entry %d/%d: %w", e.GetTerm(), e.GetIndex(), err)
	}
	n.storage.voters = n.raft.ApplyConfChange(change).GetVoters()
	n.dirty = true
	return nil
}

// deliver passes on messages whose write is durable.
func (n *Node) deliver(messages []*raftpb.Message) {
	for _, m := range messages {
		if m.GetTo() != n.config.ID {
			n.outbox = append(n.outbox, m)
			continue
		}
		// raft refuses an answer of a member that was removed: this one, then.
		_ = n.raft.Step(m)
		n.dirty = true
	}
}

func (n *Node) send() {
	if len(n.outbox) == 0 {
		return
	}
	n.config.Transport.Send(n.outbox)
	clear(n.outbox)
	n.outbox = n.outbox[:0]
}
