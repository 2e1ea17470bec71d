package broker

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// nearlyAll is how many entries a learner may lack when it is to vote.
	nearlyAll = 128
	// changePatience is how long a proposed change of the members may take
	// before it is proposed again: raft may have dropped it.
	changePatience = time.Second
	// lostSuffix marks the earlier life of this broker: it still votes as far as
	// raft knows, and never will.
	lostSuffix = " (lost)"
)

// memberChange is a change of a group's members that was proposed.
type memberChange struct {
	at     time.Time
	before replicate.Members
}

// tendMembers follows what raft knows of the members, and proposes what is to
// change, one step at a time. Called at each tick.
func (e *election) tendMembers(now time.Time) {
	m := e.node.Members()
	if voters := e.voterNames(m); !slices.Equal(voters, e.voters) {
		e.voters = voters
		if err := e.elector.SetVoters(now, voters); err != nil {
			e.cluster.logger.Error("members", "group", e.group, "voters", voters, "err", err)
		}
		for _, name := range e.cluster.broker.living() {
			if name != e.cluster.broker.config.Name {
				e.elector.PeerUp(now, name) // It takes one that comes to be a voter for dead.
			}
		}
	}
	if e.group == entry.Topology {
		e.cluster.admit(m)
	}
	if e.node.Status().Role != replicate.Leader {
		return
	}
	if now.Sub(e.change.at) < changePatience && m.Equal(e.change.before) {
		return
	}
	kind, id, any := e.nextChange(now, m)
	if !any {
		return
	}
	e.change = memberChange{now, m}
	err := e.node.ProposeConfChange(&raftpb.ConfChange{Type: kind.Enum(), NodeId: &id})
	e.cluster.logger.Info("a group's members change", "group", e.group, "change", kind.String(), "id", id,
		"broker", e.cluster.broker.members.name(id), "err", err)
}

// nextChange is what is to be done next: where a newcomer takes a broker's place,
// what that broker was before goes first, so that its vote is not waited for;
// the newcomer learns, and then votes.
func (e *election) nextChange(now time.Time, m replicate.Members) (kind raftpb.ConfChangeType, id uint64, any bool) {
	e.cluster.replaced(now, func(name string, by uint64) {
		if any || m.Has(by) || !e.cluster.broker.members.has(name, e.group) {
			return
		}
		kind, id, any = raftpb.ConfChangeAddLearnerNode, by, true
		for _, old := range slices.Concat(m.Voters, m.Learners) {
			if e.cluster.broker.members.name(old) == name {
				kind, id = raftpb.ConfChangeRemoveNode, old
				return
			}
		}
	})
	if any || len(m.Learners) == 0 {
		return kind, id, any
	}
	last := e.node.Status().Last.Index
	e.mirrors = e.node.Mirrors(e.mirrors[:0])
	for _, l := range e.mirrors {
		if l.Learner && l.Heard && !l.Behind && l.Match+nearlyAll >= last {
			return raftpb.ConfChangeAddNode, l.ID, true
		}
	}
	return 0, 0, false
}

// voterNames are the voters, the preferred leader first.
func (e *election) voterNames(m replicate.Members) []string {
	members := e.cluster.broker.members
	var names []string
	for _, name := range members.of(e.group) {
		for _, id := range m.Voters {
			if members.name(id) != name || slices.Contains(names, name) {
				continue
			}
			if name == members.self && id != members.id {
				name += lostSuffix
			}
			names = append(names, name)
		}
	}
	return names
}

// voterID is the raft id of a voter, 0 for none.
func (e *election) voterID(name string) uint64 {
	for _, id := range e.node.Members().Voters {
		if e.cluster.broker.members.name(id) == name {
			return id
		}
	}
	return 0
}

// unreachable tells raft that what was sent to a broker may be lost. It may be
// called from any goroutine.
func (e *election) unreachable(name string) {
	e.loop.call(func() {
		m := e.node.Members()
		for _, id := range slices.Concat(m.Voters, m.Learners) {
			if e.cluster.broker.members.name(id) == name {
				e.node.ReportUnreachable(id)
			}
		}
	})
}
