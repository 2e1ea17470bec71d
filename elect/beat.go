package elect

import (
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
		led []led // ordered by group
	}
}

type led struct {
	beat Beat
	told time.Time
}

// NewBeater makes a Beater for a broker whose log counts as hanging when a
// write waits longer than hang for its fsync (0: DefaultHang).
func NewBeater(hang time.Duration) *Beater { return &Beater{hang: hang} }

// Lead tells that this broker leads a group. The group's loop calls it at each
// tick: one that has not for hang beats no more, since it hangs itself.
func (b *Beater) Lead(now time.Time, beat Beat) {}

// Resign tells that this broker doesn't lead the group.
func (b *Beater) Resign(group entry.GroupID) {}

// Make appends the datagram to dst. It returns false when nothing is to be
// sent: no group is led, or the log hangs. oldest is since when the log's
// oldest write waits for its fsync, zero when none does.
func (b *Beater) Make(now, oldest time.Time, dst []byte) ([]byte, bool) { return dst, false }

// ParseBeats calls fn with each beat of a datagram.
//
// Errors: ErrMessage; beats before the malformed one were handed to fn.
func ParseBeats(b []byte, fn func(Beat)) error { return nil }
