package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/client"
)

// consume runs Consume in the background. stop ends it and returns its error.
func consume(t testing.TB, c *client.Client, queue string, config client.ConsumerConfig, handler client.Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Consume(ctx, queue, config, handler) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return await(t, ended, "the end of Consume")
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestHandledDeliveriesAreAcknowledged(t *testing.T) {
	c := setup(t)
	publish(t, c, "q", "1", "2", "3")
	got := make(chan string, 3)
	stop := consume(t, c, "q", client.ConsumerConfig{}, func(_ context.Context, d *client.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	for _, want := range []string{"1", "2", "3"} {
		if body := await(t, got, "a delivery"); body != want {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left := take(t, c, "q"); len(left) != 0 {
		t.Errorf("left: %s", bodies(left))
	}
}

func TestAHandlersErrorIsTriedAgainAndThenSettled(t *testing.T) {
	c := setup(t)
	declare(t, c, client.Queue{Name: "dead"},
		client.Queue{Name: "work", DeadLetter: &client.DeadLetter{RoutingKey: "dead"}})
	retry := client.Retry{Attempts: 3, Min: time.Millisecond, Max: 2 * time.Millisecond}
	publish(t, c, "work", "recovers", "fails", "panics", "rejected", "settled")
	var mu sync.Mutex
	calls := map[string]int{}
	done := make(chan struct{}, 5)
	stop := consume(t, c, "work", client.ConsumerConfig{Retry: retry, OnFailure: client.ThenDeadLetter},
		func(_ context.Context, d *client.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			body := string(d.Body)
			calls[body]++
			if calls[body] != d.Attempt {
				t.Errorf("%s: attempt %d of %d", body, d.Attempt, calls[body])
			}
			last := d.Attempt == 3
			switch body {
			case "recovers":
				if !last {
					return errors.New("not yet")
				}
			case "panics":
				if last {
					done <- struct{}{}
				}
				panic("no good")
			case "fails":
				if last {
					done <- struct{}{}
				}
				return errors.New("never")
			case "rejected":
				done <- struct{}{}
				return client.Reject(errors.New("not today"))
			case "settled":
				done <- struct{}{}
				if err := d.Ack(); err != nil {
					t.Error(err)
				}
				return errors.New("this does not count")
			}
			done <- struct{}{}
			return nil
		})
	for range 5 {
		await(t, done, "the handling of a message")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if want := map[string]int{"recovers": 3, "fails": 3, "panics": 3, "rejected": 1, "settled": 1}; fmt.Sprint(calls) != fmt.Sprint(want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
	dead := map[string]bool{}
	for len(dead) < 3 {
		for _, d := range take(t, c, "dead") {
			dead[string(d.Body)] = true
		}
	}
	if !dead["fails"] || !dead["panics"] || !dead["rejected"] {
		t.Errorf("dead letters: %v", dead)
	}
	if left := take(t, c, "work"); len(left) != 0 {
		t.Errorf("left: %s", bodies(left))
	}
	if s := c.Stats(); s.Retried != 6 || s.Rejected != 3 {
		t.Errorf("%+v", s)
	}
}

func TestAFailedDeliveryGoesBackByDefault(t *testing.T) {
	c := setup(t)
	publish(t, c, "q", "x")
	again := make(chan struct{})
	stop := consume(t, c, "q", client.ConsumerConfig{Retry: client.Retry{Attempts: 1}},
		func(_ context.Context, d *client.Delivery) error {
			if d.Redelivered {
				close(again)
				return nil
			}
			return errors.New("the first time")
		})
	await(t, again, "the redelivery")
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left := take(t, c, "q"); len(left) != 0 {
		t.Errorf("left: %s", bodies(left))
	}
}

// At its end a consumer waits for its handlers, whose contexts live on, and puts
// back what was not begun.
func TestADrainLeavesNothingHalfHandled(t *testing.T) {
	c := setup(t)
	publish(t, c, "q", "1", "2", "3", "4", "5")
	begun, finish := make(chan struct{}, 2), make(chan struct{})
	ctx, cancel := context.WithCancel(deadline(t))
	ended := make(chan error, 1)
	go func() {
		ended <- c.Consume(ctx, "q", client.ConsumerConfig{Concurrency: 2}, func(ctx context.Context, _ *client.Delivery) error {
			begun <- struct{}{}
			<-finish
			return ctx.Err()
		})
	}()
	await(t, begun, "the first")
	await(t, begun, "the second")
	cancel()
	select {
	case err := <-ended:
		t.Fatalf("ended with handlers running: %v", err)
	default:
	}
	close(finish)
	if err := await(t, ended, "the end"); err != nil {
		t.Error(err)
	}
	left := take(t, c, "q")
	if got := bodies(left); got != "[3 4 5]" {
		t.Errorf("left: %s", got)
	}
}

// A handler that blocks holds up one of the consumer's goroutines. When it
// outlives the consumer its context ends after Drain; if it does not care, it is
// left alone and its message goes back.
func TestAHandlerThatOutlivesItsConsumer(t *testing.T) {
	c := setup(t)
	publish(t, c, "q", "heeds", "deaf", "other")
	begun, release := make(chan string, 3), make(chan struct{})
	var heeded atomic.Bool
	ctx, cancel := context.WithCancel(deadline(t))
	ended := make(chan error, 1)
	go func() {
		config := client.ConsumerConfig{Concurrency: 3, Drain: 10 * time.Millisecond}
		ended <- c.Consume(ctx, "q", config, func(ctx context.Context, d *client.Delivery) error {
			begun <- string(d.Body)
			switch string(d.Body) {
			case "heeds":
				<-ctx.Done()
				heeded.Store(true)
				return ctx.Err()
			case "deaf":
				<-release
			}
			return nil
		})
	}()
	for range 3 {
		await(t, begun, "a call of the handler") // Blocked ones don't hold up the others.
	}
	cancel()
	if err := await(t, ended, "the end"); !errors.Is(err, client.ErrAbandoned) {
		t.Errorf("got %v", err)
	}
	if !heeded.Load() {
		t.Error("the context has not ended")
	}
	close(release)
	if got := bodies(take(t, c, "q")); got != "[heeds deaf]" {
		t.Errorf("left: %s", got)
	}
}

func TestALoopOverDeliveries(t *testing.T) {
	c := setup(t)
	publish(t, c, "q", "1", "2", "3", "4", "5", "6")
	var got []string
	for d, err := range c.Deliveries(deadline(t), "q", client.ConsumerConfig{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(d.Body))
		switch len(got) {
		case 1:
			err = d.Ack()
			if again := d.Ack(); !errors.Is(again, client.ErrSettled) {
				t.Errorf("a second ack: %v", again)
			}
		case 2:
			err = d.Reject()
		case 3, 5:
			err = d.Ack() // The fourth is left unsettled.
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 5 {
			break
		}
	}
	if left := bodies(take(t, c, "q")); left != "[4 6]" || fmt.Sprint(got) != "[1 2 3 4 5]" {
		t.Errorf("got %v, left %s", got, left)
	}
}

func TestALoopEndsWithItsContext(t *testing.T) {
	c := setup(t)
	publish(t, c, "q", "1")
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	for d, err := range c.Deliveries(ctx, "q", client.ConsumerConfig{}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Requeue(); err != nil {
			t.Error(err)
		}
		cancel()
	}
	if left := take(t, c, "q"); len(left) != 1 || !left[0].Redelivered {
		t.Errorf("left: %+v", left)
	}
}

func TestWhatCantBeConsumedIsAnError(t *testing.T) {
	c := setup(t)
	code := func(err error) int {
		var refused *client.BrokerError
		if !errors.As(err, &refused) {
			return 0
		}
		return refused.Code
	}
	nothing := func(context.Context, *client.Delivery) error { return nil }
	if err := c.Consume(deadline(t), "missing", client.ConsumerConfig{}, nothing); code(err) != 404 {
		t.Errorf("missing: %v", err)
	}
	for _, err := range c.Deliveries(deadline(t), "missing", client.ConsumerConfig{}) {
		if code(err) != 404 {
			t.Errorf("missing: %v", err)
		}
	}
	// A queue that is deleted takes its consumers along, and they don't bring it
	// back.
	handled := make(chan struct{}, 1)
	ended := make(chan error, 1)
	publish(t, c, "q", "x")
	go func() {
		ended <- c.Consume(deadline(t), "q", client.ConsumerConfig{}, func(context.Context, *client.Delivery) error {
			handled <- struct{}{}
			return nil
		})
	}()
	await(t, handled, "a delivery")
	if err := c.Delete(deadline(t), client.Queue{Name: "q"}); err != nil {
		t.Fatal(err)
	}
	if err := await(t, ended, "the consumer's end"); code(err) != 404 {
		t.Errorf("deleted: %v", err)
	}
	for _, config := range []client.ConsumerConfig{{Concurrency: -1}, {Prefetch: 70000}, {Retry: client.Retry{Attempts: -1}}, {Drain: -1}} {
		if err := c.Consume(deadline(t), "q", config, nothing); err == nil {
			t.Errorf("%+v is accepted", config)
		}
	}
}

func TestConcurrentHandlersAckOutOfOrder(t *testing.T) {
	c := setup(t)
	var sent []string
	for i := range 500 {
		sent = append(sent, fmt.Sprint(i))
	}
	publish(t, c, "q", sent...)
	var mu sync.Mutex
	var got []string
	all := make(chan struct{})
	stop := consume(t, c, "q", client.ConsumerConfig{Concurrency: 8}, func(_ context.Context, d *client.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if got = append(got, string(d.Body)); len(got) == len(sent) {
			close(all)
		}
		return nil
	})
	await(t, all, "the last delivery")
	if err := stop(); err != nil {
		t.Error(err)
	}
	slices.Sort(sent)
	slices.Sort(got)
	if !slices.Equal(got, sent) {
		t.Errorf("got %v", got)
	}
	if left := take(t, c, "q"); len(left) != 0 {
		t.Errorf("left: %s", bodies(left))
	}
}
