package topology

import (
	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// Code is what became of an op.
type Code uint8

const (
	// OK: the op was carried out. Deleting what isn't there is Missing, which
	// AMQP answers with OK (RABBITMQ.md 2).
	OK Code = iota
	// Exists: a declare found the name taken (the result's Queue or Exchange
	// has it) and changed nothing. CheckQueueEquivalent and
	// CheckExchangeEquivalent say whether the declarer may be content. For a
	// bind it means that the binding is there already.
	Exists
	// Missing: there was nothing to delete or unbind.
	Missing
	// NoVhost, NoExchange, NoQueue, NoUser: what the op needs isn't there; the
	// result's Name is its name.
	NoVhost
	NoExchange
	NoQueue
	NoUser
	// InUse: an exchange with bindings was to be deleted only if unused.
	InUse
	// Refused: the op would touch the default or a predeclared exchange.
	Refused
	// Invalid: a value that the callers' checks keep out (an empty or too long
	// name, an unknown exchange kind, a regular expression that isn't one).
	Invalid
)

var codeNames = [...]string{"ok", "exists", "missing", "no vhost", "no exchange", "no queue", "no user", "in use", "refused", "invalid"}

// String names the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}

// OpResult is what became of one op of a submission.
type OpResult struct {
	Code Code
	// Name is what the codes from NoVhost to InUse speak of.
	Name string
	// Queue is the queue that a DeclareQueue made or found, or that a
	// DeleteQueue deleted; Exchange likewise.
	Queue    *Queue
	Exchange *Exchange
}

// Refusal is the error that a client in vhost gets for r, nil where the op
// went well. Exists is no refusal: the Check…Equivalent functions decide that.
func (r OpResult) Refusal(vhost string) *amqp.Error {
	switch r.Code {
	case OK, Exists, Missing:
		return nil
	case NoVhost:
		return NoSuchVhost(r.Name)
	case NoExchange:
		return NoSuchExchange(vhost, r.Name)
	case NoQueue:
		return NoSuchQueue(vhost, r.Name)
	case InUse:
		return ExchangeInUse(vhost, r.Name)
	case Refused:
		if r.Name == "" {
			return DefaultExchangeRefused()
		}
		return SystemExchangeRefused(vhost, r.Name)
	}
	return amqp.PreconditionFailed("invalid topology change: %s %s", r.Code, r.Name)
}

// Result is what became of one submission.
type Result struct {
	Session   entry.SessionID
	Sequence  uint64
	Duplicate bool // it was applied by an earlier entry: read the state to see what came of it
	Ops       []OpResult
}

// Effects collects what an Apply did. It is reused between calls: Reset keeps
// the capacity.
type Effects struct {
	// Results has one for each submission of the batch, in its order.
	Results []Result
	// QueuesAdded and QueuesDeleted are the queues that came and went, each
	// in the order of the changes; a queue that came and went within the
	// batch is in both.
	QueuesAdded, QueuesDeleted []*Queue
	// ExchangesDeleted are the exchanges that went, those that deleted
	// themselves with their last binding included.
	ExchangesDeleted []*Exchange
	// VhostsDeleted are names: their connections must be closed.
	VhostsDeleted []string
	// UsersChanged are names of users that were put or deleted, or whose
	// permissions changed.
	UsersChanged []string
	// Changed is true when anything but a session changed.
	Changed bool
}

// Reset empties fx.
func (fx *Effects) Reset() {
	clear(fx.Results)
	clear(fx.QueuesAdded)
	clear(fx.QueuesDeleted)
	clear(fx.ExchangesDeleted)
	*fx = Effects{
		Results:          fx.Results[:0],
		QueuesAdded:      fx.QueuesAdded[:0],
		QueuesDeleted:    fx.QueuesDeleted[:0],
		ExchangesDeleted: fx.ExchangesDeleted[:0],
		VhostsDeleted:    fx.VhostsDeleted[:0],
		UsersChanged:     fx.UsersChanged[:0],
	}
}
