package broker

import (
	"math/rand/v2"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// confirmsTwin is a client that counts: it applies the frames of a tracker to a
// set of outstanding tags, as the specification says a client must.
type confirmsTwin struct {
	t           *testing.T
	outstanding map[uint64]bool
	acked       map[uint64]bool
	nacked      map[uint64]bool
	frames      int
}

func (w *confirmsTwin) apply(b []byte) {
	w.t.Helper()
	for len(b) > 0 {
		n := 7 + 4 + 9 + 1 // A frame of basic.ack or basic.nack.
		id, arguments, err := amqp.CutMethod(b[7 : n-1])
		if err != nil {
			w.t.Fatal(err)
		}
		b = b[n:]
		w.frames++
		switch id {
		case amqp.IDBasicAck:
			var v amqp.AckView
			if err := v.Parse(arguments); err != nil {
				w.t.Fatal(err)
			}
			w.settle(v.DeliveryTag, v.Multiple, w.acked)
		case amqp.IDBasicNack:
			var v amqp.NackView
			if err := v.Parse(arguments); err != nil {
				w.t.Fatal(err)
			}
			w.settle(v.DeliveryTag, v.Multiple, w.nacked)
		default:
			w.t.Fatalf("%v", id)
		}
	}
}

func (w *confirmsTwin) settle(tag uint64, multiple bool, into map[uint64]bool) {
	w.t.Helper()
	if !w.outstanding[tag] {
		w.t.Fatalf("tag %d is told twice, or was never given", tag)
	}
	for each := range w.outstanding {
		if each == tag || multiple && each < tag {
			delete(w.outstanding, each)
			into[each] = true
		}
	}
}

func TestConfirmsTellEachTagOnceAndRightly(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := &confirms{channel: 1}
		w := &confirmsTwin{t: t, outstanding: map[uint64]bool{}, acked: map[uint64]bool{}, nacked: map[uint64]bool{}}
		refused := map[uint64]bool{}
		// Groups confirm their own publishes in order, but not one another's.
		groups := make([][]tagRange, 1+random.IntN(4))
		for tag := uint64(1); tag <= 500; {
			last := tag + uint64(random.IntN(20))
			g := random.IntN(len(groups))
			r := tagRange{tag, last, random.IntN(10) == 0}
			groups[g] = append(groups[g], r)
			for ; tag <= last; tag++ {
				w.outstanding[tag] = true
				refused[tag] = r.nack
			}
		}
		total := len(w.outstanding)
		for left := true; left; {
			left = false
			for g := range groups {
				if len(groups[g]) == 0 {
					continue
				}
				left = true
				if random.IntN(2) == 0 {
					r := groups[g][0]
					c.settle(r.first, r.last, r.nack)
					groups[g] = groups[g][1:]
				}
			}
			if random.IntN(3) == 0 {
				w.apply(c.appendTold(nil))
			}
		}
		w.apply(c.appendTold(nil))
		if len(w.outstanding) > 0 || len(w.acked)+len(w.nacked) != total {
			t.Fatalf("seed %d: %d tags were never told", seed, len(w.outstanding))
		}
		for tag := range w.nacked {
			if !refused[tag] {
				t.Fatalf("seed %d: tag %d was nacked", seed, tag)
			}
		}
		for tag := range w.acked {
			if refused[tag] {
				t.Fatalf("seed %d: tag %d was acked", seed, tag)
			}
		}
		if c.words != nil || c.low != uint64(total) {
			t.Fatalf("seed %d: low %d, %d words are left", seed, c.low, len(c.words))
		}
	}
}

func TestConfirmsInOrderAreOneFrame(t *testing.T) {
	c := &confirms{channel: 3}
	c.settle(1, 1, false)
	c.settle(2, 100, false)
	if got, want := c.appendTold(nil), amqp.AppendAck(nil, 3, 100, true); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
	c.settle(101, 101, false)
	if got, want := c.appendTold(nil), amqp.AppendAck(nil, 3, 101, false); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if got := c.appendTold(nil); len(got) != 0 {
		t.Errorf("told again: %x", got)
	}
}

func TestConfirmsOutOfOrderAreToldAtOnceAndOnce(t *testing.T) {
	c := &confirms{channel: 1}
	c.settle(2, 3, false)
	want := amqp.AppendAck(amqp.AppendAck(nil, 1, 2, false), 1, 3, false)
	if got := c.appendTold(nil); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
	c.settle(1, 1, false)
	if got, want := c.appendTold(nil), amqp.AppendAck(nil, 1, 1, false); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
	c.settle(4, 6, false)
	if got, want := c.appendTold(nil), amqp.AppendAck(nil, 1, 6, true); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestConfirmsRememberLittle(t *testing.T) {
	c := &confirms{channel: 1}
	// The first publish hangs in a group while a million others are confirmed.
	var frames []byte
	for tag := uint64(2); tag <= 1_000_000; tag++ {
		c.settle(tag, tag, false)
		frames = c.appendTold(frames[:0])
	}
	if bytes := 8 * len(c.words); bytes > 130_000 {
		t.Errorf("%d bytes for a million confirms", bytes)
	}
	c.settle(1, 1, false)
	if c.appendTold(nil); c.words != nil || c.low != 1_000_000 {
		t.Errorf("low %d, %d words", c.low, len(c.words))
	}
}

func TestClosedChannelIsToldNothing(t *testing.T) {
	c := &confirms{channel: 1, closed: true}
	c.settle(1, 5, false)
	if got := c.appendTold(nil); len(got) != 0 {
		t.Errorf("told %x", got)
	}
}
