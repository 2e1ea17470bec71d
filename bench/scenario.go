package bench

import (
	"errors"
	"fmt"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
)

// Scenario is what Run does.
type Scenario struct {
	// Name appears in reports.
	Name string
	// Publishers and Consumers are connections of one channel each, dealt out
	// over the brokers in turn. Zero consumers only fill the queues.
	Publishers, Consumers int
	// Queues are filled and drained side by side: publisher i uses queue
	// i mod Queues, and so does consumer i. Not more than either.
	Queues int
	// FanOut has every message go to all the queues, through an exchange.
	FanOut bool
	// Backlog publishes everything before the first consumer is there. It
	// needs Count.
	Backlog bool
	// QueueType is the x-queue-type argument and AckQuorum MirrorMQ's
	// x-ack-quorum; "" declares without one.
	QueueType, AckQuorum string
	// Sizes of the bodies in bytes, at least MinimumSize each.
	Sizes Sizes
	// Window is how many publishes a publisher has unconfirmed at most.
	Window int
	// Prefetch is each consumer's, and must be at least AckEvery.
	Prefetch int
	// AckEvery n acks n deliveries with one basic.ack (multiple); 1 acks each
	// on its own, as most users do.
	AckEvery int
	// Transient publishes without delivery mode 2.
	Transient bool
	// Rate of all publishers together, in messages per second; 0 is as fast as
	// the window allows (a closed loop). With a rate each message has its
	// time, and latencies count from that time even when the publisher was held
	// up before it: a broker that stops for a second is seen by all messages of
	// that second, not by one (no coordinated omission).
	Rate float64
	// KillAfter kills the broker that leads the first queue so long after
	// measuring began, 0 none. No client is connected to that one: the report
	// tells how long those of the others stood still.
	KillAfter time.Duration
	// WarmUp runs before measuring begins.
	WarmUp time.Duration
	// The measurement ends after Duration, or once Count messages were
	// confirmed since it began, whichever is first. Zero means no such bound;
	// one is needed.
	Duration time.Duration
	Count    int
	// Drain is how long consumers may go without a delivery before the
	// messages still missing count as lost.
	Drain time.Duration
	// Driver to use, driver.AMQP091 when nil.
	Driver driver.Driver
}

// Throughput is the scenario of the project's promise against RabbitMQ: two
// publishers with 500 unconfirmed, two consumers acking each message.
func Throughput() Scenario {
	return Scenario{
		Name: "throughput", Publishers: 2, Consumers: 2, Queues: 1, QueueType: "quorum",
		Sizes: Fixed(1024), Window: 500, Prefetch: 500, AckEvery: 1,
		WarmUp: 5 * time.Second, Duration: 20 * time.Second, Drain: 30 * time.Second,
	}
}

// Latency is one publisher that waits for each confirm, and one consumer.
func Latency() Scenario {
	s := Throughput()
	s.Name, s.Publishers, s.Consumers, s.Window = "latency", 1, 1, 1
	s.WarmUp, s.Duration = 2*time.Second, 10*time.Second
	return s
}

func (s *Scenario) validate() error {
	positive := []struct {
		name  string
		value int
	}{
		{"publishers", s.Publishers}, {"queues", s.Queues}, {"window", s.Window},
		{"prefetch", s.Prefetch}, {"ack-every", s.AckEvery},
	}
	for _, field := range positive {
		if field.value < 1 {
			return fmt.Errorf("bench: %s is %d, must be at least 1", field.name, field.value)
		}
	}
	switch {
	case s.Sizes.Smallest() < MinimumSize:
		return fmt.Errorf("bench: size is %d bytes, must be at least %d", s.Sizes.Smallest(), MinimumSize)
	case s.Prefetch > 65535:
		return fmt.Errorf("bench: prefetch is %d, AMQP allows 65535", s.Prefetch)
	case s.AckEvery > s.Prefetch:
		return fmt.Errorf("bench: acking every %d with prefetch %d would never ack", s.AckEvery, s.Prefetch)
	case s.Consumers < 0 || s.Rate < 0 || s.WarmUp < 0 || s.KillAfter < 0:
		return errors.New("bench: consumers, rate, warm-up and the time of a kill can't be negative")
	case !s.FanOut && s.Queues > s.Publishers || s.Consumers > 0 && s.Queues > s.Consumers:
		return fmt.Errorf("bench: %d queues need as many publishers and consumers", s.Queues)
	case s.Duration <= 0 && s.Count <= 0:
		return errors.New("bench: give a duration or a count")
	case s.Backlog && (s.Count < 1 || s.Consumers < 1):
		return errors.New("bench: a backlog needs a count, and consumers that drain it")
	}
	if s.Backlog {
		s.WarmUp, s.Duration = 0, 0
	}
	if s.Drain <= 0 {
		s.Drain = 30 * time.Second
	}
	if s.Driver == nil {
		s.Driver = driver.AMQP091{}
	}
	return nil
}
