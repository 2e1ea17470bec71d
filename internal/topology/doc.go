// Package topology owns what a cluster's clients see beside messages: vhosts,
// users and their permissions, exchanges, bindings and the registry of queues.
// State is the pure state machine of the topology group (no I/O, clock,
// goroutine or randomness): Apply takes a log entry's payload and says in
// Effects what came of it. Route finds the queues that a publish goes to, and
// the Check functions and constructors of refusals give the errors that
// RabbitMQ gives, text for text (RABBITMQ.md).
//
// # Concurrency
//
// State has one writer (Apply) and any number of readers, kept apart by a lock
// of the owner. Readers never change it, not even a cache. What reads hand out
// (*Queue, *Exchange, *User, …) never changes after it was made and may be kept
// after the lock is released: a change makes a new one.
//
// # Nil errors
//
// The Check functions return *amqp.Error, nil when all is well. Compare it
// before it becomes an error: a nil *amqp.Error in an error isn't nil.
//
// # Batch
//
// The payload of one entry of the topology group. Numbers are uvarints, bytes
// and strings carry their length before them as a uvarint, now is 8 bytes,
// little endian:
//
//	version (1 byte) | now (8) | submission …
//	submission: session | sequence | length of the ops in bytes | op …
//	op:         code (1 byte) | fields, see the op types
//	table:      as AMQP encodes it, 4 bytes of length first
//
// A submission whose session has been heard with this sequence or a later one
// is dropped. An empty payload is an entry without ops (a new leader's first).
//
// # Checkpoint
//
// A checkpoint is the shortest list of ops that makes the state, in an order
// that depends on the state alone, so that equal states have equal checkpoints:
//
//	magic "MQTOPO" | version (1 byte) | applied index
//	record: kind (1 byte: an op's code, or a session) | length | fields
//	end:    kind 0 | number of records
package topology
