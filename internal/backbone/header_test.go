package backbone

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestFramesReadBackAsWritten(t *testing.T) {
	v := control{incarnation: 1, heard: 2, yours: 3, life: 4, number: 5, received: 6, consumed: -7}
	for k := kindHello; k <= kindGap; k++ {
		if controlSizes[k] < 0 {
			continue
		}
		h := head{kind: k, sender: 9, epoch: 10}
		b := appendControl(nil, h, v)
		got, rest, err := parseHead(b)
		if err != nil || got != h {
			t.Fatalf("kind %d: %+v, %v", k, got, err)
		}
		c, err := parseControl(k, rest)
		if err != nil || !bytes.Equal(appendControl(nil, h, c), b) {
			t.Errorf("kind %d: %+v, %v", k, c, err)
		}
		if _, err := parseControl(k, append(rest, 0)); !errors.Is(err, errFrame) {
			t.Errorf("kind %d with a byte too much: %v", k, err)
		}
	}

	targets := []target{{1, 2, 3}, {4, 5, 6}}
	b := appendData(nil, head{kind: kindData, sender: 1, epoch: 2}, 100, 90, targets)
	if len(b) != dataHeaderSize(len(targets)) {
		t.Errorf("header of %d bytes, want %d", len(b), dataHeaderSize(len(targets)))
	}
	d, payload, err := parseData(append(b[headSize:], "0123456789"...))
	if err != nil || string(payload) != "0123456789" || d.total != 100 || d.offset != 90 {
		t.Fatalf("%+v %q %v", d, payload, err)
	}
	for _, want := range targets {
		if got, ok := d.target(want.recipient); !ok || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if _, ok := d.target(2); ok {
		t.Error("found a recipient that is not there")
	}
	if _, _, err := parseData(append(b[headSize:], "01234567890"...)); !errors.Is(err, errFrame) {
		t.Errorf("a payload beyond the total: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	for k := kindHello; k <= kindGap; k++ {
		f.Add(appendControl(nil, head{kind: k, sender: 1, epoch: 2}, control{yours: 3, life: 4}))
	}
	f.Add(append(appendData(nil, head{kind: kindData, epoch: 1}, 3, 0, []target{{1, 2, 3}, {2, 3, 4}}), "abc"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := parseHead(b)
		if err != nil {
			return
		}
		switch h.kind {
		case kindGram:
			return
		case kindData:
			d, payload, err := parseData(rest)
			if err != nil {
				return
			}
			var targets []target
			for n := range len(d.targets) / targetSize {
				recipient := d.targets[n*targetSize]
				found, ok := data{targets: d.targets[n*targetSize:]}.target(recipient)
				if !ok {
					t.Fatalf("recipient %d is lost", recipient)
				}
				targets = append(targets, found)
			}
			if again := append(appendData(nil, h, d.total, d.offset, targets), payload...); !bytes.Equal(again, b) {
				t.Fatalf("%x became %x", b, again)
			}
		default:
			c, err := parseControl(h.kind, rest)
			if err != nil {
				return
			}
			if again := appendControl(nil, h, c); !bytes.Equal(again, b) {
				t.Fatalf("%x became %x", b, again)
			}
		}
	})
}

// FuzzReceive gives whatever bytes to a backbone that has peers, as a broker
// of another version or a bug might.
func FuzzReceive(f *testing.F) {
	r := newRecorder()
	r.forget, r.take = true, false
	config := Config{Name: "a", Peers: map[string]string{"a": "127.0.0.1:1", "b": "127.0.0.1:1", "c": "127.0.0.1:1"}, Handler: r, MaxMessage: 1 << 16}
	h := head{sender: 1, epoch: 7}
	for k := kindHello; k <= kindGap; k++ {
		h.kind = k
		f.Add(appendControl(nil, h, control{yours: 5, life: 1}), []byte{})
	}
	h.kind = kindData
	frame := append(appendData(nil, h, 3, 0, []target{{0, 1, 1}}), "abc"...)
	h.kind = kindOpen
	f.Add(appendControl(nil, h, control{yours: 5, life: 1}), frame)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b := newBackbone(config.withDefaults())
		r.b, b.epoch = b, 5
		b.epochs[1].Store(7)
		for _, c := range b.conns {
			c.out.up(1, 7)
			c.receiveFrame(first)
			c.receiveFrame(second)
			c.out.tick(time.Now(), 0)
			c.in.tick()
		}
	})
}
