package topology

import (
	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// Queue is a queue's entry in the registry. Its messages are in its group.
type Queue struct {
	ID          entry.QueueID
	Group       entry.GroupID
	Vhost, Name string
	// Durable is false for every exclusive queue, whatever its declarer said,
	// as in RabbitMQ.
	Durable, Exclusive, AutoDelete bool
	// Owner is the id of the connection that an exclusive queue belongs to.
	Owner string
	// Broker is where a volatile queue's messages are and Boot which start of
	// it; else where it was declared.
	Broker    string
	Boot      uint64
	Arguments amqp.Table
	// Type is "classic" or "quorum".
	Type string
	// AckQuorum is the x-ack-quorum argument, "" where the broker's default
	// holds.
	AckQuorum string

	// ordinal grows with each queue declared: the order of Route's answers.
	ordinal uint64
	// in has the bindings to this queue; binding.at is the place in it. Behind
	// a pointer, so that a Queue can be copied without the lock.
	in *[]*binding
}

// Volatile reports whether the queue's messages are in one broker's memory.
func (q *Queue) Volatile() bool { return q.Group == entry.Volatile }

// QueueType is the type that arguments ask for: "classic" unless x-queue-type
// says otherwise.
func QueueType(arguments amqp.Table) string {
	if t, ok := arguments["x-queue-type"].(string); ok {
		return t
	}
	return "classic"
}
