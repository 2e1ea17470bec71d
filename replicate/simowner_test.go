package replicate

import (
	"errors"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// plan is how the owners of a simulated group behave.
type plan struct {
	// quorums are those that proposals ask for.
	quorums []Quorum
	// held: elections are held, and begin only in rounds.
	held bool
	// needed is how many positions a round waits for; a majority at least.
	needed int
	// impatient: rounds campaign with a majority, whatever is needed.
	impatient bool
}

// confirmed is an entry that its leader confirmed, or is still to confirm.
type confirmed struct {
	Entry
	quorum Quorum
}

func (s *simulation) proposed(m *simMember, e Entry) {
	if m.term != e.Term {
		m.term, m.pending = e.Term, nil
	}
	q := s.plan.quorums[s.random.IntN(len(s.plan.quorums))]
	m.pending = append(m.pending, confirmed{e, q})
}

// confirm does what an owner does after Advance, and holds it against the disks.
func (s *simulation) confirm(m *simMember) {
	status := m.node.Status()
	if status.Role != Leader || status.Term != m.term {
		m.pending = nil
		return
	}
	m.pending = slices.DeleteFunc(m.pending, func(c confirmed) bool {
		if m.node.Confirmed(c.quorum) < c.Index {
			return false
		}
		s.tell("confirm %d %d/%d %d", m.config.ID, c.Term, c.Index, c.quorum)
		copies := 0
		for _, other := range s.members {
			if term, err := other.log.Term(0, c.Index); c.Index <= other.log.floor.Index || err == nil && term == c.Term {
				copies++
			}
		}
		if want := s.copies(c.quorum); copies < want {
			s.fatalf("member %d confirms %d/%d under %d, which %d disks hold", m.config.ID, c.Term, c.Index, c.quorum, copies)
		}
		s.confirmed = append(s.confirmed, c)
		return true
	})
}

func (s *simulation) copies(q Quorum) int {
	switch q {
	case QuorumAll:
		return len(s.members)
	case QuorumMajority:
		return len(s.members)/2 + 1
	default:
		return int(q)
	}
}

// lost are the confirmed entries that are not in the history that all agree on.
func (s *simulation) lost() (lost []confirmed) {
	for _, c := range s.confirmed {
		if c.Index > uint64(len(s.committed)) {
			lost = append(lost, c)
		} else if e := s.committed[c.Index-1]; e.Term != c.Term || string(e.Payload) != string(c.Payload) {
			lost = append(lost, c)
		}
	}
	return lost
}

// checkConfirmed expects of every confirmed entry that its promise held: those
// below a majority only promise something when rounds are kept.
func (s *simulation) checkConfirmed() {
	for _, c := range s.lost() {
		if s.copies(c.quorum) > len(s.members)/2 || s.strict() && c.quorum != QuorumLeader {
			s.fatalf("entry %d/%d, confirmed under %d, is lost", c.Term, c.Index, c.quorum)
		}
	}
}

func (s *simulation) strict() bool { return s.plan.held && !s.plan.impatient }

// checkpoint raises a member's floor: as far as KeepFrom wishes, or all the way.
func (s *simulation) checkpoint(m *simMember) {
	if !m.up || m.node.Err() != nil {
		return
	}
	to := uint64(len(m.applied))
	if s.random.IntN(4) > 0 {
		to = min(to, m.node.KeepFrom())
	}
	if n := len(m.log.waiting); to <= m.log.floor.Index || to > m.log.last().Index || n > 0 && m.log.waiting[n-1].replace != nil {
		return
	}
	m.checkpoint(to)
	if s.random.IntN(2) == 0 { // else it finds out
		m.node.Checkpointed(m.log.floor)
	}
}

// stream is a checkpoint on its way.
type stream struct {
	from, to *simMember
	checkpoint
}

// offer begins to send a leader's newest checkpoint to all that need it.
func (s *simulation) offer(m *simMember) {
	if !m.up || m.node.Err() != nil {
		return
	}
	for _, id := range m.node.Behind(nil) {
		m.node.Sending(id, m.log.floor)
		s.streams = append(s.streams, stream{m, s.members[id-1], m.log.newest()})
	}
}

// stream ends one of the streams, well or not.
func (s *simulation) stream() {
	if len(s.streams) == 0 {
		return
	}
	i := s.random.IntN(len(s.streams))
	c := s.streams[i]
	s.streams = slices.Delete(s.streams, i, i+1)
	defer func() {
		if c.from.up {
			c.from.node.Sent(c.to.config.ID)
		}
	}()
	if !c.to.up || c.to.node.Err() != nil || s.cut[[2]uint64{c.from.config.ID, c.to.config.ID}] || !s.calm && s.random.IntN(5) == 0 {
		return
	}
	adopted, err := c.to.install(c.checkpoint)
	if err != nil && !errors.Is(err, ErrInstalling) {
		s.fatalf("member %d: %v", c.to.config.ID, err)
	}
	if adopted {
		s.tell("install %d %v", c.to.config.ID, c.at)
		s.installs++
	}
}

// reaches reports whether messages pass both ways.
func (s *simulation) reaches(a, b *simMember) bool {
	return a == b || !s.cut[[2]uint64{a.config.ID, b.config.ID}] && !s.cut[[2]uint64{b.config.ID, a.config.ID}]
}

// round is what elect does, in one step: those that m reaches and that miss
// their leader fence it off, and the best of them campaigns.
func (s *simulation) round(m *simMember) {
	if !m.up || m.node.Err() != nil || m.node.Status().Role == Leader {
		return
	}
	if leader := m.node.Status().Leader; leader != 0 {
		l := s.members[leader-1]
		deaf := !s.calm && s.random.IntN(4) == 0
		if l.up && l.node.Status().Role == Leader && s.reaches(l, m) && !deaf {
			return
		}
	}
	var part []*simMember
	number := uint64(0)
	for _, other := range s.members {
		if !other.up || other.node.Err() != nil || !s.reaches(m, other) || other.node.Status().Role == Leader {
			continue
		}
		part = append(part, other)
		number = max(number, other.node.Status().Term+1, other.node.Fenced())
	}
	majority := len(s.members)/2 + 1
	if len(part) < majority || len(part) < s.plan.needed && !s.plan.impatient {
		return
	}
	s.rounds++
	best := part[0]
	for _, other := range part {
		if err := other.node.ForgetLeader(); err != nil {
			s.fatalf("%v", err)
		}
		s.advance(other)
		if other.up {
			other.node.Fence(number)
			for i := 0; i < 3 && other.up; i++ { // a checkpoint may be before it
				other.log.sync(-1)
				other.complete()
				s.advance(other)
			}
			s.tell("fence %d below %d at %v", other.config.ID, number, other.node.Status().Last)
			if other.up && other.node.Fenced() < number {
				s.fatalf("member %d tells its position before its fence is durable", other.config.ID)
			}
		}
		if !other.up {
			return // its disk broke
		}
		if other.node.Status().Last.Compare(best.node.Status().Last) > 0 {
			best = other
		}
	}
	s.tell("round %d: %d campaigns at %v of %d", number, best.config.ID, best.node.Status().Last, len(part))
	if err := errors.Join(best.node.Raise(number-1), best.node.Campaign()); err != nil {
		s.fatalf("%v", err)
	}
}

// steer does one of the other things that an owner may do at any time.
func (s *simulation) steer(m *simMember) {
	if !m.up || m.node.Err() != nil {
		return
	}
	other := s.members[s.random.IntN(len(s.members))].config.ID
	switch s.random.IntN(6) {
	case 0:
		if err := m.node.TransferLeader(other); err != nil && !errors.Is(err, ErrNotLeader) {
			s.fatalf("%v", err)
		}
	case 1:
		m.node.ReportUnreachable(other)
	case 2:
		m.node.Paused()
	case 3:
		if !s.plan.held {
			m.node.Fence(m.node.Status().Term + 1)
		}
	case 4:
		if !s.plan.held {
			_ = m.node.Campaign()
		}
	case 5:
		_ = m.node.ForgetLeader()
	}
}

// transmit is a message's way through the codec.
func transmit(m *raftpb.Message) *raftpb.Message {
	if sendable(m) != nil {
		return proto.Clone(m).(*raftpb.Message)
	}
	got, err := ParseMessage(AppendMessage(nil, []uint64{m.GetTo()}, m), m.GetTo())
	if err != nil {
		panic(err)
	}
	return got
}
