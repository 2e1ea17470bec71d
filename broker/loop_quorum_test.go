package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// scriptedOrder is an orderer that does as a test says. It notes in what order
// it is called.
type scriptedOrder struct {
	calls     []string
	term      uint64
	confirms  map[replicate.Quorum]uint64
	proposals [][]byte
	applied   uint64
	commit    uint64
}

func (o *scriptedOrder) propose(payload []byte) (uint64, error) {
	if o.term == 0 {
		return 0, replicate.ErrNotLeader
	}
	o.proposals = append(o.proposals, slices.Clone(payload))
	return uint64(len(o.proposals)), nil
}

func (o *scriptedOrder) advance(apply func(term, index uint64, payload []byte) error) (bool, error) {
	o.calls = append(o.calls, "advance")
	for o.applied < o.commit {
		o.applied++
		if err := apply(o.term, o.applied, o.proposals[o.applied-1]); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (o *scriptedOrder) completed(replicate.Completion) { o.calls = append(o.calls, "completed") }
func (o *scriptedOrder) tick()                          { o.calls = append(o.calls, "tick") }
func (o *scriptedOrder) inFlight() int                  { return 0 }
func (o *scriptedOrder) leads() uint64                  { return o.term }
func (o *scriptedOrder) ordering() bool                 { return o.term != 0 }

// paused steps down, as raft does: confirmed says so from then on.
func (o *scriptedOrder) paused() {
	o.calls = append(o.calls, "paused")
	o.term, o.confirms = 0, nil
}

func (o *scriptedOrder) confirmed(q replicate.Quorum) uint64 {
	if o.term == 0 {
		return 0
	}
	return max(o.confirms[q], min(o.commit, o.confirms[q]))
}

// tellingMachine settles each submission with its entry.
type tellingMachine struct{ loop *loop }

func (m *tellingMachine) appendBatch(dst []byte, _ int64) []byte { return dst }
func (m *tellingMachine) appendSubmission(dst []byte, _ entry.SessionID, seq uint64, _ []byte) []byte {
	return append(dst, byte(seq))
}

func (m *tellingMachine) apply(_, index uint64, payload []byte) error {
	for _, seq := range payload {
		m.loop.settle(1, uint64(seq), index, outcome{index: index})
	}
	return nil
}

func (m *tellingMachine) lead(uint64)   {}
func (m *tellingMachine) follow()       {}
func (m *tellingMachine) turn()         {}
func (m *tellingMachine) proposed()     {}
func (m *tellingMachine) refused(error) {}

// loopUnderTest is a loop whose rounds a test calls.
type loopUnderTest struct {
	*loop
	t     *testing.T
	order *scriptedOrder
	clock time.Time
	told  []string
}

func newLoopUnderTest(t *testing.T) *loopUnderTest {
	u := &loopUnderTest{t: t, order: &scriptedOrder{term: 1, confirms: make(map[replicate.Quorum]uint64)}, clock: time.Unix(1000, 0)}
	u.loop = newLoop("test", slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })
	u.loop.order, u.loop.machine = u.order, &tellingMachine{u.loop}
	u.now = func() time.Time { return u.clock }
	u.round()
	return u
}

// hand submits at a quorum, in an entry of its own.
func (u *loopUnderTest) hand(seq uint64, q replicate.Quorum, weak bool) {
	u.submit(&submission{
		session: 1, seq: seq, ops: []byte{1}, kept: true, quorum: q, weak: weak,
		early: func() { u.told = append(u.told, fmt.Sprintf("%d early", seq)) },
		done: func(o outcome) {
			switch {
			case o.err == nil:
				u.told = append(u.told, fmt.Sprintf("%d done", seq))
			case errors.Is(o.err, errNotLeader):
				u.told = append(u.told, fmt.Sprintf("%d not leader", seq))
			default:
				u.told = append(u.told, fmt.Sprintf("%d %v", seq, o.err))
			}
		},
	})
	u.round()
}

// expect runs a round and compares what was told.
func (u *loopUnderTest) expect(want ...string) {
	u.t.Helper()
	u.round()
	if !slices.Equal(u.told, want) {
		u.t.Errorf("told %q, want %q", u.told, want)
	}
	u.told = nil
}

func TestWeakConfirmsGoOutBeforeTheCommitAndStrongOnesAfter(t *testing.T) {
	u := newLoopUnderTest(t)
	u.hand(1, atMajority, false)
	u.hand(2, atLeader, true)
	u.hand(3, 2, true)
	u.hand(4, atAll, false)
	u.hand(5, 4, false)
	u.hand(6, atLeader, true)
	u.expect()
	u.order.confirms[atLeader] = 2
	u.expect("2 early")
	u.order.confirms[atLeader] = 6
	u.expect() // What waits before them holds up later ones.
	u.order.confirms[2] = 3
	u.expect("3 early", "6 early")
	u.order.commit, u.order.confirms[4] = 4, 3
	u.expect("1 done", "2 done", "3 done")
	u.order.commit, u.order.confirms[4], u.order.confirms[2] = 6, 6, 6
	u.expect("5 done", "6 done")
	u.expect()
	u.order.confirms[atAll] = 6
	u.expect("4 done")
	u.hand(7, atAll, false)
	u.order.commit, u.order.confirms[atAll] = 7, 7
	u.expect("7 done") // At once, where all have it by the commit.
}

func TestADeposedLeaderGivesNoWeakConfirm(t *testing.T) {
	u := newLoopUnderTest(t)
	u.hand(1, atAll, false)
	u.order.commit = 1
	u.hand(2, atLeader, true)
	u.hand(3, 2, true)
	u.hand(4, atAll, false)
	u.order.term, u.order.confirms = 0, map[replicate.Quorum]uint64{atLeader: 9, 2: 9, atAll: 9}
	u.expect("1 not leader", "2 not leader", "3 not leader", "4 not leader")
	// Nor does what it is handed again, as the next term's leader, count by
	// what it had before.
	u.order.term = 3
	u.order.confirms = map[replicate.Quorum]uint64{}
	u.expect()
	u.hand(2, atLeader, true)
	u.expect()
	u.order.confirms[atLeader] = 5
	u.expect("2 early")
}

func TestWhatStoodStillStepsDownBeforeAnythingElse(t *testing.T) {
	u := newLoopUnderTest(t)
	u.hand(1, atLeader, true)
	u.order.confirms[atLeader] = 0
	u.clock = u.clock.Add(standstill)
	u.expect()
	if slices.Contains(u.order.calls, "paused") {
		t.Fatal("an election timeout is no standstill yet")
	}
	u.order.calls = nil
	u.notify(replicate.Completion{})
	u.order.confirms[atLeader] = 1
	u.clock = u.clock.Add(standstill + 1)
	u.expect("1 not leader")
	if want := []string{"paused", "completed", "advance"}; !slices.Equal(u.order.calls, want) {
		t.Errorf("called %q, want %q", u.order.calls, want)
	}

	u = newLoopUnderTest(t)
	u.clock = u.clock.Add(2 * standstill)
	u.order.calls = nil
	u.tick()
	if want := []string{"paused", "tick"}; !slices.Equal(u.order.calls, want) {
		t.Errorf("called %q, want %q", u.order.calls, want)
	}
}

// It can begin in the middle of a round, too.
func TestAStandstillWithinARoundConfirmsNothing(t *testing.T) {
	u := newLoopUnderTest(t)
	u.hand(1, atLeader, true)
	u.order.confirms[atLeader] = 1
	u.call(func() { u.clock = u.clock.Add(2 * standstill) })
	u.expect()
	u.expect("1 not leader")
}

func TestWhatIsLateForTooLongIsRefused(t *testing.T) {
	u := newLoopUnderTest(t)
	u.timeout = time.Minute
	u.hand(1, atAll, false)
	u.order.commit = 1
	u.round()
	for range 60 {
		u.clock = u.clock.Add(time.Second)
		u.tick()
	}
	u.hand(2, atAll, false)
	u.order.commit = 2
	u.expect()
	u.clock = u.clock.Add(time.Second)
	u.tick()
	u.expect("1 " + errPublishTimeout.Error())
	u.order.confirms[atAll] = 2
	u.expect("2 done")
}
