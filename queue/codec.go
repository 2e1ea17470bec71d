package queue

import (
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// batchVersion is the first byte of every batch.
const batchVersion = 1

// BatchHeadSize is the number of bytes that AppendBatch adds.
const BatchHeadSize = 1 + 8

// Kind tells what an op does.
type Kind uint8

// The kinds of op. Their values are in the log: never change one.
const (
	Enqueue    Kind = 1 // put one message in one or more queues
	Settle     Kind = 2 // remove messages: acked, discarded, delivered without ack
	Return     Kind = 3 // requeue messages: delivery count + 1
	Create     Kind = 4 // make a queue
	Delete     Kind = 5 // remove a queue and its messages
	Purge      Kind = 6 // remove all messages up to an id but some
	Mark       Kind = 7 // messages up to an id may have been delivered
	EndSession Kind = 8 // forget a session's sequence
	// EnqueueExpiring is an Enqueue of a message with an expiration of its own.
	EnqueueExpiring Kind = 9
	// Once says of the enqueue that follows whose it is, and which of theirs. An
	// Op has it in its Producer and Sequence, and the enqueue's kind.
	Once Kind = 10
)

// String is the op's name as `log inspect` prints it.
func (k Kind) String() string {
	names := [...]string{"invalid", "enqueue", "settle", "return", "create", "delete", "purge", "mark", "end-session", "enqueue-expiring", "once"}
	if int(k) < len(names) {
		return names[k]
	}
	return "invalid"
}

// AppendBatch appends the head of a batch whose submissions follow. now is the
// leader's time in nanoseconds of the Unix epoch.
func AppendBatch(dst []byte, now int64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, batchVersion), uint64(now))
}

// AppendSubmission appends a submission to a batch: ops that were built with
// the Append functions below, in order. session and seq make it idempotent:
// a machine drops a submission whose seq is not above the session's last.
// Session 0 is exempt from that: it is the leader itself.
func AppendSubmission(dst []byte, session entry.SessionID, seq uint64, ops []byte) []byte {
	return append(AppendSubmissionHead(dst, session, seq, len(ops)), ops...)
}

// AppendSubmissionHead appends all of a submission but its ops, exactly size
// bytes that the caller appends.
func AppendSubmissionHead(dst []byte, session entry.SessionID, seq uint64, size int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(session))
	dst = binary.AppendUvarint(dst, seq)
	return binary.AppendUvarint(dst, uint64(size))
}

// SubmissionSize is the number of bytes that AppendSubmission will add for ops
// of that size.
func SubmissionSize(seq uint64, ops int) int {
	return 8 + uvarintSize(seq) + uvarintSize(uint64(ops)) + ops
}

// AppendEnqueue appends an enqueue of one message to every queue named. The
// caller then appends exactly contentSize bytes, the encoded entry.Content.
// A queue that doesn't exist when the op is applied is passed over in silence:
// RabbitMQ confirms a publish to a queue that was deleted in the meantime.
func AppendEnqueue(dst []byte, queues []entry.QueueID, contentSize int) []byte {
	return appendEnqueue(append(dst, byte(Enqueue)), queues, contentSize)
}

// AppendEnqueueExpiring is AppendEnqueue for a message that expires once it
// waited for that long, or earlier where a queue's own TTL says so. expiration
// counts in whole milliseconds, from 0 to MaxTTL; what lies outside is taken
// for the nearest of them.
func AppendEnqueueExpiring(dst []byte, expiration time.Duration, queues []entry.QueueID, contentSize int) []byte {
	dst = binary.AppendUvarint(append(dst, byte(EnqueueExpiring)), milliseconds(expiration))
	return appendEnqueue(dst, queues, contentSize)
}

// AppendOnce appends that the enqueue which the caller appends next is the one
// that a producer of a vhost numbered so: it is applied once, however often it
// comes in whatever submission, as long as its number is no further than
// ProducerWindow below the producer's highest. Further down it is refused, with
// the result TooOld.
// REQUIRES: len(producer) is 1 to 255, len(vhost) at most 255, sequence 1 to
// MaxSequence.
func AppendOnce(dst []byte, vhost string, producer []byte, sequence uint64) []byte {
	dst = binary.AppendUvarint(append(dst, byte(Once)), uint64(len(vhost)))
	dst = binary.AppendUvarint(append(dst, vhost...), uint64(len(producer)))
	return binary.AppendUvarint(append(dst, producer...), sequence)
}

func appendEnqueue(dst []byte, queues []entry.QueueID, contentSize int) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(queues)))
	for _, q := range queues {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(q))
	}
	return binary.AppendUvarint(dst, uint64(contentSize))
}

// AppendSettle appends the removal of messages (acked, rejected without
// requeue, or delivered to a consumer without acks). Ids that are gone are
// passed over; ranges may come in any order.
func AppendSettle(dst []byte, q entry.QueueID, ranges []entry.Range) []byte {
	return appendRanges(appendOp(dst, Settle, q), ranges)
}

// AppendReturn appends a requeue: each message keeps its place, its delivery
// count grows by one, and it is redelivered from then on.
func AppendReturn(dst []byte, q entry.QueueID, ranges []entry.Range) []byte {
	return appendRanges(appendOp(dst, Return, q), ranges)
}

// AppendCreate appends the making of a queue. If there is one of that id it
// stays as it is, and the op's result is Exists.
func AppendCreate(dst []byte, q entry.QueueID, s Settings) []byte {
	dst = appendOp(dst, Create, q)
	dst = binary.AppendUvarint(dst, uint64(s.size()))
	return s.append(dst)
}

// AppendDelete appends the removal of a queue with all its messages, or, if
// ifEmpty, only where it has none, delivered ones included. Its result has the
// number of messages removed; or NotEmpty and the number that it has; or
// NoQueue.
func AppendDelete(dst []byte, q entry.QueueID, ifEmpty bool) []byte {
	dst = appendOp(dst, Delete, q)
	if ifEmpty {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendPurge appends the removal of all messages with an id ≤ upto but those
// in except (what Dispatcher.PurgeOps gave). Its result has the number removed.
func AppendPurge(dst []byte, q entry.QueueID, upto entry.MessageID, except []entry.Range) []byte {
	dst = binary.AppendUvarint(appendOp(dst, Purge, q), uint64(upto))
	return appendRanges(dst, except)
}

// AppendMark appends that messages with an id ≤ upto may have been delivered:
// a leader that starts later gives them out as redelivered. A mark never
// goes back.
func AppendMark(dst []byte, q entry.QueueID, upto entry.MessageID) []byte {
	return binary.AppendUvarint(appendOp(dst, Mark, q), uint64(upto))
}

// AppendEndSession appends that a session is over: its last sequence is
// forgotten, so nothing of it may be submitted again.
func AppendEndSession(dst []byte, session entry.SessionID) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, byte(EndSession)), uint64(session))
}

func appendOp(dst []byte, kind Kind, q entry.QueueID) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, byte(kind)), uint64(q))
}

func appendRanges(dst []byte, ranges []entry.Range) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ranges)))
	for _, r := range ranges {
		dst = binary.AppendUvarint(dst, uint64(r.First))
		dst = binary.AppendUvarint(dst, uint64(r.Last-r.First))
	}
	return dst
}

func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }
