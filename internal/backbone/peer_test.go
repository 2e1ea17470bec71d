package backbone

import (
	"testing"
	"time"
)

func TestAPeersLifeIsJudgedByItsHellos(t *testing.T) {
	const silence = time.Second
	type step struct {
		name string
		do   func(p *peer, at func(ms int) time.Time) change
		want change
	}
	hello := func(ms int, epoch uint64, hearsUs bool) func(*peer, func(int) time.Time) change {
		return func(p *peer, at func(int) time.Time) change { return p.hello(at(ms), epoch, 1, hearsUs) }
	}
	tick := func(ms int, late time.Duration) func(*peer, func(int) time.Time) change {
		return func(p *peer, at func(int) time.Time) change { return p.tick(at(ms), late, silence) }
	}
	cases := map[string][]step{
		"both ways make it up, one way does not": {
			{"it does not hear us", hello(0, 7, false), change{answer: true}},
			{"it does", hello(100, 7, true), change{up: true, answer: true}},
			{"still", hello(200, 7, true), change{}},
			{"it lost us", hello(300, 7, false), change{down: true, answer: true}},
			{"and is back", hello(400, 7, true), change{up: true, answer: true}},
		},
		"silence": {
			{"up", hello(0, 7, true), change{up: true, answer: true}},
			{"not long enough", tick(1000, 0), change{}},
			{"too long", tick(1001, 0), change{down: true}},
			{"only once", tick(2000, 0), change{}},
			{"up", hello(2100, 7, true), change{up: true, answer: true}},
		},
		"our own sleep is not its silence": {
			{"up", hello(0, 7, true), change{up: true, answer: true}},
			{"we slept", tick(60_000, 59_500*time.Millisecond), change{}},
			{"and it says nothing", tick(60_600, 0), change{down: true}},
		},
		"a restart is a new epoch": {
			{"up", hello(0, 7, true), change{up: true, answer: true}},
			{"the new one alone proves nothing", hello(100, 8, false), change{answer: true}},
			{"it hears us", hello(110, 8, true), change{down: true, up: true, answer: true}},
			{"what the old one said late", hello(120, 7, true), change{}},
			{"the mistake would not last", hello(120+5001, 7, true), change{down: true, up: true, answer: true}},
		},
		"a leave": {
			{"up", hello(0, 7, true), change{up: true, answer: true}},
			{"of another life", func(p *peer, at func(int) time.Time) change { return p.leave(at(50), 6) }, change{}},
			{"its own", func(p *peer, at func(int) time.Time) change { return p.leave(at(50), 7) }, change{down: true}},
			{"a late hello", hello(60, 7, true), change{}},
		},
		"nobody there": {
			{"not up yet", func(p *peer, at func(int) time.Time) change { return p.unreachable() }, change{}},
			{"up", hello(0, 7, true), change{up: true, answer: true}},
			{"gone", func(p *peer, at func(int) time.Time) change { return p.unreachable() }, change{down: true}},
			{"the same one again", hello(60, 7, true), change{up: true, answer: true}},
		},
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			var p peer
			for _, s := range steps {
				got := s.do(&p, func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) })
				if got != s.want {
					t.Fatalf("%s: got %+v, want %+v", s.name, got, s.want)
				}
			}
		})
	}
}

func TestThePeerIsToldWhomWeHear(t *testing.T) {
	now := time.Unix(1000, 0)
	var p peer
	if p.heard() != 0 {
		t.Error("hears somebody at the start")
	}
	p.hello(now, 7, 1, false)
	if p.heard() != 7 {
		t.Error("does not tell the first one")
	}
	p.hello(now, 7, 1, true)
	p.hello(now, 8, 1, false)
	if p.heard() != 7 {
		t.Error("forgets the one that is up for one that is not")
	}
	p.tick(now.Add(2*time.Second), 0, time.Second)
	if p.heard() != 0 {
		t.Error("hears a silent one")
	}
}
