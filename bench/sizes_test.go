package bench

import (
	"math/rand/v2"
	"testing"
)

func TestSizesAreReadAndPrintedAlike(t *testing.T) {
	for _, text := range []string{"1024", "100-4096", "100:8,1024-4096:1.5,65536:0.5"} {
		sizes, err := ParseSizes(text)
		if err != nil || sizes.String() != text {
			t.Errorf("%q: %q, %v", text, sizes, err)
		}
	}
	for _, text := range []string{"", "1k", "5-3", "100:0", "100:-1", "100:NaN", "-5", "1,,2"} {
		if sizes, err := ParseSizes(text); err == nil {
			t.Errorf("%q: accepted as %v", text, sizes)
		}
	}
}

func TestSizesAreDrawnByTheirWeights(t *testing.T) {
	sizes, err := ParseSizes("100:9,1000-2000:1")
	if err != nil {
		t.Fatal(err)
	}
	if sizes.Smallest() != 100 || sizes.Largest() != 2000 {
		t.Errorf("from %d to %d", sizes.Smallest(), sizes.Largest())
	}
	random, small := rand.New(rand.NewPCG(1, 2)), 0
	for range 10_000 {
		switch size := sizes.pick(random); {
		case size == 100:
			small++
		case size < 1000 || size > 2000:
			t.Fatalf("drew %d", size)
		}
	}
	if small < 8800 || small > 9200 {
		t.Errorf("%d of 10000 small ones, want about 9000", small)
	}
}
