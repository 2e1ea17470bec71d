package bench

// Driver is the way to a broker on the hot path: publishing and consuming.
// AMQP091 is what a Go user would have; its own cost per message bounds what
// can be measured on a small machine, and Lean costs a fraction of it.
type Driver interface {
	// OpenPublisher opens a connection and a channel in confirm mode.
	// confirmed is called on one goroutine of the driver, with delivery tags
	// that count the publishes from 1; multiple means all up to tag.
	OpenPublisher(url string, confirmed func(tag uint64, multiple, ack bool)) (Publisher, error)
	// OpenConsumer opens a connection and a channel and consumes from the
	// queue with manual acks. deliver is called on one goroutine of the driver;
	// the body is valid until it returns.
	OpenConsumer(url, queue string, prefetch int, deliver func(Delivery)) (Consumer, error)
}

// Publisher publishes on one channel. Not for use by several goroutines.
type Publisher interface {
	// Publish sends body through the default exchange, or buffers it.
	Publish(queue string, persistent bool, body []byte) error
	// Flush sends what is buffered. It is called before waiting for confirms.
	Flush() error
	// Failed receives the reason when the connection or channel ends before
	// Close is called.
	Failed() <-chan error
	Close() error
}

// Consumer consumes on one channel. Ack may be called from deliver.
type Consumer interface {
	Ack(tag uint64, multiple bool) error
	Failed() <-chan error
	// Close closes the connection and waits until deliver is called no more.
	Close() error
}

// Delivery is one message from the broker.
type Delivery struct {
	Tag         uint64
	Redelivered bool
	Body        []byte
}
