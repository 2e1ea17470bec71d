package replicate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"
)

// script plays a file of testdata: each command does one thing to one member,
// and prints what the member then hands to its log, sends, and applies.
//
//	group voters=(1,2,3)          makes the members, with empty logs
//	campaign|tick|advance|complete|crash|restart|status|log id=1
//	propose id=1 [lines]          one entry a line
//	sync id=1 [n=2]               the n oldest writes are durable, all by default
//	crash id=1 [keep=1]           keep writes got to the disk, unreported
//	fail id=1                     the disk breaks
//	checkpoint id=1 index=3       raises the log's floor
//	deliver [to=2] [n=1]          messages reach their receivers, who advance
//	drop [to=2]                   they don't
//	settle id=1                   syncs, completes and advances until still
//	exchange [among=(1,2)]        settles and delivers until still; what is for others is lost
//	forget|paused|behind|keep id=1
//	fence|raise id=1 term=5       and what is fenced then
//	hold id=1 [off]               elections
//	transfer|unreachable id=1 to=2
//	confirmed id=1                the index that each quorum has reached
//	install id=3 from=1           offers the newest checkpoint of one to another, who takes it
type script struct {
	members []*member
	quiet   bool // messages and writes are not told
	out     strings.Builder
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		seedRaft(t, 1)
		s := &script{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.run(t, d)
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.out.String()
		})
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) {
	switch d.Cmd {
	case "group":
		s.group(d)
		return
	case "deliver", "drop":
		s.deliver(d)
		return
	case "exchange":
		s.exchange(list(d, "among"))
		return
	}
	var id int
	d.ScanArgs(t, "id", &id)
	m := s.members[id-1]
	switch d.Cmd {
	case "campaign":
		s.report(m, m.node.Campaign())
	case "tick":
		for range option(d, "n", 1) {
			m.node.Tick()
		}
	case "advance":
		s.advance(m)
	case "complete":
		m.complete()
	case "propose":
		for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
			_, err := m.node.Propose([]byte(line))
			s.report(m, err)
		}
	case "sync":
		m.log.sync(option(d, "n", -1))
	case "crash":
		m.log.crash(option(d, "keep", 0))
	case "fail":
		m.log.failure = fmt.Errorf("the disk broke")
	case "restart":
		s.report(m, m.start())
	case "checkpoint":
		m.checkpoint(uint64(option(d, "index", 1)))
		m.node.Checkpointed(m.log.floor)
	case "settle":
		s.settle(m)
	case "status":
		s.status(m)
	case "log":
		s.printLog(m)
	default:
		if !s.steer(d, m) {
			d.Fatalf(t, "unknown command")
		}
	}
}

// steer runs the commands that elect and the owners of mirrors give.
func (s *script) steer(d *datadriven.TestData, m *member) bool {
	to := uint64(option(d, "to", 0))
	switch d.Cmd {
	case "forget":
		s.report(m, m.node.ForgetLeader())
	case "paused":
		m.node.Paused()
	case "behind":
		s.printf("%d", m.node.Behind(nil))
	case "keep":
		s.printf("%d", m.node.KeepFrom())
	case "raise":
		s.report(m, m.node.Raise(uint64(option(d, "term", 0))))
	case "fence":
		m.node.Fence(uint64(option(d, "term", 0)))
		s.settle(m)
		s.printf("%d refuses terms below %d, and ends at %v", m.config.ID, m.node.Fenced(), m.node.Status().Last)
	case "hold":
		m.node.HoldElections(!d.HasArg("off"))
	case "transfer":
		s.report(m, m.node.TransferLeader(to))
	case "unreachable":
		m.node.ReportUnreachable(to)
	case "confirmed":
		s.printf("leader %d", m.node.Confirmed(QuorumLeader))
		for n := 2; n <= len(s.members); n++ {
			s.printf("%d of %d: %d", n, len(s.members), m.node.Confirmed(Quorum(n)))
		}
		s.printf("majority %d, all %d", m.node.Confirmed(QuorumMajority), m.node.Confirmed(QuorumAll))
	case "install":
		c := s.members[option(d, "from", 1)-1].log.newest()
		adopted, err := m.install(c)
		s.report(m, err)
		s.printf("%d adopts %v: %v", m.config.ID, c.at, adopted)
	default:
		return false
	}
	return true
}

func list(d *datadriven.TestData, key string) (ids []uint64) {
	for _, arg := range d.CmdArgs {
		if arg.Key != key {
			continue
		}
		for _, v := range arg.Vals {
			var id uint64
			_, _ = fmt.Sscan(v, &id)
			ids = append(ids, id)
		}
	}
	return ids
}

// exchange lets some members, all by default, settle everything among them.
func (s *script) exchange(among []uint64) {
	for moved := true; moved; {
		moved = false
		for _, from := range s.members {
			if len(among) > 0 && !slices.Contains(among, from.config.ID) {
				continue
			}
			s.settle(from)
			sent := from.sent
			from.sent = nil
			for _, message := range sent {
				if len(among) > 0 && !slices.Contains(among, message.GetTo()) {
					continue
				}
				to := s.members[message.GetTo()-1]
				s.report(to, to.node.Step(transmit(message)))
				moved = true
			}
		}
	}
}

func option(d *datadriven.TestData, key string, value int) int {
	for _, arg := range d.CmdArgs {
		if arg.Key == key {
			_, _ = fmt.Sscan(arg.Vals[0], &value)
		}
	}
	return value
}

func (s *script) group(d *datadriven.TestData) {
	voters := list(d, "voters")
	s.members, s.quiet = nil, d.HasArg("quiet")
	for _, id := range voters {
		m := newMember(Config{ID: id, Voters: voters, MaxUncommitted: 100, MaxApply: 50})
		s.members = append(s.members, m)
		m.onApply = func(e Entry) { s.printf("%d applies %d/%d %q", id, e.Term, e.Index, e.Payload) }
		if s.quiet {
			m.onApply = nil
			continue
		}
		m.onSend = func(message *raftpb.Message) { s.printf("%d sends %s", id, describe(message)) }
	}
}

func (s *script) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(&s.out, format+"\n", args...)
}

func (s *script) report(m *member, err error) {
	if err != nil {
		s.printf("%d: %v", m.config.ID, err)
	}
}

func (s *script) advance(m *member) {
	had := len(m.log.waiting)
	s.report(m, m.advance())
	for _, a := range m.log.waiting[had:] {
		if s.quiet {
			break
		}
		s.printf("%d writes%s", m.config.ID, describeWrite(a.entries, a.state))
	}
}

func (s *script) settle(m *member) {
	for {
		s.advance(m)
		if len(m.log.waiting)+len(m.completions)+len(m.installed) == 0 || m.node.Err() != nil {
			return
		}
		m.log.sync(-1)
		m.complete()
	}
}

// deliver moves the messages that were waiting when it began, oldest first.
func (s *script) deliver(d *datadriven.TestData) {
	var moving []*raftpb.Message
	for _, m := range s.members {
		m.sent = slices.DeleteFunc(m.sent, func(message *raftpb.Message) bool {
			to := option(d, "to", 0)
			if to != 0 && uint64(to) != message.GetTo() {
				return false
			}
			moving = append(moving, message)
			return true
		})
	}
	if d.Cmd == "drop" {
		return
	}
	for _, message := range moving {
		to := s.members[message.GetTo()-1]
		s.report(to, to.node.Step(message))
		s.advance(to)
	}
}

func (s *script) status(m *member) {
	status := m.node.Status()
	s.printf("%d is %v of term %d, leader %d: commit %d, applied %v, last %v, %d writes of %d entries in flight",
		m.config.ID, status.Role, status.Term, status.Leader, status.Commit, status.Applied, status.Last,
		status.InFlightWrites, status.InFlightEntries)
	if status.Err != nil {
		s.printf("%v", status.Err)
	}
}

func (s *script) printLog(m *member) {
	s.printf("floor %v,%s", m.log.floor, describeWrite(m.log.entries, m.log.state))
}

func describeWrite(entries []Entry, state *HardState) string {
	var b strings.Builder
	for _, e := range entries {
		_, _ = fmt.Fprintf(&b, " %d/%d %q", e.Term, e.Index, e.Payload)
	}
	if state != nil {
		_, _ = fmt.Fprintf(&b, " term %d vote %d commit %d", state.Term, state.Vote, state.Commit)
	}
	return b.String()
}

func describe(m *raftpb.Message) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%v to %d, term %d", m.GetType(), m.GetTo(), m.GetTerm())
	if m.GetIndex() != 0 || m.GetLogTerm() != 0 {
		_, _ = fmt.Fprintf(&b, ", at %d/%d", m.GetLogTerm(), m.GetIndex())
	}
	if m.GetReject() {
		_, _ = fmt.Fprintf(&b, ", rejected")
	}
	if m.GetCommit() != 0 {
		_, _ = fmt.Fprintf(&b, ", commit %d", m.GetCommit())
	}
	for _, e := range m.GetEntries() {
		_, _ = fmt.Fprintf(&b, ", %d/%d %q", e.GetTerm(), e.GetIndex(), e.GetData())
	}
	return b.String()
}
