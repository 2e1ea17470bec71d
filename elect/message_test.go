package elect

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

func everyMessage() []Message {
	return []Message{
		{Kind: Missing, Group: 3, Term: 7, Round: 8, Last: entry.Position{Term: 7, Index: 1 << 40}, Fenced: true, Waits: true, Unfit: true, Bids: true},
		{Kind: Hearing, Group: 1 << 31, Term: 7, Round: 8, Name: "b1"},
		{Kind: Handing, Group: 0, Term: 1<<64 - 1, Reason: HandedOver, Name: "b2"},
		{Kind: Leading, Group: 5, Term: 9, Reason: Gone, Name: "b3", Promotion: &Promotion{
			Group: 5, From: "b1", To: "b3", Term: 9, Reason: Gone, Clean: true, Leaderless: 26 * time.Millisecond,
			Positions: []Standing{
				{Broker: "b3", Position: entry.Position{Term: 8, Index: 100}, Fenced: true},
				{Broker: "b2", Position: entry.Position{Term: 8, Index: 90}, Unfit: true},
			},
		}},
		{Kind: Leading, Promotion: &Promotion{}},
		{Kind: Leaving, Group: 5, Term: 9},
	}
}

func TestMessagesComeOutAsTheyWentIn(t *testing.T) {
	var datagram []byte
	for _, m := range everyMessage() {
		datagram = AppendMessage(datagram, m)
	}
	if IsBeats(datagram) {
		t.Error("they look like beats")
	}
	var got []Message
	if err := ParseMessages(datagram, func(m Message) { got = append(got, m) }); err != nil {
		t.Fatal(err)
	}
	if want := everyMessage(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAShortenedDatagramIsRefused(t *testing.T) {
	for _, m := range everyMessage() {
		datagram := AppendMessage(nil, m)
		for n := range len(datagram) {
			if n == 2 {
				continue // no messages
			}
			if err := ParseMessages(datagram[:n], func(Message) {}); !errors.Is(err, ErrMessage) {
				t.Errorf("%d of %d bytes: %v", n, len(datagram), err)
			}
		}
	}
}

func TestAPositionIsSmall(t *testing.T) {
	m := Message{Kind: Missing, Group: 200, Term: 30, Round: 31, Last: entry.Position{Term: 30, Index: 1 << 30}}
	if n := len(AppendMessage(nil, m)); n > 20 {
		t.Errorf("%d bytes", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range everyMessage() {
		f.Add(AppendMessage(nil, m))
	}
	beater := NewBeater(0)
	beater.Lead(time.Time{}, Beat{Group: 7, Term: 3, Position: entry.Position{Term: 3, Index: 4}})
	beats, _ := beater.Make(time.Time{}, time.Time{}, nil)
	f.Add(beats)
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		if err := ParseMessages(b, func(m Message) { again = AppendMessage(again, m) }); err == nil && len(b) > 2 {
			var third []byte
			if err := ParseMessages(again, func(m Message) { third = AppendMessage(third, m) }); err != nil || !bytes.Equal(again, third) {
				t.Errorf("%x became %x, then %x: %v", b, again, third, err)
			}
		} else if err != nil && !errors.Is(err, ErrMessage) {
			t.Error(err)
		}
		if err := ParseBeats(b, func(Beat) {}); err != nil && !errors.Is(err, ErrMessage) {
			t.Error(err)
		}
	})
}
