package elect

import (
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Gate lets one group at a time move from this broker to its preferred one. It
// is shared by the broker's electors and safe for concurrent use.
type Gate struct {
	mu struct {
		sync.Mutex
		group entry.GroupID
		until time.Time
	}
}

// HandOver begins a planned stop of this broker: the group's leadership is
// transferred to the most caught-up living mirror, and to the next when that
// fails, and this broker never campaigns again. The owner goes on ticking until
// Handed is true, or its own patience ends.
func (e *Elector) HandOver(now time.Time) {}

// Handed says that this broker doesn't lead the group.
func (e *Elector) Handed() bool { return e.local.Role != Leader }

// TransferTo hands leadership to broker name because an operator wants it.
//
// Errors: ErrTransfer when this broker doesn't lead, or name cannot take over.
func (e *Elector) TransferTo(now time.Time, name string) error { return nil }
