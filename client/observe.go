package client

import "context"

// Observer is told of each publish and of each delivery that a handler takes,
// for traces and metrics. Package client/otel has one for OpenTelemetry. Its
// methods are called on hot paths, from many goroutines.
type Observer interface {
	// Publish is called before a message is sent. It may add headers to it (a
	// trace context), in a new table if there are some. What it returns, unless
	// nil, is called once with what became of the message, nil for a confirm.
	Publish(ctx context.Context, m *Message) func(error)
	// Process is called before each call of a handler, and returns the handler's
	// context. What it returns beside it, unless nil, is called with the
	// handler's error.
	Process(ctx context.Context, d *Delivery) (context.Context, func(error))
}
