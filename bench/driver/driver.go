// Package driver is the load generator's ways to a broker, one type each:
// AMQP091 as a Go user would have it, Lean, which leaves the machine to the
// broker that is measured, and JetStream for NATS servers, which know no AMQP.
// It counts and measures nothing itself.
package driver

// Driver is the way to a broker. Each Open is a connection of its own.
type Driver interface {
	// OpenAdmin opens a connection for declaring and deleting.
	OpenAdmin(url string) (Admin, error)
	// OpenPublisher opens a connection with publisher confirms. confirmed is
	// called on one goroutine of the driver, with tags that count the publishes
	// from 1; multiple means all up to tag.
	OpenPublisher(url string, to Route, confirmed func(tag uint64, multiple, ack bool)) (Publisher, error)
	// OpenConsumer opens a connection and consumes from the route's queue with
	// manual acks and at most prefetch unacked. deliver is called on one
	// goroutine of the driver; the body is valid until it returns.
	OpenConsumer(url string, from Route, prefetch int, deliver func(Delivery)) (Consumer, error)
}

// Topology is what a run declares before it begins, and deletes at its end.
type Topology struct {
	// Queues are durable. With an Exchange each gets every message, else each
	// is published to by its name.
	Queues   []string
	Exchange string
	// QueueType is the x-queue-type argument and AckQuorum x-ack-quorum; ""
	// declares without.
	QueueType, AckQuorum string
	// MaxUnacked is how many messages of a queue its consumers may hold
	// together, for brokers that bound it at the queue.
	MaxUnacked int
}

// Route is where a message goes: to the Exchange, or where that is "" to the
// Queue. A consumer takes from the Queue.
type Route struct{ Exchange, Queue string }

// Admin declares and deletes. Not for use by several goroutines.
type Admin interface {
	Declare(Topology) error
	Delete(Topology) error
	Close() error
}

// Publisher publishes to one route. Not for use by several goroutines.
type Publisher interface {
	// Publish sends body, or buffers it. The body is the caller's again when
	// it returns.
	Publish(persistent bool, body []byte) error
	// Flush sends what is buffered. It is called before waiting for confirms.
	Flush() error
	// Failed receives the reason when the connection or channel ends before
	// Close is called.
	Failed() <-chan error
	Close() error
}

// Consumer consumes on one channel. Ack may be called from deliver.
type Consumer interface {
	// Ack settles the delivery with that tag, and with multiple all before it.
	Ack(tag uint64, multiple bool) error
	Failed() <-chan error
	// Close closes the connection and waits until deliver is called no more.
	Close() error
}

// Delivery is one message from the broker. Tags count a consumer's deliveries
// from 1.
type Delivery struct {
	Tag         uint64
	Redelivered bool
	Body        []byte
}
