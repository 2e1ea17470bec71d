package replicate

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// simulation plays a group's members, their disks and the network between them
// in one goroutine. Everything that happens is drawn from one seed.
type simulation struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand
	members []*simMember
	network []*raftpb.Message
	cut     map[[2]uint64]bool
	next    uint64 // names proposals

	committed []Entry           // by any member's apply
	leaders   map[uint64]uint64 // term → id
	history   interface {
		io.Writer
		Sum64() uint64
	}
	calm     bool // nothing bad happens any more
	restarts int
	failures int

	plan      plan
	streams   []stream
	confirmed []confirmed
	installs  int
	rounds    int
}

type simMember struct {
	*member
	up       bool
	term     uint64 // of the leadership that proposed what is pending
	pending  []confirmed
	suspects bool // it misses its leader, rightly or not
	feeder   *testFeeder
}

// seedRaft makes raft draw its election timeouts from seed until the test ends.
func seedRaft(t *testing.T, seed uint64) {
	t.Helper()
	original := cryptorand.Reader
	t.Cleanup(func() { cryptorand.Reader = original })
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	cryptorand.Reader = rand.NewChaCha8(key)
}

func newSimulation(t *testing.T, seed uint64, size int, p plan) *simulation {
	seedRaft(t, seed)
	s := &simulation{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)),
		cut: map[[2]uint64]bool{}, leaders: map[uint64]uint64{}, history: fnv.New64a(), plan: p,
	}
	var voters []uint64
	for id := range size {
		voters = append(voters, uint64(id+1))
	}
	for _, id := range voters {
		feeder := &testFeeder{}
		feeder.spends = func(uint64) bool { return s.calm || s.random.IntN(3) > 0 }
		m := newMember(Config{ID: id, Voters: voters, Feeder: feeder, RingBytes: 400 + s.random.Int64N(4000), MaxApply: 200, MaxMessage: 200, MaxUncommitted: 2000,
			KeepLive: 3000, KeepAbsent: 500, KeepTail: 300})
		m.onApply = func(e Entry) { s.checkApplied(m, e) }
		m.onSend = func(message *raftpb.Message) { s.checkSent(m, message) }
		m.node.HoldElections(p.held)
		s.members = append(s.members, &simMember{member: m, up: true, feeder: feeder})
	}
	return s
}

func (s *simulation) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
}

// tell adds to the history, whose hash names the run.
func (s *simulation) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(s.history, format+"\n", args...)
	if *simTrace {
		s.t.Logf(format, args...)
	}
}

// checkApplied holds what one member applies against what any applied before,
// and against the disks: a committed entry is durable on a majority of them.
func (s *simulation) checkApplied(m *member, e Entry) {
	s.tell("apply %d %d/%d %q", m.config.ID, e.Term, e.Index, e.Payload)
	switch {
	case e.Index <= uint64(len(s.committed)):
		if was := s.committed[e.Index-1]; was.Term != e.Term || string(was.Payload) != string(e.Payload) {
			s.fatalf("member %d applied %d/%d %q where %d/%d %q was", m.config.ID, e.Term, e.Index, e.Payload, was.Term, was.Index, was.Payload)
		}
	default:
		s.committed = append(s.committed, e)
	}
	copies := 0
	for _, other := range s.members {
		if term, err := other.log.Term(0, e.Index); e.Index < other.log.floor.Index || err == nil && term == e.Term {
			copies++
		}
	}
	if copies <= len(s.members)/2 {
		s.fatalf("member %d applied %d/%d, which %d disks hold", m.config.ID, e.Term, e.Index, copies)
	}
}

// checkSent holds an answer against the sender's disk: what it promises is
// durable there.
func (s *simulation) checkSent(m *member, message *raftpb.Message) {
	s.tell("send %d %d %v %d %d", message.GetFrom(), message.GetTo(), message.GetType(), message.GetTerm(), message.GetIndex())
	disk, _ := m.log.HardState(0)
	switch message.GetType() {
	case raftpb.MsgVoteResp:
		if !message.GetReject() && (disk.Term < message.GetTerm() || disk.Term == message.GetTerm() && disk.Vote != message.GetTo()) {
			s.fatalf("member %d votes for %d in term %d, on its disk: %+v", m.config.ID, message.GetTo(), message.GetTerm(), disk)
		}
	case raftpb.MsgAppResp:
		// Once the disk is of a later term, another leader may have cut off what
		// was there: that answer left in time, as one does that the network delays.
		last := m.log.last().Index
		if disk.Term > message.GetTerm() {
			last = m.log.reached
		}
		if !message.GetReject() && (disk.Term < message.GetTerm() || last < message.GetIndex()) {
			s.fatalf("member %d acks %d in term %d, on its disk: %+v, %v", m.config.ID, message.GetIndex(), message.GetTerm(), disk, m.log.last())
		}
	}
}

func (s *simulation) checkLeader(m *member) {
	status := m.node.Status()
	if status.Role != Leader {
		return
	}
	if other, ok := s.leaders[status.Term]; ok && other != m.config.ID {
		s.fatalf("members %d and %d both lead term %d", other, m.config.ID, status.Term)
	}
	if _, ok := s.leaders[status.Term]; !ok {
		s.tell("leader %d of term %d at %v", m.config.ID, status.Term, status.Last)
	}
	s.leaders[status.Term] = m.config.ID
}

func (s *simulation) step() {
	m := s.members[s.random.IntN(len(s.members))]
	switch n := s.random.IntN(1000); {
	case n < 1:
		if s.random.IntN(2) == 0 {
			s.crash(m)
		}
	case n < 9:
		s.restart(m)
	case n < 10 && m.up && s.random.IntN(4) == 0:
		m.log.failure = errDisk
	case n < 12:
		s.partition()
	case n < 18:
		s.checkpoint(m)
	case n < 24:
		s.offer(m)
	case n < 30:
		s.stream()
	case n < 36:
		s.round(m)
	case n < 38:
		s.steer(m)
	case n < 420: // the oldest, mostly
		s.deliver(min(s.random.IntN(8), s.random.IntN(len(s.network)+1)))
	case !m.up:
	case n < 430:
		m.feeder.serve(m.member)
	case n < 500:
		m.node.Tick()
	case n < 560:
		s.propose(m)
	case n < 650:
		m.log.sync(s.random.IntN(3))
	case n < 780:
		m.complete()
	default:
		s.advance(m)
	}
}

var errDisk = errors.New("the disk broke")

// advance expects of a member whose disk broke that it ends, and is silent from
// then on; what it sent before was true.
func (s *simulation) advance(m *simMember) {
	err := m.advance()
	if err == nil {
		s.confirm(m)
	}
	s.network = append(s.network, m.sent...)
	m.sent = nil
	if len(s.network) > 500 { // A slow network loses; it doesn't grow without bound.
		s.network = s.network[250:]
	}
	if errors.Is(err, errDisk) && m.log.failure != nil {
		m.node.Tick()
		if m.advance() != err || m.node.Status().Role == Leader || len(m.sent) > 0 {
			s.fatalf("member %d failed and lives on: %+v, %v", m.config.ID, m.node.Status(), m.sent)
		}
		s.failures++
		s.crash(m)
		return
	}
	if err != nil {
		s.fatalf("member %d: %v", m.config.ID, err)
	}
	s.checkLeader(m.member)
}

func (s *simulation) deliver(i int) {
	if i >= len(s.network) {
		return
	}
	message := s.network[i]
	if s.calm || s.random.IntN(20) > 0 { // else it will come again
		s.network = slices.Delete(s.network, i, i+1)
	}
	to := s.members[message.GetTo()-1]
	lost := !s.calm && s.random.IntN(20) == 0 || s.cut[[2]uint64{message.GetFrom(), message.GetTo()}]
	if !to.up || lost {
		return
	}
	if err := to.node.Step(transmit(message)); err != nil && !errors.Is(err, errDisk) {
		s.fatalf("member %d: %v", to.config.ID, err)
	}
}

func (s *simulation) propose(m *simMember) {
	s.next++
	payload := fmt.Appendf(nil, "%d%*s", s.next, s.random.IntN(60), "")
	index, err := m.node.Propose(payload)
	if err == nil {
		s.proposed(m, Entry{Term: m.node.Status().Term, Index: index, Payload: slices.Clone(payload)})
	}
	clear(payload) // The caller's memory is its own again.
	if err != nil && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrBusy) && !errors.Is(err, errDisk) {
		s.fatalf("member %d: %v", m.config.ID, err)
	}
}

func (s *simulation) crash(m *simMember) {
	if !m.up {
		return
	}
	m.up = false
	s.tell("crash %d", m.config.ID)
	kept := s.random.IntN(len(m.log.waiting) + 1)
	if m.log.failure != nil {
		kept = 0
	}
	m.log.crash(kept)
	m.sent, m.pending, m.suspects = nil, nil, false
}

func (s *simulation) restart(m *simMember) {
	if m.up {
		return
	}
	m.up = true
	m.log.failure = nil
	s.restarts++
	m.feeder.asked = nil
	if err := m.start(); err != nil {
		s.fatalf("member %d starts: %v", m.config.ID, err)
	}
	m.node.HoldElections(s.plan.held)
}

// partition heals the network, cuts a member off, or cuts links one way. What
// it makes lasts for about two election timeouts.
func (s *simulation) partition() {
	switch s.random.IntN(6) {
	case 0:
		clear(s.cut)
	case 1:
		alone := uint64(s.random.IntN(len(s.members)) + 1)
		for _, m := range s.members {
			s.cut[[2]uint64{alone, m.config.ID}] = true
			s.cut[[2]uint64{m.config.ID, alone}] = true
		}
	case 2:
		for range len(s.members) {
			a, b := s.random.IntN(len(s.members)), s.random.IntN(len(s.members))
			s.cut[[2]uint64{uint64(a + 1), uint64(b + 1)}] = true
		}
	}
}

// heal lets nothing bad happen any more and expects the members to agree.
func (s *simulation) heal() {
	s.calm = true
	clear(s.cut)
	for _, m := range s.members {
		if m.log.failure != nil {
			s.crash(m)
		}
		s.restart(m)
	}
	asked := uint64(0) // the term in which the last entry was proposed
	for round := 0; ; round++ {
		if round > 3000 {
			s.fatalf("no agreement after %d rounds: %d entries were committed", round, len(s.committed))
		}
		for _, m := range s.members {
			m.node.Tick()
			m.log.sync(-1)
			m.complete()
			m.feeder.serve(m.member)
			s.advance(m)
			if status := m.node.Status(); status.Role == Leader && status.Term > asked {
				if _, err := m.node.Propose([]byte("last")); err != nil {
					continue
				}
				asked = status.Term
			}
		}
		for n := len(s.network); n > 0; n-- {
			s.deliver(0)
		}
		if round%10 == 9 {
			for _, m := range s.members {
				s.offer(m)
				s.round(m)
			}
			for len(s.streams) > 0 {
				s.stream()
			}
		}
		agreed := len(s.committed) > 0 && string(s.committed[len(s.committed)-1].Payload) == "last"
		for _, m := range s.members {
			agreed = agreed && len(m.applied) == len(s.committed)
		}
		if agreed {
			return
		}
	}
}

func (s *simulation) run(steps int) uint64 {
	for range steps {
		s.step()
	}
	s.heal()
	s.checkConfirmed()
	return s.history.Sum64()
}
