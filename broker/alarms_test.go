package broker

import "testing"

func TestGarbageRaisesNoMemoryAlarm(t *testing.T) {
	const limit = 100
	used, live, collections := int64(0), int64(0), 0
	var p pressure
	look := func() int64 {
		return p.used(limit, func() int64 { return used }, func() { collections++; used = live })
	}
	used, live = 100, 20
	if got := look(); got != 100 || collections != 0 {
		t.Errorf("at the limit: %d used after %d collections", got, collections)
	}
	used = 150
	if got := look(); got != 20 || collections != 1 {
		t.Errorf("garbage: %d used after %d collections", got, collections)
	}
	// What is needed is an alarm, which ends soon after it is not needed any
	// more; meanwhile collections are rare.
	look()
	used, live = 150, 150
	for range 2 * collectEvery {
		if got := look(); got != 150 {
			t.Errorf("needed: %d used", got)
		}
	}
	if collections != 3 {
		t.Errorf("%d collections in %d looks", collections-1, 2*collectEvery)
	}
	live = 20
	for range collectEvery {
		look()
	}
	if used != 20 {
		t.Errorf("%d used a second after it was given up", used)
	}
}
