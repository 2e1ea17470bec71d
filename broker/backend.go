package broker

import (
	"context"
	"net"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// receiver is a connection as a group's loop sees it. Its functions are called
// on the group's goroutine, must not block, and must not keep the slice.
type receiver struct {
	// deliver's round is the doubt's when they came: see doubt.
	deliver func(deliveries []queue.Delivery, round uint32)
	// cancelled tells that the consumer's queue is gone (basic.cancel).
	cancelled func(queue.ConsumerID)
	// pending is owned by the group's loop.
	pending []queue.Delivery
}

// getReply answers a basic.get. Found is false for an empty queue.
type getReply struct {
	found     bool
	delivery  queue.Delivery
	round     uint32 // the doubt's, when it came
	remaining uint64
	err       error
	// written is set when the message was got without ack: to be called once
	// get-ok is written to the socket, which settles the message. Not calling
	// it leaves the message with the holder, to be requeued.
	written func()
}

// The methods of *Broker and *group that the AMQP front builds on. They are
// gathered here as interfaces so that the front can be read without the core.

// core is what a connection needs of its broker.
type core interface {
	// authenticate checks a user's password, and that guest comes from
	// loopback. The error's text is for the log, not for the client.
	authenticate(user, password string, remote net.Addr) error
	// view runs f with the topology under a read lock. f must neither block
	// nor keep what it reads, except *topology.Queue and *topology.Exchange
	// records, which are immutable.
	view(f func(*topology.State))
	// topologyVersion changes with every change of the topology: what was
	// routed under the same version may be reused.
	topologyVersion() uint64
	// changeTopology proposes ops (topology.Append…) and returns when they are
	// applied here, with the results of the ops.
	changeTopology(ctx context.Context, ops []byte) ([]topology.OpResult, error)
	// declareQueue registers wanted (ID, Group, Broker and Boot are set here)
	// and makes it in its group. When the name exists already, the existing
	// record is returned and created is false: the caller compares.
	declareQueue(ctx context.Context, wanted topology.Queue) (q *topology.Queue, created bool, err error)
	// deleteQueue deletes q and returns how many messages it held. The error is
	// an *amqp.Error 406 when ifUnused or ifEmpty forbids it.
	deleteQueue(ctx context.Context, q *topology.Queue, ifUnused, ifEmpty bool) (uint64, error)
	purgeQueue(ctx context.Context, q *topology.Queue) (uint64, error)
	// queueCounts are the ready messages and the consumers of q.
	queueCounts(ctx context.Context, q *topology.Queue) (ready uint64, consumers int, err error)
	// group is the group that holds a queue, nil if this broker has no such group.
	group(entry.GroupID) *gateway
	// newHolder and newConsumer draw ids that are unique in this broker.
	newHolder() queue.HolderID
	newConsumer() queue.ConsumerID
	// contents returns a reader of message bodies, to be used by one goroutine.
	contents(context.Context) *contentReader
}

// contentReader.content reads a delivered message's content. What it returns
// is valid until the next call on the same reader.
//
//	func (r *contentReader) content(g entry.GroupID, ref entry.Ref) (entry.Content, error)
//
// The calls on a group, all safe from any goroutine, all kept in the order of
// one caller, none blocking but where it says so:
//
//	submit(s *submission)      what it settles is in settled: the prefetch is free at once
//	attach(c queue.Consumer, to *receiver, done func(error))   done on the group's goroutine, before the first delivery
//	detach(id queue.ConsumerID, done func())                    after done no delivery comes
//	credit(id queue.ConsumerID, n int, written []entry.Range)   n deliveries were written to the socket: those, of a
//	      consumer without acks, which settles them
//	limit(h queue.HolderID, prefetch uint32)                    basic.qos global=true
//	get(q entry.QueueID, h queue.HolderID, noAck bool, done func(getReply))   call reply.written, if set, after the write
//	deadLetter(h queue.HolderID, q *topology.Queue, ranges []entry.Range, done func())
//	      the same for what the holder rejected and q dead-letters; no op follows.
//	      done is called when it has been dead-lettered, or the broker stops
//	judge(c claim, message entry.MessageID, came, round uint32) verdict   whose a delivery is that came before a stop
//	closeHolder(h queue.HolderID, done func())                  detaches consumers and requeues all that the holder has
