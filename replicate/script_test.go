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
type script struct {
	members []*member
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
		s.group(t, d)
		return
	case "deliver", "drop":
		s.deliver(d)
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
		d.Fatalf(t, "unknown command")
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

func (s *script) group(t *testing.T, d *datadriven.TestData) {
	var voters []uint64
	for _, arg := range d.CmdArgs {
		for _, v := range arg.Vals {
			var id uint64
			if _, err := fmt.Sscan(v, &id); err != nil {
				d.Fatalf(t, "%v", err)
			}
			voters = append(voters, id)
		}
	}
	s.members = nil
	for _, id := range voters {
		m := newMember(Config{ID: id, Voters: voters, MaxUncommitted: 100, MaxApply: 50})
		m.onApply = func(e Entry) { s.printf("%d applies %d/%d %q", id, e.Term, e.Index, e.Payload) }
		m.onSend = func(message *raftpb.Message) { s.printf("%d sends %s", id, describe(message)) }
		s.members = append(s.members, m)
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
