package replicate

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Apply is the state machine's side of Advance. It is called once for every
// index after Config.Applied, in order and without a gap. The payload is empty
// for entries that are none of the state machine's: a new leader's first one,
// and changes of the members; the entry counts as applied all the same. The
// payload is shared with the Ring: it must not be changed, and may be kept.
type Apply func(term, index uint64, payload []byte) error

// Advance does all that raft has ready: sends messages, hands entries and hard
// states to the log, applies committed entries. The owner calls it after every
// other call, or after a few of them. It reports more when it has applied
// Config.MaxApply bytes and there is more to do at once, so that the owner can
// look after its ticks and messages in between; else nothing is left that does
// not wait for the log, for a peer or for a tick. An error of apply fails the
// Node.
//
// REQUIRES: apply does not call the Node.
func (n *Node) Advance(apply Apply) (more bool, err error) {
	if n.err != nil {
		return false, n.err
	}
	defer n.rescue(&err)
	n.spent = 0
	for {
		for n.dirty || len(n.readies) > 0 {
			// A change of the members that ends by itself must not stay in raft:
			// Propose counts what raft has appended.
			if n.spent >= n.config.MaxApply && !n.storage.members.AutoLeave && n.raft.HasReady() {
				n.send()
				return true, nil
			}
			ready, ok := n.ready()
			if !ok {
				break
			}
			if err := n.handle(ready, apply); err != nil {
				return false, n.fail(err)
			}
		}
		n.send()
		if n.started {
			return false, nil
		}
		n.started = true
		if n.storage.members.sole(n.config.ID) {
			n.dirty = true
			if err := n.raft.Campaign(); err != nil {
				return false, n.fail(err)
			}
		}
	}
}

// ready takes what raft has Ready.
func (n *Node) ready() (raft.Ready, bool) {
	if len(n.readies) > 0 {
		ready := n.readies[0]
		n.readies = nil // There is but one: Install takes no second.
		return ready, true
	}
	n.dirty = false
	if !n.raft.HasReady() {
		return raft.Ready{}, false
	}
	return n.raft.Ready(), true
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
			n.uncommitted, n.proposed = 0, 0
			n.role, n.leader = role, s.Lead
			n.transferred = false
			clear(n.sending)
			n.storage.feeds = nil
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
			if err := n.write(m); err != nil {
				return err
			}
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

// handover is what one write gives to the log.
type handover struct {
	number  uint64
	entries []Entry
	state   *HardState
}

// write hands a MsgStorageAppend to the log. One that changes nothing but the
// commit index costs no write: what waits for it waits for the writes before.
func (n *Node) write(m *raftpb.Message) error {
	if s := m.GetSnapshot(); !raft.IsEmptySnap(s) {
		n.adopt(s)
	}
	now := n.state()
	changed := now.Term != n.handed.Term || now.Vote != n.handed.Vote
	if len(m.GetEntries()) == 0 && !changed {
		if !n.writes.behind(m.GetResponses()) {
			n.deliver(m.GetResponses())
		}
		return nil
	}
	expected := n.storage.terms.last + n.proposed
	entries := make([]Entry, len(m.GetEntries()))
	for i, e := range m.GetEntries() {
		entries[i] = toLog(e)
		n.ring.put(e)
		n.sizes.append(e.GetIndex(), len(e.GetData()))
		n.storage.terms.append(entry.Position{Term: e.GetTerm(), Index: e.GetIndex()})
	}
	if last := n.storage.terms.last; n.proposed > 0 && last != expected {
		return fmt.Errorf("raft appended up to %d, where %d was promised", last, expected)
	}
	n.proposed = 0
	var state *HardState
	if n.handed != now {
		state = n.hand(now)
	}
	n.append(handover{number: n.writes.push(entries, m.GetResponses()), entries: entries, state: state})
	return nil
}

// append gives a write to the log, or lets it wait for a checkpoint.
func (n *Node) append(w handover) {
	if n.installing != 0 {
		n.waiting = append(n.waiting, w)
		return
	}
	completion := Completion{Group: n.config.Group, sequence: w.number}
	notify := n.config.Notify
	n.config.Log.Append(n.config.Group, w.entries, w.state, func(err error) {
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
		n.spent += uint64(len(payload)) + entryOverhead
	}
	n.deliver(m.GetResponses())
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
	// An answer to a checkpoint that came without a leader goes to nobody.
	n.outbox = slices.DeleteFunc(n.outbox, func(m *raftpb.Message) bool { return m.GetTo() == raft.None })
	if len(n.outbox) == 0 {
		return
	}
	n.config.Transport.Send(n.outbox)
	clear(n.outbox)
	n.outbox = n.outbox[:0]
}
