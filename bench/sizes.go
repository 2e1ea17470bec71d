package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Sizes is a distribution of body sizes: ranges that are chosen by their
// weights, and within which every size is as likely.
type Sizes []SizeRange

// SizeRange is the sizes from Low to High bytes, both included.
type SizeRange struct {
	Low, High int
	Weight    float64
}

// Fixed is the one size.
func Fixed(size int) Sizes { return Sizes{{size, size, 1}} }

// ParseSizes reads one size ("1024"), a range ("100-4096") or several of
// either with weights ("100:8,1024-4096:1.5,65536:0.5").
func ParseSizes(text string) (Sizes, error) {
	var sizes Sizes
	for part := range strings.SplitSeq(text, ",") {
		span, weight, weighted := strings.Cut(part, ":")
		low, high, ranged := strings.Cut(span, "-")
		if !ranged {
			high = low
		}
		r := SizeRange{Weight: 1}
		var errs [3]error
		r.Low, errs[0] = strconv.Atoi(low)
		r.High, errs[1] = strconv.Atoi(high)
		if weighted {
			r.Weight, errs[2] = strconv.ParseFloat(weight, 64)
		}
		for _, err := range errs {
			if err != nil {
				return nil, fmt.Errorf("bench: sizes %q: %w", text, err)
			}
		}
		if r.Low < 0 || r.High < r.Low || !(r.Weight > 0) {
			return nil, fmt.Errorf("bench: sizes %q: %q is no range of sizes with a weight above 0", text, part)
		}
		sizes = append(sizes, r)
	}
	return sizes, nil
}

// String is what ParseSizes reads.
func (s Sizes) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = strconv.Itoa(r.Low)
		if r.High > r.Low {
			parts[i] += "-" + strconv.Itoa(r.High)
		}
		if len(s) > 1 {
			parts[i] += ":" + strconv.FormatFloat(r.Weight, 'g', -1, 64)
		}
	}
	return strings.Join(parts, ",")
}

// Smallest and Largest are the bounds of all; 0 of no sizes.
func (s Sizes) Smallest() int {
	smallest := 0
	for i, r := range s {
		if i == 0 || r.Low < smallest {
			smallest = r.Low
		}
	}
	return smallest
}

// Largest: see Smallest.
func (s Sizes) Largest() int {
	largest := 0
	for _, r := range s {
		largest = max(largest, r.High)
	}
	return largest
}

// pick draws a size.
// REQUIRES: s is not empty.
func (s Sizes) pick(random *rand.Rand) int {
	if len(s) == 1 && s[0].Low == s[0].High {
		return s[0].Low
	}
	total := 0.0
	for _, r := range s {
		total += r.Weight
	}
	at := random.Float64() * total
	for _, r := range s {
		if at -= r.Weight; at < 0 {
			return r.Low + random.IntN(r.High-r.Low+1)
		}
	}
	return s[len(s)-1].High // by rounding
}
