package bench

import (
	"errors"
	"testing"
)

func TestABodyTellsWhatWasStampedOnIt(t *testing.T) {
	for _, size := range []int{MinimumSize, MinimumSize + 1, 1024} {
		body := newBody(size, 1)
		want := stamp{from: 3, sequence: 1 << 40, sentAt: 5, run: ^uint64(0)}
		want.put(body)
		got, err := readStamp(body)
		if err != nil || got != want {
			t.Errorf("size %d: %+v, %v; want %+v", size, got, err, want)
		}
	}
}

func TestEveryFlippedBitAndEveryCutOfABodyIsFound(t *testing.T) {
	body := newBody(64, 1)
	stamp{from: 3, sequence: 4, sentAt: 5, run: 6}.put(body)
	for bit := range len(body) * 8 {
		body[bit/8] ^= 1 << (bit % 8)
		if _, err := readStamp(body); !errors.Is(err, ErrBody) {
			t.Errorf("bit %d: %v", bit, err)
		}
		body[bit/8] ^= 1 << (bit % 8)
	}
	for length := range body {
		if _, err := readStamp(body[:length]); !errors.Is(err, ErrBody) {
			t.Errorf("cut to %d: %v", length, err)
		}
	}
}
