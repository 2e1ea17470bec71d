package queue

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// script plays testdata/*.txt: what a broker would do to a machine and its
// dispatcher, one directive a step. Ops are proposed and wait; `commit`
// applies them all in one entry, one submission each.
type script struct {
	m        *Machine
	d        *Dispatcher
	fx       Effects
	now      int64 // told by clock
	proposed []twinSubmission
	raw      [][]byte // ops of each
	out      strings.Builder
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		m := NewMachine()
		s := &script{m: m, d: NewDispatcher(m)}
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			s.out.Reset()
			s.step(t, td)
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.out.String()
		})
	})
}

// args are a directive's arguments.
type args struct {
	t  *testing.T
	td *datadriven.TestData
}

func (a args) text(name string) (string, bool) {
	for _, arg := range a.td.CmdArgs {
		if arg.Key == name {
			return strings.Join(arg.Vals, ","), true
		}
	}
	return "", false
}

func (a args) number(name string) uint64 {
	s, ok := a.text(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		a.td.Fatalf(a.t, "%s: %v", name, err)
	}
	return uint64(n)
}

func (a args) flag(name string) bool { _, ok := a.text(name); return ok }
func (a args) queue() entry.QueueID  { return entry.QueueID(a.number("queue")) }
func (a args) holder() HolderID      { return HolderID(a.number("holder")) }
func (a args) consumer() ConsumerID  { return ConsumerID(a.number("consumer")) }
func (a args) milliseconds(name string) time.Duration {
	return time.Duration(a.number(name)) * time.Millisecond
}
func (a args) ids(name string) []entry.Range {
	text, _ := a.text(name)
	var ranges []entry.Range
	for part := range strings.SplitSeq(text, ",") {
		first, last, both := strings.Cut(part, "-")
		if !both {
			last = first
		}
		f, err1 := strconv.ParseUint(first, 10, 64)
		l, err2 := strconv.ParseUint(last, 10, 64)
		if err1 != nil || err2 != nil {
			a.td.Fatalf(a.t, "ids %q", text)
		}
		ranges = append(ranges, entry.Range{First: entry.MessageID(f), Last: entry.MessageID(l)})
	}
	return ranges
}

func (s *script) step(t *testing.T, td *datadriven.TestData) {
	a := args{t, td}
	switch td.Cmd {
	case "create":
		s.propose(a, AppendCreate(nil, a.queue(), Settings{
			Name: fmt.Sprint("q", a.queue()), Expires: a.flag("ttl"), MessageTTL: a.milliseconds("ttl"),
		}))
	case "publish":
		var queues []entry.QueueID
		for _, r := range a.ids("queues") {
			queues = append(queues, entry.QueueID(r.First))
		}
		var ops []byte
		for i := range max(a.number("n"), 1) {
			if producer, ok := a.text("producer"); ok {
				ops = AppendOnce(ops, "/", []byte(producer), a.number("number")+i)
			}
			if a.flag("expiration") {
				ops = AppendEnqueueExpiring(ops, a.milliseconds("expiration"), queues, 4)
			} else {
				ops = AppendEnqueue(ops, queues, 4)
			}
			ops = append(ops, "body"...)
		}
		s.propose(a, ops)
	case "ack", "requeue":
		fmt.Fprintf(&s.out, "%d held\n", s.d.Settled(a.holder(), a.queue(), a.ids("ids")))
		if td.Cmd == "ack" {
			s.propose(a, AppendSettle(nil, a.queue(), a.ids("ids")))
		} else {
			s.propose(a, AppendReturn(nil, a.queue(), a.ids("ids")))
		}
	case "delete":
		s.propose(a, AppendDelete(nil, a.queue(), a.flag("if-empty")))
	case "purge":
		upto, except := s.d.PurgeOps(a.queue())
		fmt.Fprintf(&s.out, "up to %d but %v\n", upto, except)
		s.propose(a, AppendPurge(nil, a.queue(), upto, except))
	case "marks":
		s.propose(a, s.d.AppendMarks(nil))
	case "end-session":
		s.propose(a, AppendEndSession(nil, entry.SessionID(a.number("of"))))
	case "commit":
		s.commit()
	case "lead":
		s.lead(a)
	case "state":
		s.state(a)
	default:
		s.dispatcherStep(a)
	}
}

func (s *script) dispatcherStep(a args) {
	deliver := func(d Delivery) { s.delivery(a, d) }
	switch a.td.Cmd {
	case "attach":
		err := s.d.Attach(Consumer{
			ID: a.consumer(), Holder: a.holder(), Queue: a.queue(), NoAck: a.flag("no-ack"), Exclusive: a.flag("exclusive"),
			Prefetch: uint32(a.number("prefetch")), Link: uint32(a.number("link")), Priority: int32(a.number("priority")),
		})
		if err != nil {
			fmt.Fprintln(&s.out, err)
		}
	case "detach":
		s.d.Detach(a.consumer())
	case "adopt":
		if refused := s.d.Adopt(a.consumer(), a.holder(), a.queue(), a.ids("ids")); len(refused) > 0 {
			fmt.Fprintf(&s.out, "%v refused\n", refused)
		}
	case "suspend":
		s.d.Suspend(a.holder())
	case "rejoin":
		fmt.Fprintln(&s.out, s.d.Rejoin(a.consumer(), uint32(a.number("n"))))
	case "resume":
		has := func(_ HolderID, _ entry.QueueID, m entry.MessageID) bool { return within(a.ids("has"), m) }
		for _, c := range s.d.Resume([]HolderID{a.holder()}, has, deliver) {
			fmt.Fprintf(&s.out, "queue %d: %v returned\n", c.Queue, c.Ranges)
			s.propose(a, AppendReturn(nil, c.Queue, c.Ranges))
		}
	case "again":
		if d, ok := s.d.Again(a.consumer(), entry.MessageID(a.number("id"))); ok {
			deliver(d)
		}
	case "limit":
		s.d.HolderLimit(a.holder(), uint32(a.number("n")))
	case "credit":
		s.d.Credit(a.consumer(), uint32(a.number("n")))
	case "dispatch":
		if a.flag("queue") {
			s.d.Dispatch(a.queue(), deliver)
		} else {
			s.d.DispatchPending(deliver)
		}
	case "get":
		if d, remaining, ok := s.d.Get(a.queue(), a.holder(), a.flag("no-ack")); ok {
			deliver(d)
			fmt.Fprintf(&s.out, "%d remain\n", remaining)
		} else {
			fmt.Fprintln(&s.out, "empty")
		}
	case "clock":
		s.now = int64(a.milliseconds("ms"))
		s.d.Clock(s.now)
	case "expired":
		s.d.Expired(func(q entry.QueueID, ranges []entry.Range) {
			fmt.Fprintf(&s.out, "queue %d: %v expired\n", q, ranges)
			s.propose(a, AppendSettle(nil, q, ranges))
		})
	case "close":
		var holders []HolderID
		for _, r := range a.ids("holders") {
			holders = append(holders, HolderID(r.First))
		}
		for _, c := range s.d.CloseHolders(holders...) {
			fmt.Fprintf(&s.out, "queue %d: %v\n", c.Queue, c.Ranges)
			s.propose(a, AppendReturn(nil, c.Queue, c.Ranges))
		}
	default:
		a.td.Fatalf(a.t, "unknown directive")
	}
}

func (s *script) propose(a args, ops []byte) {
	s.proposed = append(s.proposed, twinSubmission{session: entry.SessionID(a.number("session")), seq: a.number("seq")})
	s.raw = append(s.raw, ops)
}

func (s *script) delivery(a args, d Delivery) {
	fmt.Fprintf(&s.out, "queue %d message %d -> consumer %d of %d", d.Queue, d.Message, d.Consumer, d.Holder)
	if d.Redelivered {
		fmt.Fprintf(&s.out, " redelivered, returned %d times", d.Deliveries)
	}
	if d.NoAck {
		fmt.Fprint(&s.out, " no-ack")
		s.propose(a, AppendSettle(nil, d.Queue, []entry.Range{{First: d.Message, Last: d.Message}}))
	}
	fmt.Fprintln(&s.out)
}

func (s *script) commit() {
	payload := AppendBatch(nil, max(s.now, 1000*int64(s.m.Applied()+1)))
	for i, one := range s.proposed {
		payload = AppendSubmission(payload, one.session, one.seq, s.raw[i])
	}
	s.proposed, s.raw = nil, nil
	must(s.m.Apply(s.m.Applied()+1, payload, &s.fx))
	fmt.Fprintf(&s.out, "entry %d", s.m.Applied())
	if len(s.fx.Released) > 0 {
		fmt.Fprintf(&s.out, " releases %v", s.fx.Released)
	}
	fmt.Fprintln(&s.out)
	for _, r := range s.fx.Results {
		if r.Duplicate {
			fmt.Fprintf(&s.out, "session %d: %d is a duplicate\n", r.Session, r.Seq)
		}
		for _, o := range r.Ops {
			fmt.Fprintf(&s.out, "op %d: %v: %v %d\n", o.Op, o.Kind, o.Code, o.N)
		}
	}
	if s.fx.Dropped > 0 {
		fmt.Fprintf(&s.out, "%d are there already\n", s.fx.Dropped)
	}
	for _, c := range s.d.Applied(&s.fx) {
		fmt.Fprintf(&s.out, "consumer %d of %d is cancelled\n", c.ID, c.Holder)
	}
}

// lead restarts from a checkpoint, with a new dispatcher.
func (s *script) lead(a args) {
	s.m = restored(a.t, s.m)
	s.d = NewDispatcher(s.m)
	s.d.Clock(s.now)
	s.proposed, s.raw = nil, nil
}

func (s *script) state(a args) {
	for _, q := range s.m.Queues() {
		info, _ := s.m.Queue(q)
		fmt.Fprintf(&s.out, "queue %d: %d messages, %d bytes, %d ready, %d unacked, %d consumers\n",
			q, info.Messages, info.Bytes, s.d.Ready(q), s.d.Unacked(q), s.d.Consumers(q))
	}
	if len(s.m.Queues()) == 0 {
		fmt.Fprintln(&s.out, "no queues")
	}
}
