package log

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("log: closed")
	// ErrLocked is returned by Open, Inspect and Verify when another process
	// (or another Log of this one) has the data directory open.
	ErrLocked = errors.New("log: data directory is in use by another process")
	// ErrNotFound is returned for an entry that the log does not hold: never
	// appended, discarded by a conflict, or released and covered by a
	// checkpoint.
	ErrNotFound = errors.New("log: no such entry")
	// ErrNoCheckpoint is returned when a group has no valid checkpoint.
	ErrNoCheckpoint = errors.New("log: no checkpoint")
	// ErrDamaged is what errors.Is finds in every *DamagedError.
	ErrDamaged = errors.New("log: damaged")
	// ErrInvalidAppend is wrapped by the sticky error of a log that was given
	// an append that would leave a hole, that lies below the floor, or with an
	// entry that no record can hold. For such an entry Refill returns it and
	// the log goes on: it came from another broker.
	ErrInvalidAppend = errors.New("log: invalid append")
)

// DamagedError tells of bytes that were once durable and are no longer what
// was written. The replica must not vote or serve with this log: it is to be
// refilled from its peers under a new incarnation.
type DamagedError struct {
	File   string // path of the damaged or missing file
	Offset int64  // byte offset in it; 0 where the file as a whole is meant
	Reason string
}

// Error names the file and the offset.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("log: damaged: %s at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrDamaged) true.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

var errChecksum = errors.New("checksum does not match")
