// Package otel has the SDK tell OpenTelemetry of publishes and deliveries: spans
// and metrics as the semantic conventions for messaging and for RabbitMQ name
// them (version 1.41), and the trace context in the headers of messages, as W3C's
// traceparent with the usual propagator. It is a package of its own so that who
// does without OpenTelemetry does not link it.
//
//	c, err := client.Dial(ctx, urls, client.Config{Observer: otel.NewObserver(otel.Config{})})
package otel

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	upstream "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mirrormq/mirrormq/client"
)

const scope = "github.com/mirrormq/mirrormq/client/otel"

// Config says where spans and metrics go. The zero value of a field means
// OpenTelemetry's global one.
type Config struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagator     propagation.TextMapPropagator
}

// observer is a client.Observer.
type observer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	sent, consumed       metric.Int64Counter
	sending, handlingFor metric.Float64Histogram
}

// NewObserver makes the observer for client.Config. An instrument that the meter
// refuses is reported to OpenTelemetry's error handler, and does nothing.
func NewObserver(c Config) client.Observer {
	if c.TracerProvider == nil {
		c.TracerProvider = upstream.GetTracerProvider()
	}
	if c.MeterProvider == nil {
		c.MeterProvider = upstream.GetMeterProvider()
	}
	if c.Propagator == nil {
		c.Propagator = upstream.GetTextMapPropagator()
	}
	meter := c.MeterProvider.Meter(scope)
	o := &observer{tracer: c.TracerProvider.Tracer(scope), propagator: c.Propagator}
	var errs [4]error
	o.sent, errs[0] = meter.Int64Counter("messaging.client.sent.messages",
		metric.WithUnit("{message}"), metric.WithDescription("Messages that were published, by what became of them."))
	o.consumed, errs[1] = meter.Int64Counter("messaging.client.consumed.messages",
		metric.WithUnit("{message}"), metric.WithDescription("Deliveries that a handler was called for."))
	o.sending, errs[2] = meter.Float64Histogram("messaging.client.operation.duration",
		metric.WithUnit("s"), metric.WithDescription("From publish to confirm."))
	o.handlingFor, errs[3] = meter.Float64Histogram("messaging.process.duration",
		metric.WithUnit("s"), metric.WithDescription("What handlers take."))
	if err := errors.Join(errs[:]...); err != nil {
		upstream.Handle(err)
	}
	return o
}

// carrier is a message's headers.
type carrier client.Headers

func (c carrier) Get(key string) string {
	value, _ := c[key].(string)
	return value
}

func (c carrier) Set(key, value string) { c[key] = value }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// Publish implements client.Observer.
func (o *observer) Publish(ctx context.Context, m *client.Message) func(error) {
	begun := time.Now()
	base := describe(destination(m), "publish", "send")
	ctx, span := o.tracer.Start(ctx, "publish "+destination(m), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(base...), trace.WithAttributes(details(m)...))
	headers := maps.Clone(m.Headers)
	if headers == nil {
		headers = client.Headers{}
	}
	o.propagator.Inject(ctx, carrier(headers))
	if len(headers) > 0 {
		m.Headers = headers
	}
	return func(err error) {
		attributes := metric.WithAttributes(o.end(span, base, err)...)
		o.sent.Add(ctx, 1, attributes)
		o.sending.Record(ctx, time.Since(begun).Seconds(), attributes)
	}
}

// Process implements client.Observer. The handler's span is a child of the
// publisher's, and linked to it.
func (o *observer) Process(ctx context.Context, d *client.Delivery) (context.Context, func(error)) {
	begun := time.Now()
	sender := trace.SpanContextFromContext(o.propagator.Extract(context.Background(), carrier(d.Headers)))
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
	if sender.IsValid() {
		ctx = o.propagator.Extract(ctx, carrier(d.Headers))
		options = append(options, trace.WithLinks(trace.Link{SpanContext: sender}))
	}
	base := describe(d.Queue, "process", "process")
	options = append(options, trace.WithAttributes(base...), trace.WithAttributes(details(&d.Message)...))
	ctx, span := o.tracer.Start(ctx, "process "+d.Queue, options...)
	return ctx, func(err error) {
		attributes := metric.WithAttributes(o.end(span, base, err)...)
		o.consumed.Add(ctx, 1, attributes)
		o.handlingFor.Record(ctx, time.Since(begun).Seconds(), attributes)
	}
}

// end ends a span, and returns the attributes of its metrics.
func (o *observer) end(span trace.Span, attributes []attribute.KeyValue, err error) []attribute.KeyValue {
	if err != nil {
		kind := attribute.String("error.type", errorType(err))
		attributes = append(attributes[:len(attributes):len(attributes)], kind)
		span.SetAttributes(kind)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
	return attributes
}

// describe are the attributes of few values, for spans and metrics.
func describe(destination, operation, kind string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "rabbitmq"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.destination.name", destination),
	}
}

// details are the attributes of spans only.
func details(m *client.Message) []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.Int("messaging.message.body.size", len(m.Body))}
	if m.RoutingKey != "" {
		list = append(list, attribute.String("messaging.rabbitmq.destination.routing_key", m.RoutingKey))
	}
	if m.MessageID != "" {
		list = append(list, attribute.String("messaging.message.id", m.MessageID))
	}
	if m.CorrelationID != "" {
		list = append(list, attribute.String("messaging.message.conversation_id", m.CorrelationID))
	}
	return list
}

// destination is where a message is published to: its exchange, or its queue.
func destination(m *client.Message) string {
	if m.Exchange == "" {
		return m.RoutingKey
	}
	return m.Exchange
}

// errorType is a word of few values for what went wrong.
func errorType(err error) string {
	var unroutable *client.UnroutableError
	var refused *client.BrokerError
	var panicked *client.PanicError
	switch {
	case errors.As(err, &unroutable):
		return "unroutable"
	case errors.As(err, &panicked):
		return "panic"
	case errors.As(err, &refused):
		return strconv.Itoa(refused.Code)
	case errors.Is(err, client.ErrNacked):
		return "nacked"
	case errors.Is(err, client.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "_OTHER"
}
