package elect

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// lone is one elector without the others: the test speaks for them.
type lone struct {
	t   *testing.T
	now time.Time
	*Elector
	local Local
}

// newLone is mirror b2 of three, b1 the leader of term 1, at position 1/100.
func newLone(t *testing.T) *lone {
	t.Helper()
	e, err := New(Config{Group: 7, Self: "b2", Voters: []string{"b1", "b2", "b3"}, Jitter: func() float64 { return 0 }, Gate: new(Gate)}, start)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{t: t, now: start, Elector: e, local: Local{Term: 1, Leader: "b1", Last: entry.Position{Term: 1, Index: 100}}}
	e.PeerUp(l.now, "b1")
	e.PeerUp(l.now, "b3")
	e.State(l.now, l.local)
	e.Beat(l.now, "b1", Beat{Group: 7, Term: 1})
	l.take()
	return l
}

// take returns what is asked for, but for messages.
func (l *lone) take() (kinds []ActionKind, sent []Message) {
	for _, a := range l.Actions(nil) {
		if a.Kind == Send {
			sent = append(sent, a.Message)
		} else {
			kinds = append(kinds, a.Kind)
		}
	}
	return kinds, sent
}

// pass lets time pass in ticks and returns what was asked for.
func (l *lone) pass(d time.Duration) (kinds []ActionKind, sent []Message) {
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(10 * millisecond)
		l.Tick(l.now)
	}
	return l.take()
}

func (l *lone) missing(from string, index uint64) {
	l.Receive(l.now, from, Message{Kind: Missing, Group: 7, Term: 1, Round: 2, Last: entry.Position{Term: 1, Index: index}})
}

func (l *lone) want(kinds []ActionKind, want ...ActionKind) {
	l.t.Helper()
	if !slices.Equal(kinds, want) {
		l.t.Errorf("it asks for %v, want %v", kinds, want)
	}
}

func TestAMirrorThatHearsItsLeaderRefusesARound(t *testing.T) {
	l := newLone(t)
	l.pass(100 * millisecond)
	l.missing("b3", 100)
	kinds, sent := l.take()
	l.want(kinds)
	if len(sent) != 1 || sent[0].Kind != Hearing || sent[0].Name != "b1" || sent[0].Term != 1 {
		t.Errorf("it says %+v", sent)
	}
}

func TestAMirrorJoinsARoundBeforeItWouldOpenOne(t *testing.T) {
	l := newLone(t)
	l.pass(200 * millisecond)
	l.missing("b3", 100)
	kinds, _ := l.take()
	l.want(kinds, Forget)
	if l.View().Round != 2 {
		t.Errorf("%+v", l.View())
	}
}

func TestAlternativesOfARound(t *testing.T) {
	cases := []struct {
		what  string
		index uint64 // b3's
		after time.Duration
		want  []ActionKind
	}{
		{"the better one campaigns", 99, 10 * millisecond, []ActionKind{Forget, Campaign}},
		{"of equals the preferred one campaigns", 100, 10 * millisecond, []ActionKind{Forget, Campaign}},
		{"the other does not", 101, 140 * millisecond, []ActionKind{Forget}},
		{"but stands by", 101, 170 * millisecond, []ActionKind{Forget, Campaign}},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			l := newLone(t)
			l.PeerDown(l.now, "b1")
			l.missing("b3", c.index)
			kinds, _ := l.pass(c.after)
			l.want(kinds, c.want...)
			if l.Refuses() != 2 {
				t.Errorf("it refuses terms below %d", l.Refuses())
			}
		})
	}
}

func TestACampaignIsRepeatedUntilALeaderIsKnown(t *testing.T) {
	l := newLone(t)
	l.PeerDown(l.now, "b1")
	campaigns := 0
	for range 10 {
		l.missing("b3", 100)
		kinds, _ := l.pass(50 * millisecond)
		campaigns += len(slices.DeleteFunc(kinds, func(k ActionKind) bool { return k != Campaign }))
	}
	if campaigns != 10 {
		t.Errorf("%d campaigns in 500 ms", campaigns)
	}
	l.local = Local{Term: 2, Leader: "b3", Last: l.local.Last}
	l.State(l.now, l.local)
	l.take()
	kinds, sent := l.pass(150 * millisecond)
	l.want(kinds)
	if len(sent) > 0 {
		t.Errorf("it still says %+v", sent)
	}
}

func TestACandidateWaitsForItsVotesUnlessTheyAreSplit(t *testing.T) {
	for _, split := range []bool{false, true} {
		l := newLone(t)
		l.PeerDown(l.now, "b1")
		l.missing("b3", 100)
		l.pass(10 * millisecond)
		l.local.Role, l.local.Term, l.local.Leader = Candidate, 2, ""
		l.State(l.now, l.local)
		again := false
		for range 20 {
			l.Receive(l.now, "b3", Message{Kind: Missing, Group: 7, Term: 2, Round: 2, Last: l.local.Last, Bids: split})
			kinds, _ := l.pass(10 * millisecond)
			again = again || slices.Contains(kinds, Campaign)
		}
		if again != split {
			t.Errorf("split %t: campaigned again %t", split, again)
		}
	}
}

func TestABeatThatWasOnItsWayWhenTheRouteBrokeProvesNothing(t *testing.T) {
	l := newLone(t)
	l.PeerDown(l.now, "b1")
	l.take()
	l.Beat(l.now.Add(10*millisecond), "b1", Beat{Group: 7, Term: 1})
	if l.View().Round == 0 {
		t.Error("the round ended")
	}
	l.pass(60 * millisecond)
	l.Beat(l.now, "b1", Beat{Group: 7, Term: 1})
	if v := l.View(); v.Round != 0 || v.Leader != "b1" || l.Refuses() != 0 {
		t.Errorf("%+v", v)
	}
}

func TestAMirrorThatWasHeldUpDoesNotBlameItsLeader(t *testing.T) {
	l := newLone(t)
	l.now = l.now.Add(time.Hour)
	l.Tick(l.now)
	kinds, sent := l.take()
	l.want(kinds)
	if len(sent) > 0 {
		t.Errorf("it says %+v", sent)
	}
	// What waited meanwhile is no news.
	l.missing("b3", 100)
	if l.View().Round != 0 {
		t.Error("it joined a round of long ago")
	}
	l.pass(310 * millisecond)
	if l.View().Round == 0 {
		t.Error("it waits for ever")
	}
}

func TestBeatsOfTheWrongTermOrSenderCountForNothing(t *testing.T) {
	l := newLone(t)
	for range 40 {
		l.pass(10 * millisecond)
		l.Beat(l.now, "b3", Beat{Group: 7, Term: 1}) // does not lead
		l.Beat(l.now, "b1", Beat{Group: 7, Term: 0})
		l.Beat(l.now, "b1", Beat{Group: 8, Term: 1})
		l.Beat(l.now, "b9", Beat{Group: 7, Term: 9}) // no member
	}
	if l.View().Round == 0 {
		t.Error("it hears a leader")
	}
}

func TestAMirrorWhoseDiskHangsRanksLast(t *testing.T) {
	l := newLone(t)
	l.local.OldestWrite = l.now.Add(-time.Second)
	l.State(l.now, l.local)
	l.PeerDown(l.now, "b1")
	l.missing("b3", 90)
	kinds, sent := l.pass(140 * millisecond)
	l.want(kinds, Forget)
	if len(sent) == 0 || !sent[0].Unfit {
		t.Errorf("it says %+v", sent)
	}
}

func TestALearnerOnlyListens(t *testing.T) {
	l := newLone(t)
	if err := l.SetVoters(l.now, []string{"b1", "b3"}); err != nil {
		t.Fatal(err)
	}
	l.PeerDown(l.now, "b1")
	l.missing("b3", 100)
	kinds, sent := l.pass(time.Second)
	l.want(kinds)
	if len(sent) > 0 {
		t.Errorf("it says %+v", sent)
	}
}

// led makes b2 the leader of term 2 with both mirrors caught up.
func (l *lone) led() {
	l.local = Local{
		Role: Leader, Term: 2, Leader: "b2", Last: entry.Position{Term: 2, Index: 200},
		Mirrors: []Mirror{{"b1", 200, true}, {"b3", 199, true}},
	}
	l.State(l.now, l.local)
	l.take()
}

// lead passes time as a leader and returns when leadership was transferred.
func (l *lone) lead(d time.Duration) (at time.Duration, transferred bool) {
	began := l.now
	for l.now.Sub(began) < d {
		l.State(l.now, l.local)
		if kinds, _ := l.pass(50 * millisecond); slices.Contains(kinds, Transfer) {
			return l.now.Sub(began), true
		}
	}
	return d, false
}

func TestLeadershipGoesToThePreferredBrokerAfterAWhile(t *testing.T) {
	l := newLone(t)
	l.led()
	if at, ok := l.lead(time.Minute); !ok || at < 10*time.Second || at > 11*time.Second {
		t.Errorf("%t after %v", ok, at)
	}
	// It did not take it: not again at once.
	if at, ok := l.lead(time.Minute); !ok || at < 9*time.Second {
		t.Errorf("%t after %v", ok, at)
	}
}

func TestLeadershipStaysWhereThePreferredBrokerLags(t *testing.T) {
	l := newLone(t)
	l.led()
	l.local.Mirrors[0].Match = 10
	if at, ok := l.lead(time.Minute); ok {
		t.Errorf("transferred after %v", at)
	}
	l.local.Mirrors[0].Match = 190
	if at, ok := l.lead(time.Minute); !ok || at < 3*time.Second || at > 4*time.Second {
		t.Errorf("%t after %v", ok, at)
	}
}

func TestABrokerThatIsOftenLostWaitsLonger(t *testing.T) {
	l := newLone(t)
	for range 3 {
		l.voter("b1").losses++
	}
	l.voter("b1").lost = l.now
	l.led()
	if at, ok := l.lead(time.Minute); !ok || at < 40*time.Second {
		t.Errorf("%t after %v", ok, at)
	}
}

func TestOneGroupMovesAtATime(t *testing.T) {
	g := new(Gate)
	if !g.take(start) || g.take(start.Add(gateHold-1)) || !g.take(start.Add(gateHold)) {
		t.Error("the gate is open for two")
	}
}

func TestAHandOverTriesTheNextWhenOneDoesNotTakeIt(t *testing.T) {
	l := newLone(t)
	l.led()
	l.HandOver(l.now)
	var to []string
	for range 40 {
		l.State(l.now, l.local)
		for _, a := range l.Actions(nil) {
			if a.Kind == Transfer {
				to = append(to, a.To)
			}
		}
		l.now = l.now.Add(20 * millisecond)
		l.Tick(l.now)
	}
	if len(to) < 3 || to[0] != "b1" || to[1] != "b3" {
		t.Errorf("handed to %v", to)
	}
	if l.Handed() {
		t.Error("it says that it does not lead")
	}
}

func TestTransferTo(t *testing.T) {
	l := newLone(t)
	if err := l.TransferTo(l.now, "b3"); !errors.Is(err, ErrTransfer) {
		t.Errorf("a mirror transfers: %v", err)
	}
	l.led()
	if err := l.TransferTo(l.now, "b9"); !errors.Is(err, ErrTransfer) {
		t.Errorf("to a stranger: %v", err)
	}
	if err := l.TransferTo(l.now, "b2"); err != nil {
		t.Error(err)
	}
	if err := l.TransferTo(l.now, "b3"); err != nil {
		t.Error(err)
	}
	kinds, sent := l.take()
	l.want(kinds, Transfer)
	if len(sent) != 2 || sent[0].Kind != Handing || sent[0].Name != "b3" || sent[0].Reason != Ordered {
		t.Errorf("it says %+v", sent)
	}
	l.PeerDown(l.now, "b1")
	if err := l.TransferTo(l.now, "b1"); !errors.Is(err, ErrTransfer) {
		t.Errorf("to a dead one: %v", err)
	}
}

func TestAMirrorTellsAPromotionAsItsLeaderDoesOrAsItSawIt(t *testing.T) {
	for _, told := range []bool{true, false} {
		l := newLone(t)
		l.PeerDown(l.now, "b1")
		l.take()
		l.local.Term, l.local.Leader = 2, "b3"
		l.State(l.now, l.local)
		if told {
			l.Receive(l.now, "b3", Message{Kind: Leading, Group: 7, Term: 2, Reason: Gone, Name: "b3", Promotion: &Promotion{
				Group: 7, From: "b1", To: "b3", Term: 2, Reason: Gone, Clean: false,
			}})
		} else {
			for range 25 {
				l.Beat(l.now, "b3", Beat{Group: 7, Term: 2})
				l.now = l.now.Add(10 * millisecond)
			}
		}
		var promotions []Promotion
		for _, a := range l.Actions(nil) {
			if a.Kind == Promoted {
				promotions = append(promotions, *a.Promotion)
			}
		}
		if len(promotions) != 1 || promotions[0].From != "b1" || promotions[0].To != "b3" || promotions[0].Clean == told || promotions[0].Reason != Gone {
			t.Errorf("told %t: %+v", told, promotions)
		}
	}
}

func TestAHistoryKeepsTheNewest(t *testing.T) {
	h := NewHistory(3)
	for term := range uint64(5) {
		h.Add(Promotion{Term: term, Clean: term > 0})
	}
	kept := h.Promotions()
	if len(kept) != 3 || kept[0].Term != 2 || kept[2].Term != 4 {
		t.Errorf("%+v", kept)
	}
	if total, unclean := h.Counts(); total != 5 || unclean != 1 {
		t.Errorf("%d, %d", total, unclean)
	}
}

func TestAConfigurationIsChecked(t *testing.T) {
	jitter := func() float64 { return 0 }
	for _, c := range []Config{
		{Voters: []string{"a"}, Jitter: jitter},
		{Self: "a", Jitter: jitter},
		{Self: "a", Voters: []string{"a", "a"}, Jitter: jitter},
		{Self: "a", Voters: []string{"a", ""}, Jitter: jitter},
		{Self: "a", Voters: []string{"a"}},
	} {
		if _, err := New(c, start); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestALoneVoterCampaigns(t *testing.T) {
	e, err := New(Config{Self: "a", Voters: []string{"a"}, Jitter: func() float64 { return 0 }}, start)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{t: t, now: start, Elector: e}
	kinds, _ := l.pass(310 * millisecond)
	l.want(kinds, Campaign)
}

func BenchmarkTickOfAMirror(b *testing.B) {
	e, _ := New(Config{Self: "b2", Voters: []string{"b1", "b2", "b3"}, Jitter: func() float64 { return 0 }}, start)
	b.ReportAllocs()
	for b.Loop() {
		e.State(start, Local{Term: 1, Leader: "b1"})
		e.Beat(start, "b1", Beat{Term: 1})
		e.Tick(start)
	}
}
