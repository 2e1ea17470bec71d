package queue

import (
	"errors"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// HolderID is who holds unacked messages: a channel of some connection.
type HolderID uint64

// ConsumerID is one consumer, unique in its group.
type ConsumerID uint64

var (
	// ErrNoQueue is returned where a queue doesn't exist.
	ErrNoQueue = errors.New("queue: no such queue")
	// ErrExclusiveUse is returned where an exclusive consumer is or would be
	// beside another.
	ErrExclusiveUse = errors.New("queue: in exclusive use")
	// ErrConsumer is returned for a consumer id that is in use.
	ErrConsumer = errors.New("queue: consumer id is in use")
)

// Consumer is a subscription.
type Consumer struct {
	ID        ConsumerID
	Holder    HolderID
	Queue     entry.QueueID
	NoAck     bool
	Exclusive bool
	Prefetch  uint32 // unacked deliveries at most, 0: no limit; not with NoAck
	Link      uint32 // deliveries at most that wait for Credit, 0: no limit
	Priority  int32  // higher is served first
}

// Delivery is one message for one consumer (0: an answer to Get).
type Delivery struct {
	Consumer    ConsumerID
	Holder      HolderID
	Queue       entry.QueueID
	Message     entry.MessageID
	Ref         entry.Ref
	Deliveries  uint32 // how often it was returned before
	Redelivered bool
	NoAck       bool // the owner proposes its Settle
}

// Dispatcher is the leader's memory of who was given what.
type Dispatcher struct{}

// NewDispatcher starts with nothing delivered.
func NewDispatcher(m *Machine) *Dispatcher { return &Dispatcher{} }

// Attach adds a consumer.
func (d *Dispatcher) Attach(c Consumer) error { panic("unwritten") }

// Detach removes a consumer. What it was given stays with its holder.
func (d *Dispatcher) Detach(id ConsumerID) { panic("unwritten") }

// HolderLimit sets a limit shared by the consumers of a holder, 0: none.
func (d *Dispatcher) HolderLimit(h HolderID, prefetch uint32) { panic("unwritten") }

// Credit tells that n deliveries of a consumer were written to its socket.
func (d *Dispatcher) Credit(id ConsumerID, n uint32) { panic("unwritten") }

// Dispatch gives out what the queue has ready and its consumers may take.
func (d *Dispatcher) Dispatch(q entry.QueueID, fn func(Delivery)) { panic("unwritten") }

// DispatchPending calls Dispatch for each queue where there may be something
// to give out since the last call.
func (d *Dispatcher) DispatchPending(fn func(Delivery)) { panic("unwritten") }

// Get gives one message to a holder.
func (d *Dispatcher) Get(q entry.QueueID, h HolderID, noAck bool) (dl Delivery, remaining uint64, ok bool) {
	panic("unwritten")
}

// Settled tells that a holder acked, rejected or returned messages; returns
// how many of them it held. They are in limbo until the op applies.
func (d *Dispatcher) Settled(h HolderID, q entry.QueueID, ranges []entry.Range) uint64 {
	panic("unwritten")
}

// Applied is to be called after each Machine.Apply. It returns the consumers
// of deleted queues, which are detached; the slice is reused.
func (d *Dispatcher) Applied(fx *Effects) (cancelled []Consumer) { panic("unwritten") }

// CloseHolder detaches a holder's consumers and returns what it held, in limbo
// now, for the owner to propose as Return.
func (d *Dispatcher) CloseHolder(h HolderID) []Change { panic("unwritten") }

// PurgeOps returns the arguments of a Purge of what is ready now.
func (d *Dispatcher) PurgeOps(q entry.QueueID) (upto entry.MessageID, except []entry.Range) {
	panic("unwritten")
}

// AppendMarks appends a Mark for each queue that gave out new messages since
// the last call.
func (d *Dispatcher) AppendMarks(dst []byte) []byte { panic("unwritten") }

// Adopt tells that a consumer already holds messages (a gateway that attaches
// again to a new leader).
func (d *Dispatcher) Adopt(id ConsumerID, ranges []entry.Range) { panic("unwritten") }

// Ready is the number of messages that wait for a consumer.
func (d *Dispatcher) Ready(q entry.QueueID) uint64 { panic("unwritten") }

// Unacked is the number of messages given out and not yet removed or returned.
func (d *Dispatcher) Unacked(q entry.QueueID) uint64 { panic("unwritten") }

// Consumers is the number of consumers attached to the queue.
func (d *Dispatcher) Consumers(q entry.QueueID) int { panic("unwritten") }
