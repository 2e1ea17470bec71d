package elect

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// BeatInterval is how often a broker is to send what Beater.Make returns.
const BeatInterval = 50 * time.Millisecond

// DefaultHang is how long the oldest write of a log may wait for its fsync
// before the log counts as hanging.
const DefaultHang = 250 * time.Millisecond

// Beat says that a broker leads a group, and that its log makes progress.
type Beat struct {
	Group entry.GroupID
	Term  uint64
	// Position is the leader's last one.
	Position entry.Position
}

// Beater makes a broker's beats: one small datagram, the same for every peer,
// for all groups that it leads. Its methods may be called by several
// goroutines: each group's loop tells of its own leadership.
type Beater struct {
	hang time.Duration
	mu   struct {
		sync.Mutex
		led []led // Invariant: ascending by group.
	}
}

// led is a group that this broker leads.
type led struct {
	beat Beat
	// told is when the group's loop last said so.
	told time.Time
}

// NewBeater makes a Beater for a broker whose log counts as hanging when a
// write waits longer than hang for its fsync; 0 is DefaultHang.
func NewBeater(hang time.Duration) *Beater {
	if hang <= 0 {
		hang = DefaultHang
	}
	return &Beater{hang: hang}
}

// Lead tells that this broker leads a group. The group's loop calls it at each
// of its ticks: a loop that has not done so for as long as a log may hang is
// taken to hang itself, and its group is left out of the beats.
func (b *Beater) Lead(now time.Time, beat Beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, found := b.find(beat.Group)
	if !found {
		b.mu.led = slices.Insert(b.mu.led, at, led{})
	}
	b.mu.led[at] = led{beat: beat, told: now}
}

// Resign tells that this broker doesn't lead the group.
func (b *Beater) Resign(group entry.GroupID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, found := b.find(group); found {
		b.mu.led = slices.Delete(b.mu.led, at, at+1)
	}
}

// REQUIRES: mu held.
func (b *Beater) find(group entry.GroupID) (at int, found bool) {
	return slices.BinarySearchFunc(b.mu.led, group, func(l led, group entry.GroupID) int {
		return cmp.Compare(l.beat.Group, group)
	})
}

// Make appends the datagram to dst. It returns false when nothing is to be
// sent: no group is led, or the log hangs. oldest is since when the log's
// oldest write waits for its fsync, zero when none does.
func (b *Beater) Make(now, oldest time.Time, dst []byte) ([]byte, bool) {
	if hangs(now, oldest, b.hang) {
		return dst, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	empty := len(dst)
	dst = append(dst, version, kindBeats)
	head := len(dst)
	for _, l := range b.mu.led {
		if now.Sub(l.told) > b.hang {
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(l.beat.Group))
		dst = binary.AppendUvarint(dst, l.beat.Term)
		dst = appendPosition(dst, l.beat.Position)
	}
	if len(dst) == head {
		return dst[:empty], false
	}
	return dst, true
}

// hangs says whether a log whose oldest write waits since then is stuck.
func hangs(now, oldest time.Time, hang time.Duration) bool {
	return !oldest.IsZero() && now.Sub(oldest) > hang
}

// ParseBeats calls fn with each beat of a datagram.
//
// Errors: ErrMessage; beats before the malformed one were handed to fn.
func ParseBeats(b []byte, fn func(Beat)) error {
	r, err := newReader(b, kindBeats)
	if err != nil {
		return err
	}
	for len(r.rest) > 0 {
		beat := Beat{Group: r.group(), Term: r.uvarint(), Position: r.position()}
		if r.bad {
			return fmt.Errorf("%w: %d bytes before its end", ErrMessage, len(r.rest))
		}
		fn(beat)
	}
	return nil
}
