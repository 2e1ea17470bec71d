package testcluster

import (
	"strings"
	"testing"
)

// The ledger is what all other tests here rest on: it has to find what it is
// there to find.
func TestTheLedgerFindsWhatShouldNotBe(t *testing.T) {
	publish := func(l *Ledger, n int) []message {
		p, at := l.publisher(), l.connected(0)
		var messages []message
		for range n {
			messages = append(messages, l.publish(p, at))
		}
		return messages
	}
	body := func(m message) []byte { return m.encode(100) }
	cases := []struct {
		name string
		play func(*Ledger)
		want Counts // only the bad ones and Returned
	}{
		{"all is well", func(l *Ledger) {
			for _, m := range publish(l, 3) {
				l.confirm(m, true)
				l.deliver(l.connected(1), body(m), false)
			}
		}, Counts{}},
		{"a confirmed message never comes", func(l *Ledger) { l.confirm(publish(l, 1)[0], true) }, Counts{Lost: 1}},
		{"an unconfirmed message never comes", func(l *Ledger) { publish(l, 1) }, Counts{Unconfirmed: 1}},
		{"a message is nacked", func(l *Ledger) { l.confirm(publish(l, 1)[0], false) }, Counts{NackedLiving: 1}},
		{"a message is nacked by a broker that is ill", func(l *Ledger) {
			m := publish(l, 1)[0]
			l.faulted(0)
			l.confirm(m, false)
		}, Counts{}},
		{"a message comes twice", func(l *Ledger) {
			m := publish(l, 1)[0]
			l.confirm(m, true)
			l.deliver(l.connected(1), body(m), false)
			l.deliver(l.connected(2), body(m), true)
		}, Counts{Doubled: 1}},
		{"a message comes again after its consumer's broker died", func(l *Ledger) {
			m := publish(l, 1)[0]
			l.confirm(m, true)
			l.deliver(l.connected(1), body(m), false)
			l.faulted(1)
			l.deliver(l.connected(2), body(m), true)
		}, Counts{Returned: 1}},
		{"a message comes again after another's broker died", func(l *Ledger) {
			m := publish(l, 1)[0]
			l.confirm(m, true)
			l.deliver(l.connected(1), body(m), false)
			l.faulted(0)
			l.deliver(l.connected(2), body(m), true)
		}, Counts{Doubled: 1}},
		{"a broker that goes on after a pause has what others got meanwhile", func(l *Ledger) {
			m := publish(l, 2)
			l.confirm(m[0], true)
			l.confirm(m[1], true)
			paused, other := l.connected(1), l.connected(2)
			l.deliver(paused, body(m[1]), false)
			l.faulted(1)
			l.deliver(other, body(m[0]), false)
			l.deliver(other, body(m[1]), true)
			l.goesOn(1)
			l.healed(1)
			l.deliver(paused, body(m[0]), false)
		}, Counts{Doubled: 1, Returned: 1}},
		{"messages come in the wrong order", func(l *Ledger) {
			m, c := publish(l, 2), l.connected(1)
			for i := range m {
				l.confirm(m[i], true)
				l.deliver(c, body(m[1-i]), false)
			}
		}, Counts{Reordered: 1}},
		{"a body is mixed up", func(l *Ledger) {
			b := body(publish(l, 1)[0])
			b[50]++
			l.deliver(l.connected(1), b, false)
		}, Counts{Damaged: 1, Unconfirmed: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(newTimeline(nil), 3)
			c.play(l)
			got, problems := l.Judge()
			only := Counts{
				Lost: got.Lost, Doubled: got.Doubled, Reordered: got.Reordered, Damaged: got.Damaged,
				NackedLiving: got.NackedLiving, Unconfirmed: got.Unconfirmed, Returned: got.Returned,
			}
			if only != c.want {
				t.Errorf("found %v", got)
			}
			if (c.want.bad() > 0) != (len(problems) > 0) {
				t.Errorf("said %s", strings.Join(problems, "\n"))
			}
		})
	}
}
