package elect

import (
	"errors"
	"testing"
	"time"
)

func TestLeadershipStaysWhereAnOperatorPutIt(t *testing.T) {
	l := newLone(t)
	l.Receive(l.now, "b1", Message{Kind: Handing, Group: 7, Term: 1, Name: "b2", Reason: Ordered})
	l.led()
	if at, ok := l.lead(time.Minute); ok {
		t.Fatalf("transferred after %v", at)
	}
	// Until it changes for another reason.
	l.local = Local{Term: 3, Leader: "b3", Last: l.local.Last}
	l.State(l.now, l.local)
	l.local.Role, l.local.Term, l.local.Leader = Leader, 4, "b2"
	l.local.Mirrors = []Mirror{{"b1", 200, true}, {"b3", 200, true}}
	l.State(l.now, l.local)
	l.take()
	if _, ok := l.lead(time.Minute); !ok {
		t.Error("it does not go back")
	}
}

func TestBrokersThatStopTogetherDoNotHandLeadershipToOneAnother(t *testing.T) {
	l := newLone(t)
	l.Receive(l.now, "b1", Message{Kind: Handing, Group: 7, Term: 1, Name: "b2", Reason: HandedOver})
	l.led()
	if err := l.TransferTo(l.now, "b1"); !errors.Is(err, ErrTransfer) {
		t.Errorf("to a broker that stops: %v", err)
	}
	l.HandOver(l.now)
	if got := transfers(l); len(got) != 1 || got[0] != "b3" {
		t.Fatalf("handed to %v", got)
	}
	if !l.HasHeirs() {
		t.Error("b3 is no heir")
	}
	l.Receive(l.now, "b3", Message{Kind: Handing, Group: 7, Term: 3, Name: "b2", Reason: HandedOver})
	for range 10 {
		l.now = l.now.Add(100 * millisecond)
		l.State(l.now, l.local)
		if got := transfers(l); len(got) > 0 {
			t.Fatalf("handed to %v", got)
		}
	}
	if l.HasHeirs() {
		t.Error("there are heirs though all stop")
	}
	// One that has come back is an heir again.
	l.PeerDown(l.now, "b1")
	l.PeerUp(l.now, "b1")
	l.State(l.now, l.local)
	if got := transfers(l); len(got) != 1 || got[0] != "b1" {
		t.Errorf("handed to %v", got)
	}
}

// A whole cluster may be stopped at once: brokers that lead nothing say so too.
func TestAStoppingMirrorIsNoHeir(t *testing.T) {
	mirror := newLone(t)
	mirror.HandOver(mirror.now)
	told := make(map[string]int)
	for range 20 {
		for _, a := range mirror.Actions(nil) {
			if a.Kind == Send && a.Message.Kind == Leaving {
				told[a.To]++
			}
		}
		mirror.now = mirror.now.Add(BeatInterval / 2)
		mirror.Tick(mirror.now)
	}
	if told["b1"] != 10 || told["b3"] != 10 {
		t.Errorf("told %v", told)
	}
	l := newLone(t)
	l.led()
	for _, name := range []string{"b1", "b3"} {
		l.Receive(l.now, name, Message{Kind: Leaving, Group: 7})
	}
	l.HandOver(l.now)
	if got := transfers(l); len(got) > 0 || l.HasHeirs() {
		t.Errorf("handed to %v", got)
	}
}

// transfers are the brokers to whom leadership is to be transferred.
func transfers(l *lone) (to []string) {
	for _, a := range l.Actions(nil) {
		if a.Kind == Transfer {
			to = append(to, a.To)
		}
	}
	return to
}
