package queue

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"pgregory.net/rapid"
)

// twin is the machine again in plain slices and maps, as dumb as can be.
type twin struct {
	applied  uint64
	now      int64
	sessions map[entry.SessionID]uint64
	queues   map[entry.QueueID]*twinQueue
	// producers are in the order in which they will be forgotten.
	producers []*twinProducer
}

type twinQueue struct {
	settings Settings
	last     entry.MessageID
	mark     entry.MessageID
	messages []Message // by id
	expiry   map[entry.MessageID]int64
}

func newTwin() *twin {
	return &twin{sessions: map[entry.SessionID]uint64{}, queues: map[entry.QueueID]*twinQueue{}}
}

// twinOp is an op before it is encoded.
type twinOp struct {
	kind     Kind
	queue    entry.QueueID
	queues   []entry.QueueID
	content  string
	ranges   []entry.Range
	upto     entry.MessageID
	ifEmpty  bool
	settings Settings
	session  entry.SessionID
	lifetime time.Duration
	producer string // of an enqueue with a number
	number   uint64
}

func (o twinOp) append(dst []byte) []byte {
	if o.number > 0 {
		dst = AppendOnce(dst, "/", []byte(o.producer), o.number)
	}
	switch o.kind {
	case Enqueue:
		return append(AppendEnqueue(dst, o.queues, len(o.content)), o.content...)
	case EnqueueExpiring:
		return append(AppendEnqueueExpiring(dst, o.lifetime, o.queues, len(o.content)), o.content...)
	case Settle:
		return AppendSettle(dst, o.queue, o.ranges)
	case Return:
		return AppendReturn(dst, o.queue, o.ranges)
	case Create:
		return AppendCreate(dst, o.queue, o.settings)
	case Delete:
		return AppendDelete(dst, o.queue, o.ifEmpty)
	case Purge:
		return AppendPurge(dst, o.queue, o.upto, o.ranges)
	case Mark:
		return AppendMark(dst, o.queue, o.upto)
	case EndSession:
		return AppendEndSession(dst, o.session)
	}
	panic(o.kind)
}

func (o twinOp) enqueues() bool { return o.kind == Enqueue || o.kind == EnqueueExpiring }

// limit notes when a message expires.
func (q *twinQueue) limit(id entry.MessageID, o twinOp, now int64) bool {
	var lifetimes []time.Duration
	if q.settings.Expires {
		lifetimes = append(lifetimes, q.settings.MessageTTL)
	}
	if o.kind == EnqueueExpiring {
		lifetimes = append(lifetimes, o.lifetime)
	}
	if len(lifetimes) == 0 {
		return false
	}
	if q.expiry[id] = now + int64(slices.Min(lifetimes)); slices.Min(lifetimes) == 0 {
		q.expiry[id] = atOnce
	}
	return true
}

type twinSubmission struct {
	session entry.SessionID
	seq     uint64
	ops     []twinOp
}

// encode returns the batch, and where each content lies, in order.
func encode(now int64, subs []twinSubmission) (payload []byte, contents []entry.Ref) {
	payload = AppendBatch(nil, now)
	for _, s := range subs {
		var ops []byte
		var at []entry.Ref
		for _, o := range s.ops {
			ops = o.append(ops)
			if o.enqueues() {
				at = append(at, entry.Ref{Offset: uint32(len(ops) - len(o.content)), Size: uint32(len(o.content))})
			}
		}
		before := len(payload)
		payload = AppendSubmission(payload, s.session, s.seq, ops)
		if len(payload)-before != SubmissionSize(s.seq, len(ops)) {
			panic("SubmissionSize")
		}
		for _, r := range at {
			r.Offset += uint32(len(payload) - len(ops))
			contents = append(contents, r)
		}
	}
	return payload, contents
}

func within(ranges []entry.Range, id entry.MessageID) bool {
	return slices.ContainsFunc(ranges, func(r entry.Range) bool { return r.First <= id && id <= r.Last })
}

func (w *twin) live() map[uint64]bool {
	all := map[uint64]bool{}
	for _, q := range w.queues {
		for _, m := range q.messages {
			all[m.Ref.Index] = true
		}
	}
	return all
}

// apply is what Apply should do; it returns the effects in fx's terms.
func (w *twin) apply(index uint64, now int64, subs []twinSubmission, contents []entry.Ref) Effects {
	var fx Effects
	before := w.live()
	before[index] = true
	w.applied, w.now = index, max(w.now, now)
	w.forget()
	for _, s := range subs {
		r := Result{Session: s.session, Seq: s.seq}
		if last, known := w.sessions[s.session]; known && s.seq <= last {
			r.Duplicate = true
		} else if s.session != 0 {
			w.sessions[s.session] = s.seq
		}
		for i, o := range s.ops {
			var ref entry.Ref
			if o.enqueues() {
				ref, contents = contents[0], contents[1:]
				ref.Index = index
			}
			if o.enqueues() && !w.judge(i, o, &r, &fx) || r.Duplicate {
				continue
			}
			w.applyOp(i, o, ref, &r, &fx)
		}
		fx.Results = append(fx.Results, r)
	}
	after := w.live()
	for i := range before {
		if !after[i] {
			fx.Released = append(fx.Released, i)
		}
	}
	slices.Sort(fx.Released)
	return fx
}

func (w *twin) applyOp(ordinal int, o twinOp, ref entry.Ref, r *Result, fx *Effects) {
	say := func(code Code, n int) {
		r.Ops = append(r.Ops, OpResult{Op: ordinal, Kind: o.kind, Code: code, N: uint64(n)})
	}
	touch := func(id entry.QueueID) {
		if !slices.Contains(fx.Touched, id) {
			fx.Touched = append(fx.Touched, id)
		}
	}
	q := w.queues[o.queue]
	switch {
	case o.enqueues():
		if slices.ContainsFunc(o.queues, func(id entry.QueueID) bool { return w.queues[id] != nil }) {
			w.remember(o)
		}
		for _, id := range o.queues {
			if q := w.queues[id]; q != nil {
				q.last++
				q.messages = append(q.messages, Message{ID: q.last, Ref: ref})
				touch(id)
				if q.limit(q.last, o, w.now) && !slices.Contains(fx.Expiring, id) {
					fx.Expiring = append(fx.Expiring, id)
				}
			}
		}
	case o.kind == EndSession:
		delete(w.sessions, o.session)
	case o.kind == Create && q != nil:
		say(Exists, 0)
	case o.kind == Create:
		w.queues[o.queue] = &twinQueue{settings: o.settings, expiry: map[entry.MessageID]int64{}}
		fx.Created = append(fx.Created, o.queue)
	case q == nil:
		if o.kind == Delete || o.kind == Purge {
			say(NoQueue, 0)
		}
	case o.kind == Settle:
		q.messages = slices.DeleteFunc(q.messages, func(m Message) bool { return within(o.ranges, m.ID) })
		fx.Settled = append(fx.Settled, Change{o.queue, o.ranges})
		touch(o.queue)
	case o.kind == Return:
		for i, m := range q.messages {
			for _, r := range o.ranges { // a range twice counts twice
				if r.First <= m.ID && m.ID <= r.Last {
					q.messages[i].Deliveries++
				}
			}
		}
		fx.Returned = append(fx.Returned, Change{o.queue, o.ranges})
		touch(o.queue)
	case o.kind == Delete && o.ifEmpty && len(q.messages) > 0:
		say(NotEmpty, len(q.messages))
	case o.kind == Delete:
		say(OK, len(q.messages))
		delete(w.queues, o.queue)
		fx.Deleted = append(fx.Deleted, o.queue)
	case o.kind == Purge:
		n := len(q.messages)
		q.messages = slices.DeleteFunc(q.messages, func(m Message) bool { return m.ID <= o.upto && !within(o.ranges, m.ID) })
		say(OK, n-len(q.messages))
		fx.Purged = append(fx.Purged, Purged{o.queue, o.upto, sortedRanges(o.ranges)})
		touch(o.queue)
	case o.kind == Mark:
		q.mark = max(q.mark, o.upto)
	}
}

func sortedRanges(ranges []entry.Range) []entry.Range {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b entry.Range) int { return int(int64(a.First) - int64(b.First)) })
	return ranges
}

// print renders effects for comparison. Order within Released is free, and a
// queue that is made again under its id, which happens only here, is named
// twice.
func (fx *Effects) print() string {
	released := slices.Sorted(slices.Values(fx.Released))
	once := func(queues []entry.QueueID) (named []entry.QueueID) {
		for _, q := range queues {
			if !slices.Contains(named, q) {
				named = append(named, q)
			}
		}
		return named
	}
	return fmt.Sprintf("results %+v\ntouched %v expiring %v created %v deleted %v released %v\nsettled %v returned %v purged %v dropped %d too old %v",
		fx.Results, once(fx.Touched), once(fx.Expiring), fx.Created, fx.Deleted, released, fx.Settled, fx.Returned, fx.Purged, fx.Dropped, fx.TooOld)
}

// compare holds the machine's state against the twin's.
func (w *twin) compare(fail func(string, ...any), m *Machine) {
	if m.Applied() != w.applied || m.Now() != w.now {
		fail("applied %d at %d, want %d at %d", m.Applied(), m.Now(), w.applied, w.now)
	}
	if got, want := m.Sessions(), slices.Sorted(maps.Keys(w.sessions)); !slices.Equal(got, want) {
		fail("sessions %v, want %v", got, want)
	}
	for id, seq := range w.sessions {
		if got, _, _ := m.Session(id); got != seq {
			fail("session %d at %d, want %d", id, got, seq)
		}
	}
	if got, want := m.Queues(), slices.Sorted(maps.Keys(w.queues)); !slices.Equal(got, want) {
		fail("queues %v, want %v", got, want)
	}
	for id, q := range w.queues {
		var size uint64
		for _, msg := range q.messages {
			size += uint64(msg.Ref.Size)
		}
		info, _ := m.Queue(id)
		want := Info{ID: id, Settings: q.settings, Messages: uint64(len(q.messages)), Bytes: size, Last: q.last, Mark: q.mark}
		if fmt.Sprint(info) != fmt.Sprint(want) {
			fail("queue %+v, want %+v", info, want)
		}
		var got []Message
		m.Each(id, 0, func(msg Message) bool { got = append(got, msg); return true })
		if !slices.Equal(got, q.messages) {
			fail("queue %d: messages %v, want %v", id, got, q.messages)
		}
		for _, msg := range q.messages {
			if got, ok := m.Message(id, msg.ID); !ok || got != msg {
				fail("message %v, want %v", got, msg)
			}
			at, expires := m.Expiry(id, msg.ID)
			if want, ok := q.expiry[msg.ID]; ok != expires || ok && at != want {
				fail("queue %d: message %d expires at %d, want %d", id, msg.ID, at, want)
			}
		}
		m.queues[id].check(fail)
	}
	w.compareProducers(fail, m)
	m.entries.check(fail)
	m.stamps.check(fail)
	m.stamps.each(0, func(index uint64, _ int64) bool {
		if !m.Live(index) {
			fail("entry %d has a stamp and no message", index)
		}
		return true
	})
	live := w.live()
	if m.entries.live != len(live) {
		fail("%d live entries, want %d", m.entries.live, len(live))
	}
	for index := range live {
		if !m.Live(index) {
			fail("entry %d is not live", index)
		}
	}
}

// drawOp makes an op that mostly hits something.
func (w *twin) drawOp(t *rapid.T) twinOp {
	kinds := []Kind{
		Enqueue, Enqueue, Enqueue, Enqueue, EnqueueExpiring, EnqueueExpiring, Enqueue, Enqueue, Enqueue, Settle, Settle, Settle, Settle, Settle,
		Return, Return, Return, Create, Create, Purge, Delete, Mark, EndSession,
	}
	o := twinOp{kind: kinds[die(t, len(kinds))], queue: entry.QueueID(1 + die(t, 4))}
	newest := 3
	if q := w.queues[o.queue]; q != nil {
		newest += int(q.last)
	}
	ranges := func() (rs []entry.Range) {
		for range 1 + die(t, 4) {
			first := entry.MessageID(die(t, newest))
			rs = append(rs, entry.Range{First: first, Last: first + []entry.MessageID{0, 0, 1, 5, 30}[die(t, 5)]})
		}
		return rs
	}
	switch o.kind {
	case Enqueue, EnqueueExpiring:
		o.queue, o.lifetime = 0, lifetimes[die(t, len(lifetimes))]
		for q := range entry.QueueID(4) {
			if die(t, 2) == 1 {
				o.queues = append(o.queues, q+1)
			}
		}
		o.content = strings.Repeat("x", die(t, 200))
		w.drawProducer(t, &o)
	case Settle, Return:
		o.ranges = ranges()
	case Purge:
		o.upto, o.ranges = entry.MessageID(die(t, newest)), ranges()
	case Mark:
		o.upto = entry.MessageID(die(t, newest))
	case Delete:
		o.ifEmpty = die(t, 2) == 1
	case Create:
		o.settings = Settings{Name: []string{"", "orders"}[die(t, 2)], AckQuorum: "all"}
		if die(t, 2) == 1 {
			o.settings.Expires, o.settings.MessageTTL = true, lifetimes[die(t, len(lifetimes))]
		}
	case EndSession:
		o.queue, o.session = 0, entry.SessionID(1+die(t, 3))
	}
	return o
}

// lifetimes are those of messages.
var lifetimes = []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 2 * time.Millisecond, 7 * time.Millisecond, time.Hour}

// check checks the invariants of its tables.
func (q *state) check(fail func(string, ...any)) {
	q.waiting.check(fail)
	if q.expirations == nil {
		return
	}
	q.expirations.check(fail)
	q.expirations.each(0, func(id uint64, _ int64) bool {
		if _, ok := q.waiting.get(id); !ok {
			fail("queue %d: message %d expires and isn't there", q.id, id)
		}
		return true
	})
}

func restored(t interface {
	Helper()
	Fatalf(string, ...any)
}, m *Machine) *Machine {
	t.Helper()
	var first, second bytes.Buffer
	if err := m.Checkpoint(&first); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	again, err := Restore(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	if err := again.Checkpoint(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatalf("a checkpoint of the restored machine differs: %v", err)
	}
	return again
}

func TestMachineDoesWhatItsTwinDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, w := NewMachine(), newTwin()
		m.producers.most = twinProducers
		var fx Effects
		for q := entry.QueueID(1); q <= 3; q++ {
			settings := Settings{Expires: q > 1, MessageTTL: lifetimes[q-1]}
			w.step(t, m, &fx, 1, []twinSubmission{{0, 0, []twinOp{{kind: Create, queue: q, settings: settings}}}})
		}
		t.Repeat(map[string]func(*rapid.T){
			"act": func(t *rapid.T) {
				for range 5 {
					w.act(t, m, &fx)
				}
				if die(t, 4) == 3 {
					m = restored(t, m)
					m.producers.most = twinProducers
				}
			},
			"": func(t *rapid.T) { w.compare(t.Fatalf, m) },
		})
	})
}

// act applies an entry, now and then one with many messages.
func (w *twin) act(t *rapid.T, m *Machine, fx *Effects) {
	if die(t, 8) == 7 {
		var ops []twinOp
		for range 1 + die(t, 300) {
			ops = append(ops, twinOp{kind: Enqueue, queues: []entry.QueueID{1, 2}, content: "x"})
		}
		w.step(t, m, fx, 1, []twinSubmission{{0, 0, ops}})
		return
	}
	var subs []twinSubmission
	for range die(t, 4) {
		s := twinSubmission{session: entry.SessionID(die(t, 4))}
		s.seq = uint64(int(w.sessions[s.session]) + die(t, 4))
		for range die(t, 8) {
			s.ops = append(s.ops, w.drawOp(t))
		}
		subs = append(subs, s)
	}
	w.step(t, m, fx, uint64(1+die(t, 3)), subs)
}

// step applies one entry to both and compares the effects.
func (w *twin) step(t *rapid.T, m *Machine, fx *Effects, gap uint64, subs []twinSubmission) {
	index, now := w.applied+gap, w.now+int64(gap)-2
	if die(t, 20) == 0 {
		now += int64(13 * time.Hour)
	}
	payload, contents := encode(now, subs)
	if err := m.Apply(index, payload, fx); err != nil {
		t.Fatalf("apply: %v", err)
	}
	want := w.apply(index, now, subs, contents)
	if got, want := fx.print(), want.print(); got != want {
		t.Fatalf("effects\n%s\nwant\n%s", got, want)
	}
}
