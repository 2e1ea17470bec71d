package broker

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// gatewayUnderTest is a gateway whose leaders are a test.
type gatewayUnderTest struct {
	*gateway
	t     *testing.T
	clock time.Time
	sent  []uint64 // sequences of submissions, since last looked
	told  []string
}

func newGatewayUnderTest(t *testing.T, voters int) *gatewayUnderTest {
	u := &gatewayUnderTest{t: t, clock: time.Unix(1000, 0)}
	u.gateway = newGateway(1, 7, voters, slog.New(slog.DiscardHandler))
	u.now = func() time.Time { return u.clock }
	u.timeout = time.Minute
	u.port = func(string) func(*wireMessage) bool {
		return func(m *wireMessage) bool {
			if m.kind == wireSubmit {
				u.sent = append(u.sent, m.seq)
			}
			return true
		}
	}
	return u
}

// ledBy tells the gateway who leads, and accepts it there.
func (u *gatewayUnderTest) ledBy(name string, term uint64) {
	u.leads(name, term)
	u.receive(name, &wireMessage{kind: wireHello, group: u.id, term: term, seq: u.mu.greetings})
}

func (u *gatewayUnderTest) hand(name string, q replicate.Quorum) *submission {
	s := &submission{ops: takeOps(), quorum: q, done: func(o outcome) {
		if o.err != nil {
			name += ": " + o.err.Error()
		}
		u.told = append(u.told, name)
	}}
	u.submit(s)
	return s
}

func (u *gatewayUnderTest) done(from string, term uint64, ends ...ended) {
	u.receive(from, &wireMessage{kind: wireDone, group: u.id, term: term, ended: ends})
}

func (u *gatewayUnderTest) expect(sent []uint64, told ...string) {
	u.t.Helper()
	if !slices.Equal(u.sent, sent) || !slices.Equal(u.told, told) {
		u.t.Errorf("sent %v and told %q, want %v and %q", u.sent, u.told, sent, told)
	}
	u.sent, u.told = nil, nil
}

func TestAWeaklyConfirmedSubmissionIsHandedToTheNextLeader(t *testing.T) {
	u := newGatewayUnderTest(t, 5)
	u.ledBy("b2", 1)
	u.hand("a", atLeader)
	u.hand("b", 2)
	u.hand("c", atAll)
	u.expect([]uint64{1, 2, 3})
	u.done("b2", 1, ended{seq: 1}, ended{seq: 2}, ended{seq: 2})
	u.expect(nil, "a", "b")
	u.done("b2", 1, ended{seq: 1, index: 9})
	u.expect(nil)

	u.ledBy("b3", 2)
	u.expect([]uint64{2, 3})
	u.done("b2", 1, ended{seq: 3, index: 9}) // From the one before: too late.
	u.expect(nil)
	u.done("b3", 2, ended{seq: 2}, ended{seq: 2, index: 10}, ended{seq: 3, index: 10})
	u.expect(nil, "c")
	if u.mu.unconfirmed != nil {
		t.Errorf("%d are left", len(u.mu.unconfirmed))
	}
}

func TestAWeakConfirmOfADeposedLeaderReachesNobody(t *testing.T) {
	u := newGatewayUnderTest(t, 3)
	u.ledBy("b2", 1)
	u.hand("a", atLeader)
	u.ledBy("b3", 2)
	u.expect([]uint64{1, 1})
	u.done("b2", 1, ended{seq: 1})
	u.held(1, 1)
	u.expect(nil)
}

func TestWhatWasConfirmedIsNotNackedWhenItIsGivenUp(t *testing.T) {
	u := newGatewayUnderTest(t, 3)
	u.ledBy("b2", 1)
	u.hand("a", atLeader)
	u.hand("b", atMajority)
	u.done("b2", 1, ended{seq: 1})
	u.expect([]uint64{1, 2}, "a")
	u.clock = u.clock.Add(time.Minute)
	u.tick()
	u.expect(nil, fmt.Sprintf("b: %v", errPublishTimeout))
	u.hand("c", atLeader)
	u.done("b2", 1, ended{seq: 3})
	u.stop(errStopping)
	u.expect([]uint64{3}, "c")
}

func TestOnlyQuorumsBelowTheMajorityAreWeak(t *testing.T) {
	for voters, weak := range map[int][]replicate.Quorum{1: {}, 2: {atLeader}, 3: {atLeader}, 4: {atLeader, 2}, 5: {atLeader, 2}} {
		u := newGatewayUnderTest(t, voters)
		for _, q := range []replicate.Quorum{atLeader, atMajority, atAll, 2, 3, 4, 5} {
			if s := u.hand("", q); s.weak != slices.Contains(weak, q) {
				t.Errorf("%d of %d: weak is %v", q, voters, s.weak)
			}
		}
	}
}

// A leader that is slow to answer is greeted again, and then has two calls with
// one number: what it gave for the first it has taken back.
func TestWhatALeaderSaidBeforeTheLastGreetingCountsNoMore(t *testing.T) {
	u := newGatewayUnderTest(t, 3)
	u.leads("b2", 1)
	var got []entry.MessageID
	u.get(5, 6, false, func(r getReply) { got = append(got, r.delivery.Message) })
	u.hand("a", atLeader)
	u.clock = u.clock.Add(helloPatience)
	u.tick()
	u.expect([]uint64{1, 1})
	say := func(m wireMessage) {
		m.group, m.term = u.id, 1
		u.receive("b2", &m)
	}
	reply := func(id entry.MessageID) wireMessage {
		return wireMessage{kind: wireReply, call: 1, deliveries: []queue.Delivery{{Queue: 5, Holder: 6, Message: id}}}
	}
	say(wireMessage{kind: wireHello, seq: 1})
	u.clock = u.clock.Add(helloPatience)
	u.tick()
	u.expect(nil) // It has more time now.
	say(reply(10))
	say(wireMessage{kind: wireDone, ended: []ended{{seq: 1}}})
	if got != nil || u.mu.accepted {
		t.Errorf("got %v, accepted %v", got, u.mu.accepted)
	}
	u.expect(nil)
	say(wireMessage{kind: wireHello, seq: 2})
	say(reply(11))
	say(wireMessage{kind: wireDone, ended: []ended{{seq: 1}}})
	u.expect(nil, "a")
	if !slices.Equal(got, []entry.MessageID{11}) {
		t.Errorf("got %v", got)
	}
}
