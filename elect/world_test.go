package elect

import (
	"cmp"
	cryptorand "crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// world plays one group's brokers in one goroutine with virtual time: an
// Elector, a Beater and a real raft RawNode each, their disks, and the network
// between them. Everything is drawn from one seed. Its step is a millisecond.
type world struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand
	now     time.Time
	nodes   []*node
	network []*packet // ascending by due, then by the order of sending
	// cut says which links are cut, in one direction, and loss how many of 1000
	// datagrams are lost.
	cut  map[[2]int]bool
	loss int
	// mute sends no votes. slow nodes get no entries.
	mute  *node
	slow  map[int]bool
	delay [2]time.Duration // shortest, longest
	fsync [2]time.Duration // shortest, longest

	quorum    int // the smallest in use
	proposals uint64
	leaders   map[uint64]int // term → node
	// confirmed is what a client was told, by index.
	confirmed map[uint64]confirmation
	// unclean counts unclean promotions; what leaders of terms below that of the
	// last confirm is lost.
	unclean     int
	uncleanTerm uint64
	history     interface {
		io.Writer
		Sum64() uint64
	}
	// onLeader is called when a node becomes leader.
	onLeader func(n *node, p Promotion)
}

// confirmation says which proposal a leader of term confirmed.
type confirmation struct{ proposal, term uint64 }

type packet struct {
	due      time.Time
	from, to int
	datagram []byte          // beats or messages
	message  *raftpb.Message // or this
	life     int             // the receiver's: what was sent to one that died is lost
}

var trace = flag.Bool("elect.trace", false, "tell what happens in the simulated worlds")

const millisecond = time.Millisecond

// stopped says what has been done to a node.
type stopped uint8

const (
	runs stopped = iota
	paused
	dead
)

type node struct {
	id       int // its raft id less one
	name     string
	state    stopped
	life     int
	disk     *disk
	raft     *raft.RawNode
	elector  *Elector
	beater   *Beater
	promoted History

	lead uint64 // as raft says
	role raft.StateType
	term uint64
	last entry.Position
	// fenced is what was promised, and kept as far as the disk knows.
	fenced, kept uint64
	// handed is the last term in which it transferred leadership.
	handed uint64
	writes []write
	// hung makes the disk complete nothing.
	hung bool
	// offset spreads the nodes' ticks.
	offset int
	inbox  []*packet // of a paused one
	down   []notice  // what the backbone will say
}

type notice struct {
	due  time.Time
	name string
	up   bool
}

type write struct {
	due     time.Time
	since   time.Time
	message *raftpb.Message
}

// disk is what survives a crash.
type disk struct {
	*raft.MemoryStorage
	voters []uint64
}

func (d *disk) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	state, _, err := d.MemoryStorage.InitialState()
	return state, &raftpb.ConfState{Voters: d.voters}, err
}

func (d *disk) last() entry.Position {
	index, _ := d.LastIndex()
	term, _ := d.Term(index)
	return entry.Position{Term: term, Index: index}
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

// newWorld has size brokers b1… on a fast network with a fair disk.
func newWorld(t *testing.T, seed uint64, size, quorum int) *world {
	t.Helper()
	seedRaft(t, seed)
	w := &world{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)),
		now: time.Unix(1_000_000, 0), cut: map[[2]int]bool{}, slow: map[int]bool{}, quorum: quorum,
		delay:   [2]time.Duration{200 * time.Microsecond, 2 * millisecond},
		fsync:   [2]time.Duration{millisecond, 8 * millisecond},
		leaders: map[uint64]int{}, confirmed: map[uint64]confirmation{}, history: fnv.New64a(),
	}
	var voters []uint64
	for i := range size {
		voters = append(voters, uint64(i+1))
	}
	for i := range size {
		n := &node{
			id: i, name: fmt.Sprintf("b%d", i+1), offset: w.random.IntN(50), state: dead,
			disk: &disk{raft.NewMemoryStorage(), voters}, promoted: *NewHistory(1000),
		}
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		w.start(n)
	}
	return w
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d at %v: %s", w.seed, w.now.Sub(time.Unix(1_000_000, 0)), fmt.Sprintf(format, args...))
}

func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%d "+format, append([]any{w.now.UnixMilli()}, args...)...)
	_, _ = fmt.Fprintln(w.history, line)
	if *trace {
		w.t.Log(line)
	}
}

func (w *world) between(r [2]time.Duration) time.Duration {
	return r[0] + time.Duration(w.random.Int64N(int64(r[1]-r[0])+1))
}

// start begins a node's life from what its disk holds.
func (w *world) start(n *node) {
	if n.state != dead {
		return
	}
	n.state, n.life = runs, n.life+1
	n.lead, n.role, n.term, n.fenced, n.kept, n.writes, n.hung = 0, raft.StateFollower, 0, 0, 0, nil, false
	state, _, _ := n.disk.InitialState()
	n.term = state.GetTerm()
	n.last = n.disk.last()
	var err error
	n.raft, err = raft.NewRawNode(&raft.Config{
		ID: uint64(n.id + 1), ElectionTick: 20, HeartbeatTick: 1, Storage: n.disk, AsyncStorageWrites: true,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 64, CheckQuorum: true, PreVote: true,
		DisableProposalForwarding: true, StepDownOnRemoval: true, Logger: silent{},
	})
	if err != nil {
		w.fatalf("%s: %v", n.name, err)
	}
	var names []string
	for _, m := range w.nodes {
		names = append(names, m.name)
	}
	n.beater = NewBeater(0)
	n.elector, err = New(Config{Group: 7, Self: n.name, Voters: names, Jitter: w.random.Float64, Gate: new(Gate)}, w.now)
	if err != nil {
		w.fatalf("%s: %v", n.name, err)
	}
	n.down = nil
	for _, m := range w.nodes {
		if m != n && m.state != dead {
			w.tell(n, m.name, true, 20*millisecond)
			w.tell(m, n.name, true, 20*millisecond)
		}
	}
}

// tell makes n's backbone say so within that time.
func (w *world) tell(n *node, name string, up bool, within time.Duration) {
	n.down = append(n.down, notice{w.now.Add(w.between([2]time.Duration{0, within})), name, up})
}

// kill ends a node's life; its connections break at once.
func (w *world) kill(n *node) {
	if n.state == dead {
		return
	}
	w.note("kill %s", n.name)
	n.state = dead
	n.inbox, n.raft, n.elector = nil, nil, nil
	for _, m := range w.nodes {
		if m.state != dead {
			w.tell(m, n.name, false, 2*millisecond)
		}
	}
}

func (w *world) pause(n *node) {
	if n.state == runs {
		w.note("pause %s", n.name)
		n.state = paused
	}
}

func (w *world) resume(n *node) {
	if n.state == paused {
		w.note("resume %s", n.name)
		n.state = runs
		for _, p := range n.inbox {
			p.due = w.now
			w.post(p)
		}
		n.inbox = nil
	}
}

// isolate cuts a node from the others in both directions; nothing tells.
func (w *world) isolate(n *node) {
	for _, m := range w.nodes {
		if m != n {
			w.cut[[2]int{n.id, m.id}], w.cut[[2]int{m.id, n.id}] = true, true
		}
	}
}

func (w *world) post(p *packet) {
	at, _ := slices.BinarySearchFunc(w.network, p, func(a, b *packet) int {
		if c := a.due.Compare(b.due); c != 0 {
			return c
		}
		return -1 // after those of the same time
	})
	w.network = slices.Insert(w.network, at, p)
}

func (w *world) send(p *packet) {
	if w.cut[[2]int{p.from, p.to}] || w.random.IntN(1000) < w.loss {
		return
	}
	switch {
	case p.message == nil:
	case w.mute == w.nodes[p.from] && (p.message.GetType() == raftpb.MsgPreVote || p.message.GetType() == raftpb.MsgVote):
		return
	case w.slow[p.to] && p.message.GetType() == raftpb.MsgApp:
		return
	}
	p.due = w.now.Add(w.between(w.delay))
	p.life = w.nodes[p.to].life
	w.post(p)
}

// step plays a millisecond.
func (w *world) step() {
	w.now = w.now.Add(millisecond)
	for len(w.network) > 0 && !w.network[0].due.After(w.now) {
		p := w.network[0]
		w.network = w.network[1:]
		w.deliver(p)
	}
	for _, n := range w.nodes {
		if n.state == runs {
			w.play(n)
		}
	}
	w.confirm()
}

func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.step()
	}
}

func (w *world) deliver(p *packet) {
	n := w.nodes[p.to]
	switch {
	case n.state == dead || p.life != n.life || w.cut[[2]int{p.from, p.to}]:
	case n.state == paused:
		if len(n.inbox) < 1000 {
			n.inbox = append(n.inbox, p)
		}
	case p.message != nil:
		switch p.message.GetType() {
		case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap, raftpb.MsgTimeoutNow:
			if p.message.GetTerm() < max(n.fenced, n.elector.Refuses()) {
				return
			}
		}
		_ = n.raft.Step(p.message)
		w.advance(n)
		w.state(n)
	case IsBeats(p.datagram):
		err := ParseBeats(p.datagram, func(b Beat) { n.elector.Beat(w.now, w.nodes[p.from].name, b) })
		w.check(err)
	default:
		err := ParseMessages(p.datagram, func(m Message) { n.elector.Receive(w.now, w.nodes[p.from].name, m) })
		w.check(err)
	}
	if n.state == runs {
		w.act(n)
	}
}

func (w *world) check(err error) {
	if err != nil {
		w.fatalf("%v", err)
	}
}

// play does what a node's own time makes it do.
func (w *world) play(n *node) {
	for len(n.down) > 0 {
		i := slices.IndexFunc(n.down, func(d notice) bool { return !d.due.After(w.now) })
		if i < 0 {
			break
		}
		d := n.down[i]
		n.down = slices.Delete(n.down, i, i+1)
		if d.up {
			n.elector.PeerUp(w.now, d.name)
		} else {
			n.elector.PeerDown(w.now, d.name)
		}
		w.act(n)
	}
	for len(n.writes) > 0 && !n.writes[0].due.After(w.now) && !n.hung {
		done := n.writes[0]
		n.writes = n.writes[1:]
		w.durable(n, done.message)
		w.advance(n)
		w.state(n)
	}
	beat := int(w.now.UnixMilli()) + n.offset
	if beat%50 == 0 {
		if !n.elector.HoldTicks() {
			n.raft.Tick()
			w.advance(n)
		}
		w.beat(n)
	}
	if beat%10 == 0 {
		w.state(n)
		n.elector.Tick(w.now)
	}
	if beat%5 == 0 && n.role == raft.StateLeader {
		w.propose(n)
	}
	w.act(n)
}

func (w *world) beat(n *node) {
	if n.role != raft.StateLeader {
		n.beater.Resign(7)
	} else {
		n.beater.Lead(w.now, Beat{Group: 7, Term: n.term, Position: n.last})
	}
	datagram, ok := n.beater.Make(w.now, n.oldest(), nil)
	if !ok {
		return
	}
	for _, m := range w.nodes {
		if m != n {
			w.send(&packet{from: n.id, to: m.id, datagram: datagram})
		}
	}
}

func (n *node) oldest() time.Time {
	if len(n.writes) == 0 {
		return time.Time{}
	}
	return n.writes[0].since
}

func (w *world) propose(n *node) {
	w.proposals++
	if n.raft.Propose(binary.BigEndian.AppendUint64(nil, w.proposals)) == nil {
		w.advance(n)
	}
}

// advance does what raft has ready. Messages to others go out while the disk
// works; what depends on it waits.
func (w *world) advance(n *node) {
	for n.raft.HasReady() {
		ready := n.raft.Ready()
		if s := ready.SoftState; s != nil {
			n.lead, n.role = s.Lead, s.RaftState
		}
		if s := ready.HardState; s != nil {
			n.term = s.GetTerm()
		}
		for _, m := range ready.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				if e := m.GetEntries(); len(e) > 0 {
					n.last = entry.Position{Term: e[len(e)-1].GetTerm(), Index: e[len(e)-1].GetIndex()}
				}
				w.write(n, m)
			case raft.LocalApplyThread:
				w.answer(n, m.GetResponses())
			default:
				w.send(&packet{from: n.id, to: int(m.GetTo() - 1), message: m})
			}
		}
	}
	if n.role == raft.StateLeader {
		if other, ok := w.leaders[n.term]; ok && other != n.id {
			w.fatalf("%s and %s lead term %d", n.name, w.nodes[other].name, n.term)
		}
		w.leaders[n.term] = n.id
	}
}

// answer steps or sends what waited for a write.
func (w *world) answer(n *node, responses []*raftpb.Message) {
	for _, r := range responses {
		if r.GetTo() == uint64(n.id+1) {
			_ = n.raft.Step(r)
		} else {
			w.send(&packet{from: n.id, to: int(r.GetTo() - 1), message: r})
		}
	}
}

func (w *world) write(n *node, m *raftpb.Message) {
	due := w.now.Add(w.between(w.fsync))
	if k := len(n.writes); k > 0 && n.writes[k-1].due.After(due) {
		due = n.writes[k-1].due
	}
	n.writes = append(n.writes, write{due, w.now, m})
}

// durable completes a write. A promise (a write of nothing but a term) is kept
// as this member's own term without a vote: who starts with it takes no part in
// those below.
func (w *world) durable(n *node, m *raftpb.Message) {
	w.check(n.disk.Append(m.GetEntries()))
	state, _, _ := n.disk.InitialState()
	switch promise := len(m.GetEntries())+len(m.GetResponses()) == 0 && m.Vote == nil && m.Commit == nil; {
	case m.GetTerm() == 0:
	case promise:
		n.kept = max(n.kept, m.GetTerm())
		if state.GetTerm() < n.kept {
			w.check(n.disk.SetHardState(&raftpb.HardState{Term: new(n.kept), Commit: new(state.GetCommit())}))
		}
	case m.GetTerm() < n.kept:
		w.check(n.disk.SetHardState(&raftpb.HardState{Term: new(n.kept), Commit: m.Commit}))
	default:
		w.check(n.disk.SetHardState(&raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}))
	}
	w.answer(n, m.GetResponses())
}

func (w *world) state(n *node) {
	local := Local{
		Term: n.term, Last: n.last, Fence: n.kept, OldestWrite: n.oldest(), SmallestQuorum: w.quorum,
	}
	if n.lead != 0 {
		local.Leader = w.nodes[n.lead-1].name
	}
	switch n.role {
	case raft.StateLeader:
		local.Role = Leader
	case raft.StateCandidate:
		local.Role = Candidate
	case raft.StatePreCandidate:
		local.Role = PreCandidate
	}
	if local.Role == Leader {
		n.raft.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
			if id != uint64(n.id+1) {
				local.Mirrors = append(local.Mirrors, Mirror{w.nodes[id-1].name, p.Match, p.RecentActive})
			}
		})
	}
	n.elector.State(w.now, local)
}

// act does what the elector asks for, until it asks for nothing.
func (w *world) act(n *node) {
	for {
		actions := n.elector.Actions(nil)
		if len(actions) == 0 {
			return
		}
		for _, a := range actions {
			if a.Kind == Send {
				m := a.Message
				w.note("%s tells %s: %d term %d round %d last %v %b %s", n.name, a.To, m.Kind, m.Term, m.Round, m.Last, flags(m.Fenced, m.Waits, m.Unfit, m.Bids), m.Name)
			} else if a.Kind != Promoted {
				w.note("%s %v %s %d", n.name, a.Kind, a.To, a.Term)
			}
			w.do(n, a)
		}
		w.advance(n)
		w.state(n)
	}
}

func (w *world) do(n *node, a Action) {
	switch a.Kind {
	case Send:
		to := slices.IndexFunc(w.nodes, func(m *node) bool { return m.name == a.To })
		w.send(&packet{from: n.id, to: to, datagram: AppendMessage(nil, a.Message)})
	case Forget:
		w.check(n.raft.ForgetLeader())
	case Campaign:
		if term := n.raft.BasicStatus().GetTerm(); a.Term != 0 && term+1 < a.Term {
			before, from := a.Term-1, uint64((n.id+1)%len(w.nodes)+1)
			_ = n.raft.Step(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: &from, Term: &before})
		} else if a.Term != 0 && term >= a.Term {
			return
		}
		w.check(n.raft.Campaign())
	case Transfer:
		to := slices.IndexFunc(w.nodes, func(m *node) bool { return m.name == a.To })
		n.handed = n.term
		n.raft.TransferLeader(uint64(to + 1))
	case Fence:
		n.fenced = a.Term
		w.write(n, &raftpb.Message{Term: &a.Term})
	case Promoted:
		w.note("promoted %s: %+v", n.name, *a.Promotion)
		n.promoted.Add(*a.Promotion)
		if a.Promotion.To == n.name {
			if !a.Promotion.Clean {
				w.unclean++
			}
			w.checkConfirmed(n, *a.Promotion)
			w.checkBest(n, *a.Promotion)
			if w.onLeader != nil {
				w.onLeader(n, *a.Promotion)
			}
		}
	}
}

// confirm tells clients what holds the quorum, by what each leader knows:
// entries of its own term, and with them all before.
func (w *world) confirm() {
	for _, n := range w.nodes {
		if n.state != runs || n.role != raft.StateLeader || n.term < w.uncleanTerm {
			continue
		}
		var matches []uint64
		n.raft.WithProgress(func(_ uint64, _ raft.ProgressType, p tracker.Progress) {
			matches = append(matches, p.Match)
		})
		slices.SortFunc(matches, func(a, b uint64) int { return cmp.Compare(b, a) })
		quorum := w.quorum
		if quorum <= 0 || n.handed == n.term || n.term < n.fenced {
			quorum = len(w.nodes)/2 + 1 // as replicate's Confirmed has it
		}
		index := matches[quorum-1]
		if term, err := n.disk.Term(index); err != nil || term != n.term {
			continue
		}
		for ; index > 0; index-- {
			if _, ok := w.confirmed[index]; ok {
				break
			}
			w.confirmed[index] = confirmation{n.proposal(index), n.term}
		}
	}
}

// proposal is what a node holds at index: on its disk, or on the way there.
func (n *node) proposal(index uint64) uint64 {
	var found []*raftpb.Entry
	if index <= n.disk.last().Index {
		found, _ = n.disk.Entries(index, index+1, 1<<20)
	}
	for _, write := range n.writes {
		for _, e := range write.message.GetEntries() {
			switch {
			case e.GetIndex() == index:
				found = []*raftpb.Entry{e}
			case e.GetIndex() < index: // discards what was there
				found = nil
			}
		}
	}
	if len(found) == 0 || len(found[0].GetData()) == 0 {
		return 0
	}
	return binary.BigEndian.Uint64(found[0].GetData())
}

// checkConfirmed wants all that was confirmed at a leader that was promoted
// cleanly.
func (w *world) checkConfirmed(n *node, p Promotion) {
	if !p.Clean { // What is lost now stays lost.
		clear(w.confirmed)
		w.uncleanTerm = n.term
		return
	}
	for _, index := range slices.Sorted(maps.Keys(w.confirmed)) {
		want := w.confirmed[index]
		if want.term >= n.term {
			continue // Its votes came late: it was succeeded before it led, and will commit nothing.
		}
		if index > n.last.Index || n.proposal(index) != want.proposal {
			for _, m := range w.nodes {
				w.t.Logf("%s has %v and %d there, %d writes wait, disk %v", m.name, m.last, m.proposal(index), len(m.writes), m.disk.last())
			}
			w.fatalf("%s leads term %d without entry %d, which was confirmed as %+v: it has %v, %+v", n.name, p.Term, index, want, n.last, p)
		}
	}
}

// checkBest wants the best of the positions that were compared at the leader,
// unless it stood by for one that could not.
func (w *world) checkBest(n *node, p Promotion) {
	if len(p.Positions) == 0 || p.Reason == Raft || p.Leaderless >= 150*millisecond {
		return
	}
	at := slices.IndexFunc(p.Positions, func(s Standing) bool { return s.Broker == n.name })
	if best := p.Positions[0]; at < 0 || p.Positions[at].Position.Compare(best.Position) < 0 {
		w.fatalf("%s was promoted though %s was better: %+v", n.name, best.Broker, p)
	}
}

// leader is the running node that leads the highest term, nil when none does.
func (w *world) leader() *node {
	var best *node
	for _, n := range w.nodes {
		if n.state == runs && n.role == raft.StateLeader && (best == nil || n.term > best.term) {
			best = n
		}
	}
	return best
}

// settle runs until one leader is known to every running node.
func (w *world) settle() *node {
	w.t.Helper()
	for range 20_000 {
		w.step()
		if l := w.leader(); l != nil && w.agreed(l) {
			return l
		}
	}
	w.fatalf("no leader after 20 s")
	return nil
}

func (w *world) agreed(l *node) bool {
	for _, n := range w.nodes {
		if n.state == runs && (n.lead != uint64(l.id+1) || n.term != l.term) {
			return false
		}
	}
	return true
}

// silent is raft's logger.
type silent struct{}

func (silent) Debug(...any)              {}
func (silent) Debugf(string, ...any)     {}
func (silent) Error(...any)              {}
func (silent) Errorf(string, ...any)     {}
func (silent) Info(...any)               {}
func (silent) Infof(string, ...any)      {}
func (silent) Warning(...any)            {}
func (silent) Warningf(string, ...any)   {}
func (silent) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (silent) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (silent) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (silent) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
