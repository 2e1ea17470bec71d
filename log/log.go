package log

import (
	"io"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Entry is one raft entry. Payload is opaque to the log.
type Entry struct {
	Term, Index uint64
	Payload     []byte
}

// HardState is a group's durable raft state. Term and Vote are durable when an
// append that carries them is done; Commit is advisory: it is written along
// with the next append that has to be synced, or at Close, and after a crash
// an older one may be found.
type HardState struct {
	Term, Vote uint64
	Commit     uint64
}

// Append is a request to the writer: entries of one group, its hard state, or
// both. Entries are consecutive; the first may lie at or below the group's
// last one, which discards every older entry from there on (raft's conflict).
type Append struct {
	Group     entry.GroupID
	Entries   []Entry
	HardState *HardState
	// Done is called on the writer's goroutine, in the order of Append calls,
	// once the append is as durable as the policy promises, or with the error
	// that has stopped the log. It must not block nor call Append. May be nil.
	Done func(error)
}

// Log is the broker's one write-ahead log. All methods are safe for use by
// many goroutines at once.
type Log struct{}

// Stats are a log's figures at one moment.
type Stats struct {
	DiskBytes     int64  // segment files
	LiveBytes     int64  // records that compaction would keep
	Segments      int    // segment files
	Entries       int64  // entries that can be read
	Appends       uint64 // appends done since Open
	Commits       uint64 // group commits since Open
	Fsyncs        uint64 // fsyncs of segments since Open
	WrittenBytes  uint64 // since Open, moved records included
	MovedBytes    uint64 // copied by compaction since Open
	RepairedBytes int64  // torn tail that Open cut off
}

// Open opens the log in dir, which is made if it does not exist, and takes the
// directory's lock. See the package comment for what it repairs and what it
// refuses with a *DamagedError.
func Open(dir string, o Options) (*Log, error) { panic("not built yet") }

// Append hands a to the writer. The entries and their payloads must not change
// until Done is called. It blocks while more waits than Options.QueueBytes or
// QueueAppends. After Close, Done is called with ErrClosed before it returns.
func (l *Log) Append(a Append) { panic("not built yet") }

// Bounds returns the positions of the group's first and last entry above its
// floor, the range that is replayed after a restart. When it is empty, last is
// the floor and first.Index is last.Index+1. ok is false for a group that the
// log knows nothing of. Entries count as soon as they are written.
func (l *Log) Bounds(g entry.GroupID) (first, last entry.Position, ok bool) { panic("not built yet") }

// Floor is the position up to which a checkpoint covers replay; zero for none.
func (l *Log) Floor(g entry.GroupID) entry.Position { panic("not built yet") }

// Term returns the term of the entry at index, from the floor to the last one;
// else ErrNotFound.
func (l *Log) Term(g entry.GroupID, index uint64) (uint64, error) { panic("not built yet") }

// Read returns the payload of an entry, appended to dst[:0], its checksum
// verified: ErrNotFound, a *DamagedError, or an I/O error. One pread; never
// waits for an fsync. Entries below the floor are served until released.
func (l *Log) Read(g entry.GroupID, index uint64, dst []byte) ([]byte, error) {
	panic("not built yet")
}

// ReadRange calls fn for each entry from first to last, both included, reading
// ahead in large pieces. The payload is valid until fn returns. It stops at
// fn's first error and returns it. A missing entry is ErrNotFound.
func (l *Log) ReadRange(g entry.GroupID, first, last uint64, fn func(Entry) error) error {
	panic("not built yet")
}

// HardState returns the newest hard state of a group.
func (l *Log) HardState(g entry.GroupID) (HardState, bool) { panic("not built yet") }

// Release says that the state machine needs the bodies of these entries no
// more. They can still be read while they lie above the floor.
func (l *Log) Release(g entry.GroupID, indexes ...uint64) { panic("not built yet") }

// Retain is called once after a restart and replay: it releases every entry at
// or below the floor for which live is false. (Entries above it are released
// by Release, which must also be told what replay releases.)
func (l *Log) Retain(g entry.GroupID, live func(index uint64) bool) { panic("not built yet") }

// Checkpoint writes a group's state at a position to a file (checksum, fsync,
// rename, directory fsync) and then raises the floor to it; the previous
// checkpoint is kept until then. Blocks for as long as write and the disk
// take; for a background goroutine. A checkpoint beyond the log's last entry,
// or at odds with its term there, replaces the log: newer entries are
// discarded.
func (l *Log) Checkpoint(g entry.GroupID, at entry.Position, write func(io.Writer) error) error {
	panic("not built yet")
}

// OpenCheckpoint opens a group's newest valid checkpoint, verified as a whole
// before it is handed out; ErrNoCheckpoint if there is none.
func (l *Log) OpenCheckpoint(g entry.GroupID) (at entry.Position, r io.ReadCloser, err error) {
	panic("not built yet")
}

// Identity is the broker's incarnation: a random number, never 0, made with
// the data directory. It is also the broker's raft id.
func (l *Log) Identity() uint64 { panic("not built yet") }

// Groups lists the groups that the log knows of, in ascending order.
func (l *Log) Groups() []entry.GroupID { panic("not built yet") }

// Stats returns the log's figures. O(1).
func (l *Log) Stats() Stats { panic("not built yet") }

// Err is the error that has stopped the log, or nil.
func (l *Log) Err() error { panic("not built yet") }

// Failed is closed when the log has stopped because of an error.
func (l *Log) Failed() <-chan struct{} { panic("not built yet") }

// Close writes and syncs what waits, stops the log's goroutines and gives up
// the lock. It returns the sticky error, if any. Idempotent.
func (l *Log) Close() error { panic("not built yet") }

// RecordInfo is one record of a stopped log, as Inspect tells it.
type RecordInfo struct {
	File        string // path of the segment
	Offset      int64  // of the record in it
	Kind        string // entry, moved, hardstate, synced, front, discard
	Group       entry.GroupID
	Term, Index uint64
	HardState   HardState // of a hardstate record
	Size        int       // of the payload, in bytes
}

// Report is what Verify found.
type Report struct {
	Segments, Records, Checkpoints int
	Bytes                          int64
	TornBytes                      int64   // at the end of the newest segment; Open would cut them
	Damaged                        []error // *DamagedError each
}

// Inspect calls fn for every record of the stopped log in dir, oldest first,
// without changing anything. It stops at fn's error, or at damage.
func Inspect(dir string, fn func(RecordInfo) error) error { panic("not built yet") }

// Verify reads every byte of the stopped log in dir and checks every checksum,
// without changing anything. The error tells what kept it from reading; damage
// is in the report.
func Verify(dir string) (Report, error) { panic("not built yet") }
