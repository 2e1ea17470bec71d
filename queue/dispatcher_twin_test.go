package queue

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"pgregory.net/rapid"
)

// dispatchTwin knows of each message given out who has it, in a map, and looks
// through everything for everything. It drives a dispatcher as a broker would:
// ops are proposed, and applied some time later in order.
type dispatchTwin struct {
	m        *Machine
	d        *Dispatcher
	fx       Effects
	proposed [][]byte // ops, one submission each
	given    map[entry.QueueID]map[entry.MessageID]*twinDelivery
	marks    map[entry.QueueID]entry.MessageID // when this leader began
	specs    map[ConsumerID]Consumer
	link     map[ConsumerID]uint32
	limits   map[HolderID]uint32
	away     map[HolderID]bool
	lost     map[HolderID]map[entry.QueueID][]entry.MessageID // answers to Get that never arrived
	nextID   ConsumerID
	now      int64
	offered  map[entry.QueueID]entry.MessageID   // the newest at the last Expired
	passed   map[entry.QueueID][]entry.MessageID // expired since then
}

type twinDelivery struct {
	consumer ConsumerID // 0: Get
	holder   HolderID
	counts   bool // towards limits, while not in limbo
	limbo    bool
}

func newDispatchTwin(m *Machine) *dispatchTwin {
	w := &dispatchTwin{m: m, now: 1e9, given: map[entry.QueueID]map[entry.MessageID]*twinDelivery{}}
	w.apply(AppendCreate(nil, 1, Settings{}))
	w.apply(AppendCreate(nil, 2, Settings{Expires: true, MessageTTL: 3 * time.Millisecond}))
	w.apply(AppendCreate(nil, 3, Settings{Expires: true, MessageTTL: time.Hour}))
	w.lead()
	return w
}

// lead begins a new leader's time.
func (w *dispatchTwin) lead() {
	w.d = NewDispatcher(w.m)
	w.specs, w.link, w.limits = map[ConsumerID]Consumer{}, map[ConsumerID]uint32{}, map[HolderID]uint32{}
	w.away, w.lost = map[HolderID]bool{}, map[HolderID]map[entry.QueueID][]entry.MessageID{}
	w.marks = map[entry.QueueID]entry.MessageID{}
	w.offered, w.passed = map[entry.QueueID]entry.MessageID{}, map[entry.QueueID][]entry.MessageID{}
	w.d.Clock(w.now)
	for _, q := range w.m.Queues() {
		w.given[q] = map[entry.MessageID]*twinDelivery{}
		info, _ := w.m.Queue(q)
		w.marks[q], w.offered[q] = info.Mark, info.Last
	}
}

func (w *dispatchTwin) apply(ops []byte) {
	payload := AppendSubmission(AppendBatch(nil, w.now), 0, 0, ops)
	if err := w.m.Apply(w.m.Applied()+1, payload, &w.fx); err != nil {
		panic(err)
	}
}

func (w *dispatchTwin) propose(ops []byte) { w.proposed = append(w.proposed, ops) }

// ready is what is waiting and not given out, ascending.
func (w *dispatchTwin) ready(q entry.QueueID) (ready []Message) {
	w.m.Each(q, 0, func(m Message) bool {
		if w.given[q][m.ID] == nil {
			ready = append(ready, m)
		}
		return true
	})
	return ready
}

// held counts deliveries not in limbo for which is true.
func (w *dispatchTwin) held(is func(*twinDelivery) bool) (n uint32) {
	for _, all := range w.given {
		for _, one := range all {
			if one.counts && !one.limbo && is(one) {
				n++
			}
		}
	}
	return n
}

// may tells whether a consumer's limits allow a delivery.
func (w *dispatchTwin) may(c Consumer) bool {
	if w.away[c.Holder] || c.Link > 0 && w.link[c.ID] >= c.Link {
		return false
	}
	if c.NoAck {
		return true
	}
	if c.Prefetch > 0 && w.held(func(d *twinDelivery) bool { return d.consumer == c.ID }) >= c.Prefetch {
		return false
	}
	limit := w.limits[c.Holder]
	return limit == 0 || w.held(func(d *twinDelivery) bool { return d.holder == c.Holder }) < limit
}

// deliver checks one delivery of a dispatch and notes it.
func (w *dispatchTwin) deliver(t *rapid.T, d Delivery) {
	w.check(t, d)
	c, ok := w.specs[d.Consumer]
	if !ok || c.Queue != d.Queue || c.Holder != d.Holder || c.NoAck != d.NoAck {
		t.Fatalf("delivery %+v for consumer %+v", d, c)
	}
	if !w.may(c) {
		t.Fatalf("delivery %+v is above the limits of %+v", d, c)
	}
	for _, other := range w.specs {
		shared := other.Holder == c.Holder && w.limits[c.Holder] > 0 // served in turn
		if other.Queue == d.Queue && other.Priority > c.Priority && w.may(other) && !shared {
			t.Fatalf("delivery %+v for %+v, before %+v", d, c, other)
		}
	}
	w.link[c.ID]++
	w.given[d.Queue][d.Message] = &twinDelivery{consumer: c.ID, holder: c.Holder, counts: !c.NoAck, limbo: c.NoAck}
	if d.NoAck {
		w.propose(AppendSettle(nil, d.Queue, []entry.Range{{First: d.Message, Last: d.Message}}))
	}
}

func (w *dispatchTwin) check(t *rapid.T, d Delivery) {
	w.pass(d.Queue, d.Message)
	ready := w.ready(d.Queue)
	if at, ok := w.m.Expiry(d.Queue, d.Message); ok && at <= w.now && (at != atOnce || d.Message <= w.offered[d.Queue]) {
		t.Fatalf("delivery %+v at %d, expired at %d", d, w.now, at)
	}
	if len(ready) == 0 || ready[0].ID != d.Message {
		t.Fatalf("delivery %+v, ready are %v", d, ready)
	}
	m := ready[0]
	if d.Ref != m.Ref || d.Deliveries != m.Deliveries || d.Redelivered != (m.Deliveries > 0 || m.ID <= w.marks[d.Queue]) {
		t.Fatalf("delivery %+v of %+v, mark %d", d, m, w.marks[d.Queue])
	}
}

func (w *dispatchTwin) dispatch(t *rapid.T) {
	w.d.DispatchPending(func(d Delivery) { w.deliver(t, d) })
	for _, c := range w.specs {
		if !w.may(c) {
			continue
		}
		w.pass(c.Queue, 0)
		if len(w.ready(c.Queue)) > 0 {
			t.Fatalf("consumer %+v got nothing, ready are %v", c, w.ready(c.Queue))
		}
	}
}

// pass has what expired at the head of a queue in limbo, up to a message.
func (w *dispatchTwin) pass(q entry.QueueID, upto entry.MessageID) {
	for _, m := range w.ready(q) {
		if at, ok := w.m.Expiry(q, m.ID); m.ID == upto || !ok || at > w.now {
			return
		}
		w.given[q][m.ID] = &twinDelivery{limbo: true}
		w.passed[q] = append(w.passed[q], m.ID)
	}
}

// expired settles what expired.
func (w *dispatchTwin) expired(t *rapid.T) {
	got := map[entry.QueueID][]entry.MessageID{}
	w.d.Expired(func(q entry.QueueID, ranges []entry.Range) {
		for _, r := range ranges {
			for id := r.First; id <= r.Last; id++ {
				got[q] = append(got[q], id)
			}
		}
		slices.Sort(got[q])
		w.propose(AppendSettle(nil, q, ranges))
	})
	for _, q := range w.m.Queues() {
		w.pass(q, 0)
		slices.Sort(w.passed[q])
		if !slices.Equal(got[q], w.passed[q]) {
			t.Fatalf("queue %d: %v expired, want %v", q, got[q], w.passed[q])
		}
		delete(w.passed, q)
		info, _ := w.m.Queue(q)
		w.offered[q] = info.Last
	}
}

// commit applies the oldest proposal.
func (w *dispatchTwin) commit() {
	if len(w.proposed) == 0 {
		return
	}
	ops := w.proposed[0]
	w.proposed = w.proposed[1:]
	w.apply(ops)
	for _, c := range w.d.Applied(&w.fx) {
		delete(w.specs, c.ID)
	}
	for _, q := range w.fx.Deleted {
		delete(w.given, q)
		delete(w.passed, q)
		for _, c := range w.specs {
			if c.Queue == q {
				panic(fmt.Sprintf("consumer %+v was not cancelled", c))
			}
		}
	}
	for _, c := range w.fx.Returned {
		for id := range w.given[c.Queue] {
			if within(c.Ranges, id) {
				delete(w.given[c.Queue], id)
			}
		}
	}
	for q, all := range w.given {
		for id := range all {
			if _, ok := w.m.Message(q, id); !ok {
				delete(all, id)
			}
		}
	}
}

// close is what CloseHolder should return.
func (w *dispatchTwin) close(h HolderID) (changes []Change) {
	for q := entry.QueueID(1); q < 30; q++ {
		var ids []entry.MessageID
		for id, one := range w.given[q] {
			if one.holder == h && !one.limbo {
				one.limbo = true
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		var ranges []entry.Range
		for _, id := range ids {
			ranges = entry.AppendID(ranges, id)
		}
		if ranges != nil {
			changes = append(changes, Change{q, ranges})
		}
	}
	for id, c := range w.specs {
		if c.Holder == h {
			delete(w.specs, id)
		}
	}
	delete(w.limits, h)
	delete(w.away, h)
	delete(w.lost, h)
	return changes
}

// drawHeld picks some messages, mostly some that the holder has.
func (w *dispatchTwin) drawHeld(t *rapid.T, h HolderID, q entry.QueueID) []entry.Range {
	var ids []entry.MessageID
	for id, one := range w.given[q] {
		if one.holder == h && !one.limbo {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return []entry.Range{{First: 1, Last: 3}}
	}
	var ranges []entry.Range
	first, step := die(t, len(ids)), 1+die(t, 3)
	for i := first; i < len(ids) && len(ranges) < 5; i += step {
		ranges = entry.AppendID(ranges, ids[i])
	}
	return ranges
}

// settle has a holder settle or return messages; those that it doesn't hold
// are not proposed, as a broker does it.
func (w *dispatchTwin) settle(t *rapid.T, h HolderID, q entry.QueueID, ranges []entry.Range) {
	want := uint64(0)
	var mine []entry.Range
	for _, id := range slices.Sorted(maps.Keys(w.given[q])) {
		if one := w.given[q][id]; within(ranges, id) && one.holder == h && !one.limbo {
			one.limbo = true
			mine = append(mine, entry.Range{First: id, Last: id})
			want++
		}
	}
	if got := w.d.Settled(h, q, ranges); got != want {
		t.Fatalf("settled %d of %v, want %d", got, ranges, want)
	}
	if die(t, 2) == 1 {
		w.propose(AppendReturn(nil, q, mine))
	} else {
		w.propose(AppendSettle(nil, q, mine))
	}
}

func (w *dispatchTwin) compare(t *rapid.T) {
	for _, q := range w.m.Queues() {
		info, _ := w.m.Queue(q)
		ready := uint64(len(w.ready(q)))
		consumers := 0
		for _, c := range w.specs {
			if c.Queue == q {
				consumers++
			}
		}
		if w.d.Ready(q) != ready || w.d.Unacked(q) != info.Messages-ready || w.d.Consumers(q) != consumers {
			t.Fatalf("queue %d: %d ready, %d unacked, %d consumers, want %d, %d, %d", q,
				w.d.Ready(q), w.d.Unacked(q), w.d.Consumers(q), ready, info.Messages-ready, consumers)
		}
		o := w.d.outlets[q]
		if o == nil {
			continue
		}
		o.owners.check(t.Fatalf)
		o.returned.check(t.Fatalf)
		if o.owners.live != len(w.given[q]) {
			t.Fatalf("queue %d: %d have an owner, want %d", q, o.owners.live, len(w.given[q]))
		}
		upto, except := w.d.PurgeOps(q)
		if upto != info.Last {
			t.Fatalf("queue %d: purge up to %d, want %d", q, upto, info.Last)
		}
		n := uint64(0)
		for _, r := range except {
			n += r.Len()
		}
		for id := range w.given[q] {
			if !within(except, id) || n != uint64(len(w.given[q])) {
				t.Fatalf("queue %d: purge spares %v, not %d", q, except, id)
			}
		}
	}
}

func TestDispatcherDoesWhatItsTwinDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newDispatchTwin(NewMachine())
		t.Repeat(map[string]func(*rapid.T){"act": func(t *rapid.T) {
			for range 10 {
				w.act(t)
				w.expired(t)
				w.compare(t)
			}
		}})
	})
}

// act does one thing that a broker may do.
func (w *dispatchTwin) act(t *rapid.T) {
	h, q := HolderID(1+die(t, 4)), entry.QueueID(1+die(t, 3))
	switch die(t, 24) {
	case 0, 1, 2:
		var ops []byte
		for range 1 + die(t, 30) {
			to := []entry.QueueID{entry.QueueID(1 + die(t, 4))}
			if die(t, 3) == 0 {
				ops = AppendEnqueueExpiring(ops, lifetimes[die(t, len(lifetimes))], to, 0)
			} else {
				ops = AppendEnqueue(ops, to, 0)
			}
		}
		w.propose(ops)
	case 3:
		w.attach(t, h, q)
	case 4:
		id := ConsumerID(die(t, int(w.nextID)+1))
		w.d.Detach(id)
		delete(w.specs, id)
	case 5:
		w.limits[h] = limits[die(t, len(limits))]
		w.d.HolderLimit(h, w.limits[h])
	case 6, 7:
		id, n := ConsumerID(die(t, int(w.nextID)+1)), uint32(1+die(t, 9))
		w.d.Credit(id, n)
		w.link[id] -= min(n, w.link[id])
	case 8, 9, 10, 11:
		w.settle(t, h, q, w.drawHeld(t, h, q))
	case 12:
		w.get(t, q, h)
	case 13:
		want, got := w.close(h), w.d.CloseHolder(h)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("holder %d had %v, want %v", h, got, want)
		}
		for _, c := range got {
			w.propose(AppendReturn(nil, c.Queue, c.Ranges))
		}
	case 14, 15, 16:
		for range 1 + die(t, 4) {
			w.commit()
		}
		if die(t, 2) == 1 {
			w.dispatch(t)
		}
	case 17:
		w.rare(t, q)
	case 18:
		w.dispatch(t)
	case 19:
		w.d.Dispatch(q, func(d Delivery) { w.deliver(t, d) })
	case 22, 23:
		w.breakLink(t, h)
	case 20, 21:
		w.now += int64(die(t, 4)) * int64(time.Millisecond)
		w.d.Clock(w.now)
	}
}

// limits are those that consumers and holders set.
var limits = []uint32{0, 1, 2, 5, 40}

// die throws a die. rapid's own integers are mostly small, which makes some
// choices all but impossible.
func die(t *rapid.T, sides int) int {
	u := rapid.Uint32().Draw(t, "die") * 2654435761
	return int(uint64(u) * uint64(sides) >> 32)
}

func (w *dispatchTwin) attach(t *rapid.T, h HolderID, q entry.QueueID) {
	c := Consumer{
		ID:        w.nextID + 1,
		Queue:     q,
		Holder:    h,
		NoAck:     die(t, 5) == 4,
		Exclusive: die(t, 9) == 8,
		Prefetch:  limits[die(t, len(limits))],
		Link:      limits[die(t, len(limits))],
		Priority:  []int32{0, 0, 0, 5, -1}[die(t, 5)],
	}
	var want error
	for _, other := range w.specs {
		if other.Queue == c.Queue && (other.Exclusive || c.Exclusive) {
			want = ErrExclusiveUse
		}
	}
	if w.given[c.Queue] == nil {
		want = ErrNoQueue
	}
	if got := w.d.Attach(c); got != want {
		t.Fatalf("attach %+v: %v, want %v", c, got, want)
	}
	if want == nil {
		w.nextID++
		w.specs[c.ID] = c
		w.link[c.ID] = 0
		if w.d.Attach(c) != ErrConsumer {
			t.Fatalf("attached twice: %+v", c)
		}
	}
}

func (w *dispatchTwin) get(t *rapid.T, q entry.QueueID, h HolderID) {
	noAck := die(t, 2) == 1
	w.pass(q, 0)
	if !noAck && w.found(t, q, h) {
		return
	}
	before := len(w.ready(q))
	d, remaining, ok := w.d.Get(q, h, noAck)
	if ok != (before > 0) || ok && remaining != uint64(before-1) {
		t.Fatalf("get: %v, %d remain of %d", ok, remaining, before)
	}
	if !ok {
		return
	}
	w.check(t, d)
	if d.Consumer != 0 || d.Holder != h || d.NoAck != noAck {
		t.Fatalf("get by %d gave %+v", h, d)
	}
	w.given[q][d.Message] = &twinDelivery{holder: h, limbo: noAck}
	if noAck {
		w.propose(AppendSettle(nil, q, []entry.Range{{First: d.Message, Last: d.Message}}))
	}
}

// found expects that a Get answers with what a holder's Get was given before, if
// it never got that.
func (w *dispatchTwin) found(t *rapid.T, q entry.QueueID, h HolderID) bool {
	for len(w.lost[h][q]) > 0 {
		id := w.lost[h][q][0]
		w.lost[h][q] = w.lost[h][q][1:]
		if one := w.given[q][id]; one == nil || one.holder != h || one.limbo || one.consumer != 0 {
			continue
		}
		d, remaining, ok := w.d.Get(q, h, false)
		if !ok || d.Message != id || d.Holder != h || d.Consumer != 0 || remaining != uint64(len(w.ready(q))) {
			t.Fatalf("get: %v %+v, %d remain, want the lost message %d", ok, d, remaining, id)
		}
		return true
	}
	return false
}

// breakLink suspends a holder, or resumes it when some of what it was given was
// lost.
func (w *dispatchTwin) breakLink(t *rapid.T, h HolderID) {
	if w.d.holders[h] == nil {
		return
	}
	if !w.away[h] {
		if die(t, 4) == 0 {
			w.away[h] = true
			w.d.Suspend(h)
		}
		return
	}
	delete(w.away, h)
	delete(w.lost, h)
	salt := uint64(die(t, 1<<20))
	has := func(id entry.MessageID) bool { return (uint64(id)+salt)*2654435761>>7&1 == 0 }
	var again []string
	returned := map[entry.QueueID][]entry.Range{}
	for q := entry.QueueID(1); q < 30; q++ {
		for _, id := range slices.Sorted(maps.Keys(w.given[q])) {
			one := w.given[q][id]
			spec, attached := w.specs[one.consumer]
			switch {
			case one.holder != h || one.limbo || has(id):
			case one.consumer == 0:
				if w.lost[h] == nil {
					w.lost[h] = map[entry.QueueID][]entry.MessageID{}
				}
				w.lost[h][q] = append(w.lost[h][q], id)
			case !attached:
				one.limbo = true
				returned[q] = entry.AppendID(returned[q], id)
			default:
				w.link[spec.ID]++
				again = append(again, fmt.Sprint(q, id, spec.ID))
			}
		}
	}
	var got []string
	changes := w.d.Resume([]HolderID{h}, func(_ HolderID, _ entry.QueueID, id entry.MessageID) bool { return has(id) }, func(d Delivery) {
		got = append(got, fmt.Sprint(d.Queue, d.Message, d.Consumer))
	})
	if !slices.Equal(got, again) {
		t.Fatalf("holder %d gets %v again, want %v", h, got, again)
	}
	if len(changes) != len(returned) {
		t.Fatalf("returned %v, want %v", changes, returned)
	}
	for _, c := range changes {
		if !slices.Equal(c.Ranges, returned[c.Queue]) {
			t.Fatalf("returned %v, want %v", changes, returned)
		}
		w.propose(AppendReturn(nil, c.Queue, c.Ranges))
	}
}

// rare is what happens seldom: purges, marks, a queue goes, or the leader
// changes.
func (w *dispatchTwin) rare(t *rapid.T, q entry.QueueID) {
	switch die(t, 12) {
	case 0, 1, 2, 3:
		upto, except := w.d.PurgeOps(q)
		w.propose(AppendPurge(nil, q, upto, except))
	case 4, 5, 6, 7:
		w.propose(w.d.AppendMarks(nil))
	case 8:
		w.propose(AppendDelete(nil, q, false))
	case 9, 10, 11:
		for len(w.proposed) > 0 {
			w.commit()
		}
		held := maps.Clone(w.given)
		specs := w.specs // lead makes new ones
		w.m = restored(t, w.m)
		w.lead()
		if die(t, 2) == 1 {
			w.adopt(t, held, specs)
		}
	}
}

// adopt attaches to the new leader what was attached to the old one.
func (w *dispatchTwin) adopt(t *rapid.T, held map[entry.QueueID]map[entry.MessageID]*twinDelivery, specs map[ConsumerID]Consumer) {
	for _, id := range slices.Sorted(maps.Keys(specs)) {
		if err := w.d.Attach(specs[id]); err != nil {
			t.Fatalf("attach again: %v", err)
		}
		w.specs[id] = specs[id]
	}
	for q, all := range held {
		for _, id := range slices.Sorted(maps.Keys(all)) {
			one := all[id]
			if one.limbo {
				continue
			}
			if _, ok := specs[one.consumer]; !ok {
				one.consumer, one.counts = 0, false
			}
			w.d.Adopt(one.consumer, one.holder, q, []entry.Range{{First: id, Last: id}})
			w.given[q][id] = one
		}
	}
}
