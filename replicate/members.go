package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Members is a group's configuration: the raft ids of who votes and who only
// copies. It belongs to the state at a position as much as the state machine
// does: the owner keeps it with each checkpoint.
type Members struct {
	// Voters elect and commit; Learners copy.
	Voters, Learners []uint64
	// VotersOutgoing and LearnersNext are empty but in the midst of a change
	// that needs both the old and the new voters (Raft thesis, section 4.3).
	VotersOutgoing, LearnersNext []uint64
	// AutoLeave says that raft ends such a change by itself.
	AutoLeave bool
}

// ErrMembers is returned for bytes that are not encoded Members, and by Install
// for ones that this member is not among.
var ErrMembers = errors.New("replicate: bad members")

// Empty reports whether nobody is in.
func (m Members) Empty() bool { return len(m.Voters)+len(m.Learners) == 0 }

// Has reports whether id votes or copies.
func (m Members) Has(id uint64) bool {
	return slices.Contains(m.Voters, id) || slices.Contains(m.Learners, id) || slices.Contains(m.VotersOutgoing, id)
}

// sole reports whether id is the only one.
func (m Members) sole(id uint64) bool {
	return len(m.Voters) == 1 && m.Voters[0] == id && len(m.Learners)+len(m.VotersOutgoing) == 0
}

// Equal reports whether m and other are the same members in the same roles.
func (m Members) Equal(other Members) bool {
	return m.AutoLeave == other.AutoLeave &&
		slices.Equal(m.Voters, other.Voters) && slices.Equal(m.Learners, other.Learners) &&
		slices.Equal(m.VotersOutgoing, other.VotersOutgoing) && slices.Equal(m.LearnersNext, other.LearnersNext)
}

// AppendMembers appends the encoding of m to dst:
//
//	auto-leave 1 | 4 × ( count uvarint | ids, 8 bytes each, little-endian )
//
// the lists in the order voters, learners, outgoing voters, next learners.
func AppendMembers(dst []byte, m Members) []byte {
	var leave byte
	if m.AutoLeave {
		leave = 1
	}
	dst = append(dst, leave)
	for _, ids := range [...][]uint64{m.Voters, m.Learners, m.VotersOutgoing, m.LearnersNext} {
		dst = binary.AppendUvarint(dst, uint64(len(ids)))
		for _, id := range ids {
			dst = binary.LittleEndian.AppendUint64(dst, id)
		}
	}
	return dst
}

// ParseMembers decodes what AppendMembers made and returns what follows it.
func ParseMembers(b []byte) (m Members, rest []byte, err error) {
	if len(b) == 0 || b[0] > 1 {
		return Members{}, nil, ErrMembers
	}
	m.AutoLeave, b = b[0] == 1, b[1:]
	for _, ids := range [...]*[]uint64{&m.Voters, &m.Learners, &m.VotersOutgoing, &m.LearnersNext} {
		count, n := binary.Uvarint(b)
		if n <= 0 || count > uint64(len(b)-n)/8 {
			return Members{}, nil, fmt.Errorf("%w: a list is cut off", ErrMembers)
		}
		b = b[n:]
		for range count {
			*ids = append(*ids, binary.LittleEndian.Uint64(b))
			b = b[8:]
		}
	}
	return m, b, nil
}

// clone makes an independent copy: raft and the owner change theirs.
func (m Members) clone() Members {
	m.Voters, m.Learners = slices.Clone(m.Voters), slices.Clone(m.Learners)
	m.VotersOutgoing, m.LearnersNext = slices.Clone(m.VotersOutgoing), slices.Clone(m.LearnersNext)
	return m
}

func (m Members) state() *raftpb.ConfState {
	m = m.clone()
	return &raftpb.ConfState{
		Voters: m.Voters, Learners: m.Learners,
		VotersOutgoing: m.VotersOutgoing, LearnersNext: m.LearnersNext, AutoLeave: &m.AutoLeave,
	}
}

func membersOf(state *raftpb.ConfState) Members {
	return Members{
		Voters: state.GetVoters(), Learners: state.GetLearners(),
		VotersOutgoing: state.GetVotersOutgoing(), LearnersNext: state.GetLearnersNext(), AutoLeave: state.GetAutoLeave(),
	}
}

// Members is the group's configuration as of the last entry that was applied.
func (n *Node) Members() Members { return n.storage.members.clone() }

// ProposeConfChange proposes to change the group's members. raft drops one that
// comes while another is not applied yet: an empty entry takes its place.
//
// Errors: ErrNotLeader, ErrBusy, ErrFailed.
func (n *Node) ProposeConfChange(change raftpb.ConfChangeI) (err error) {
	if n.err != nil {
		return n.err
	}
	if n.role != Leader {
		return ErrNotLeader
	}
	defer n.rescue(&err)
	n.dirty = true
	if err := n.raft.ProposeConfChange(change); err != nil {
		return n.refusal(err)
	}
	n.proposed++
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
	n.storage.members = membersOf(n.raft.ApplyConfChange(change))
	n.dirty = true
	return nil
}
