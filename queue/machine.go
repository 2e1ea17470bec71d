package queue

import (
	"io"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Machine is the replicated state of a queue group.
type Machine struct{}

// Info is what a machine knows of one queue.
type Info struct {
	ID       entry.QueueID
	Settings Settings
	Messages uint64          // waiting, delivered ones included
	Bytes    uint64          // of their contents
	Last     entry.MessageID // the newest id given out, 0 if none
	Mark     entry.MessageID // ids up to it may have been delivered
}

// Message is one waiting message.
type Message struct {
	ID         entry.MessageID
	Ref        entry.Ref
	Deliveries uint32 // how often it was returned; stays at 65535
}

// NewMachine returns the state before the first entry.
func NewMachine() *Machine { return &Machine{} }

// Apply applies the entry at index; an empty payload is an entry without ops.
func (m *Machine) Apply(index uint64, payload []byte, fx *Effects) error { panic("unwritten") }

// Applied is the index of the last entry applied.
func (m *Machine) Applied() uint64 { panic("unwritten") }

// Now is the leader's time of the last batch.
func (m *Machine) Now() int64 { panic("unwritten") }

// Queue describes a queue.
func (m *Machine) Queue(id entry.QueueID) (Info, bool) { panic("unwritten") }

// Queues returns the ids of all queues, ascending.
func (m *Machine) Queues() []entry.QueueID { panic("unwritten") }

// Message looks up a waiting message.
func (m *Machine) Message(q entry.QueueID, id entry.MessageID) (Message, bool) { panic("unwritten") }

// Each calls fn with the queue's messages from id from on, ascending, until it
// returns false.
func (m *Machine) Each(q entry.QueueID, from entry.MessageID, fn func(Message) bool) {
	panic("unwritten")
}

// Live tells whether a message waits whose body lies in that entry.
func (m *Machine) Live(index uint64) bool { panic("unwritten") }

// Snapshot is a machine's state at one index, which stays as it is while the
// machine goes on. It may be read on another goroutine.
type Snapshot struct{}

// Snapshot costs microseconds and no copy of the messages.
func (m *Machine) Snapshot() *Snapshot { panic("unwritten") }

// Applied is the index of the last entry in the snapshot.
func (s *Snapshot) Applied() uint64 { panic("unwritten") }

// Checkpoint writes the state, O(messages).
func (s *Snapshot) Checkpoint(w io.Writer) error { panic("unwritten") }

// Checkpoint writes the state, O(messages).
func (m *Machine) Checkpoint(w io.Writer) error { return m.Snapshot().Checkpoint(w) }

// Restore reads what Checkpoint wrote.
func Restore(r io.Reader) (*Machine, error) { panic("unwritten") }
