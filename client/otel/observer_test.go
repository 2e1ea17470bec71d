package otel_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mirrormq/mirrormq/client"
	"github.com/mirrormq/mirrormq/client/mirrormqtest"
	"github.com/mirrormq/mirrormq/client/otel"
)

func TestATraceGoesThroughTheBroker(t *testing.T) {
	ctx := t.Context()
	spans, reader := tracetest.NewSpanRecorder(), metric.NewManualReader()
	observer := otel.NewObserver(otel.Config{
		TracerProvider: trace.NewTracerProvider(trace.WithSpanProcessor(spans)),
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(reader)),
		Propagator:     propagation.TraceContext{},
	})
	c, err := client.Dial(ctx, mirrormqtest.Start(t).URL(), client.Config{Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Declare(ctx, client.Queue{Name: "q"}); err != nil {
		t.Fatal(err)
	}
	p, err := c.NewProducer(ctx, client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	own := client.Headers{"own": "1"}
	if err := p.Publish(ctx, client.Message{RoutingKey: "q", Headers: own}); err != nil {
		t.Fatal(err)
	}
	if len(own) != 1 {
		t.Errorf("the caller's headers were changed: %v", own)
	}
	if confirmation, err := p.PublishAsync(ctx, client.Message{Exchange: "amq.topic", RoutingKey: "x"}); err != nil {
		t.Fatal(err)
	} else if err := confirmation.Wait(ctx); err == nil {
		t.Error("no error of an unroutable message")
	}
	consuming, cancel := context.WithCancel(ctx)
	defer cancel()
	err = c.Consume(consuming, "q", client.ConsumerConfig{}, func(_ context.Context, d *client.Delivery) error {
		if d.Headers["own"] != "1" {
			t.Errorf("headers %v", d.Headers)
		}
		cancel()
		return client.Reject(errors.New("no"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}

	byName := map[string]trace.ReadOnlySpan{}
	for _, span := range spans.Ended() {
		byName[span.Name()] = span
	}
	sent, lost, handled := byName["publish q"], byName["publish amq.topic"], byName["process q"]
	if len(byName) != 3 || sent == nil || lost == nil || handled == nil {
		t.Fatalf("spans %v", byName)
	}
	if handled.Parent().SpanID() != sent.SpanContext().SpanID() || handled.SpanContext().TraceID() != sent.SpanContext().TraceID() {
		t.Error("the handler's span is no child of the publisher's")
	}
	if !has(lost.Attributes(), "error.type", "unroutable") || !has(sent.Attributes(), "messaging.system", "rabbitmq") ||
		!has(handled.Attributes(), "messaging.destination.name", "q") || !has(handled.Attributes(), "error.type", "_OTHER") {
		t.Errorf("%v\n%v\n%v", sent.Attributes(), lost.Attributes(), handled.Attributes())
	}

	var data metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &data); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			names = append(names, m.Name)
		}
	}
	const want = "messaging.client.sent.messages messaging.client.consumed.messages messaging.client.operation.duration messaging.process.duration"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("metrics %s", got)
	}
}

func has(list []attribute.KeyValue, key, value string) bool {
	for _, a := range list {
		if string(a.Key) == key {
			return a.Value.AsString() == value
		}
	}
	return false
}
