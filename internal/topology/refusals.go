package topology

import (
	"strings"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// ResourceKind is what a name names.
type ResourceKind string

const (
	QueueKind    ResourceKind = "queue"
	ExchangeKind ResourceKind = "exchange"
)

// describe names a resource as RabbitMQ's texts do.
func describe(kind ResourceKind, vhost, name string) string {
	return string(kind) + " '" + name + "' in vhost '" + vhost + "'"
}

// NoSuchQueue is 404 (RABBITMQ.md 1).
func NoSuchQueue(vhost, name string) *amqp.Error {
	return amqp.NotFound("no %s", describe(QueueKind, vhost, name))
}

// NoSuchExchange is 404 (RABBITMQ.md 1).
func NoSuchExchange(vhost, name string) *amqp.Error {
	return amqp.NotFound("no %s", describe(ExchangeKind, vhost, name))
}

// NoPreviousQueue is the 404 for an empty queue name on a channel that has
// declared none (RABBITMQ.md 8).
func NoPreviousQueue() *amqp.Error { return amqp.NotFound("no previously declared queue") }

// NoSuchVhost is the 530 of connection.open (RABBITMQ.md 19).
func NoSuchVhost(name string) *amqp.Error { return amqp.NotAllowed("vhost %s not found", name) }

// VhostRefused is the 530 for a user without permissions in the vhost.
func VhostRefused(vhost, user string) *amqp.Error {
	return amqp.NotAllowed("access to vhost '%s' refused for user '%s'", vhost, user)
}

// AccessRefused is 403 (RABBITMQ.md 7).
func AccessRefused(action Action, kind ResourceKind, name, vhost, user string) *amqp.Error {
	return amqp.AccessRefused("%s access to %s refused for user '%s'", action, describe(kind, vhost, name), user)
}

// QueueLocked is the 405 for another connection's exclusive queue, and for an
// exclusive declare of a queue that isn't (RABBITMQ.md 4).
func QueueLocked(vhost, name string) *amqp.Error {
	return amqp.ResourceLocked("cannot obtain exclusive access to locked %s. It could be originally declared on another connection "+
		"or the exclusive property value does not match that of the original declaration.", describe(QueueKind, vhost, name))
}

// QueueInExclusiveUse is the 403 for a consumer beside an exclusive one
// (RABBITMQ.md 5).
func QueueInExclusiveUse(vhost, name string) *amqp.Error {
	return amqp.AccessRefused("%s in exclusive use", describe(QueueKind, vhost, name))
}

// QueueInUse is the 406 for deleting a queue with consumers only if unused.
func QueueInUse(vhost, name string) *amqp.Error {
	return amqp.PreconditionFailed("%s in use", describe(QueueKind, vhost, name))
}

// QueueNotEmpty is the 406 for deleting a queue with messages only if empty.
func QueueNotEmpty(vhost, name string) *amqp.Error {
	return amqp.PreconditionFailed("%s not empty", describe(QueueKind, vhost, name))
}

// ExchangeInUse is the 406 for deleting an exchange with bindings only if
// unused.
func ExchangeInUse(vhost, name string) *amqp.Error {
	return amqp.PreconditionFailed("%s in use", describe(ExchangeKind, vhost, name))
}

// DefaultExchangeRefused is the 403 for binding, declaring or deleting the
// default exchange (RABBITMQ.md 6).
func DefaultExchangeRefused() *amqp.Error {
	return amqp.AccessRefused("operation not permitted on the default exchange")
}

// SystemExchangeRefused is the 403 for deleting a predeclared exchange
// (RABBITMQ.md 6).
func SystemExchangeRefused(vhost, name string) *amqp.Error {
	return amqp.AccessRefused("deletion of system %s not allowed", describe(ExchangeKind, vhost, name))
}

// UnknownExchangeKind is a 503, which closes the connection.
func UnknownExchangeKind(kind string) *amqp.Error {
	return amqp.CommandInvalid("unknown exchange type '%s'", kind)
}

// StripName takes CR and LF out of a name of a queue or an exchange
// (RABBITMQ.md 8).
func StripName(name string) string {
	if !strings.ContainsAny(name, "\r\n") {
		return name
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(name)
}

// CheckNewQueueName refuses what a client may not call a new queue
// (RABBITMQ.md 6). RabbitMQ asks this of every declare that isn't passive,
// before it looks whether the queue is there.
func CheckNewQueueName(name string) *amqp.Error { return checkReserved(QueueKind, name) }

// CheckNewExchangeName refuses what a client may not call a new exchange
// (RABBITMQ.md 6). RabbitMQ asks this only where the exchange isn't there.
func CheckNewExchangeName(name string) *amqp.Error { return checkReserved(ExchangeKind, name) }

func checkReserved(kind ResourceKind, name string) *amqp.Error {
	if strings.HasPrefix(name, "amq.") {
		return amqp.AccessRefused("%s name '%s' contains reserved prefix 'amq.*'", kind, name)
	}
	return nil
}

// CheckNotDefaultExchange refuses the default exchange's name (RABBITMQ.md 6):
// asked by exchange declare (passive too), delete, bind and unbind, for both
// ends of a binding.
func CheckNotDefaultExchange(name string) *amqp.Error {
	if name == "" {
		return DefaultExchangeRefused()
	}
	return nil
}

// CheckExchangeDeletion refuses to delete exchanges that are the server's own,
// there or not (RABBITMQ.md 6).
func CheckExchangeDeletion(vhost, name string) *amqp.Error {
	if name == "" {
		return DefaultExchangeRefused()
	}
	if strings.HasPrefix(name, "amq.") {
		return SystemExchangeRefused(vhost, name)
	}
	return nil
}

// CheckPublish refuses to let clients publish to an internal exchange
// (RABBITMQ.md 6).
func CheckPublish(x *Exchange) *amqp.Error {
	if x.Internal {
		return amqp.AccessRefused("cannot publish to internal %s", describe(ExchangeKind, x.Vhost, x.Name))
	}
	return nil
}

// CheckQueueOwner refuses a queue that is exclusive to another connection
// (RABBITMQ.md 4): asked by everything a client does with a queue but publish.
// A declare that isn't passive asks CheckQueueEquivalent.
func CheckQueueOwner(q *Queue, connection string) *amqp.Error {
	if q.Exclusive && q.Owner != connection {
		return QueueLocked(q.Vhost, q.Name)
	}
	return nil
}
