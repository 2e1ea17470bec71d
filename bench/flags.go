package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/bench/driver"
)

// scenarioFlags change a scenario. Their help shows the values of s, or, when
// it is nil, that they are the scenario's own.
func scenarioFlags(s *Scenario) []cli.Flag {
	text := ""
	if s == nil {
		s, text = &Scenario{}, "the scenario's"
	}
	integer := func(name string, value int, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, Value: value, DefaultText: text, Usage: usage}
	}
	duration := func(name string, value time.Duration, usage string) cli.Flag {
		return &cli.DurationFlag{Name: name, Value: value, DefaultText: text, Usage: usage}
	}
	return []cli.Flag{
		driverFlag(),
		integer("publishers", s.Publishers, "publishing connections"),
		integer("consumers", s.Consumers, "consuming connections; 0 only fills"),
		integer("queues", s.Queues, "queues, used side by side"),
		&cli.BoolFlag{Name: "fan-out", DefaultText: text, Usage: "every message to all queues, through a fanout exchange"},
		&cli.BoolFlag{Name: "fill-first", DefaultText: text, Usage: "publish --count messages before the first is consumed"},
		&cli.StringFlag{Name: "queue-type", Value: s.QueueType, DefaultText: text, Usage: "x-queue-type argument; empty for none"},
		&cli.StringFlag{Name: "ack-quorum", DefaultText: text, Usage: "x-ack-quorum argument of MirrorMQ's queues: leader, majority, all or a number"},
		&cli.StringFlag{Name: "size", Value: s.Sizes.String(), DefaultText: text, Usage: "body size in bytes: 1024, 100-4096, or several with weights as in 100:8,4096:2"},
		integer("window", s.Window, "unconfirmed publishes of each publisher"),
		integer("prefetch", s.Prefetch, "unacked deliveries of each consumer"),
		integer("ack-every", s.AckEvery, "ack so many deliveries with one multiple ack"),
		&cli.BoolFlag{Name: "transient", DefaultText: text, Usage: "publish without delivery mode 2"},
		&cli.Float64Flag{
			Name: "rate", Value: s.Rate, DefaultText: text,
			Usage: "messages per second of all publishers together, each with its time, from which latencies count; 0 for as fast as the window allows",
		},
		duration("warm-up", s.WarmUp, "time before measuring begins"),
		duration("duration", s.Duration, "time to measure"),
		integer("count", s.Count, "messages to measure, if that ends before --duration"),
		duration("drain", s.Drain, "how long to wait for a missing message"),
		duration("kill-after", s.KillAfter, "kill the queue's leader so long after measuring began (brokers that bench has started; 3 or more)"),
	}
}

// drivers by the name that --driver gives them.
var drivers = map[string]driver.Driver{"amqp091-go": driver.AMQP091{}, "lean": driver.Lean{}}

func driverFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "driver", Value: "amqp091-go",
		Usage: "AMQP client to use: amqp091-go, or lean, which leaves more of the machine to the broker",
		Action: func(_ *cli.Context, name string) error {
			if drivers[name] == nil {
				return fmt.Errorf("bench: unknown --driver %q: say amqp091-go or lean", name)
			}
			return nil
		},
	}
}

// apply changes what flags were given for.
func apply(c *cli.Context, s *Scenario) error {
	s.Driver = drivers[c.String("driver")]
	for name, value := range map[string]*int{
		"publishers": &s.Publishers, "consumers": &s.Consumers, "queues": &s.Queues,
		"window": &s.Window, "prefetch": &s.Prefetch, "ack-every": &s.AckEvery, "count": &s.Count,
	} {
		if c.IsSet(name) {
			*value = c.Int(name)
		}
	}
	for name, value := range map[string]*time.Duration{
		"warm-up": &s.WarmUp, "duration": &s.Duration, "drain": &s.Drain, "kill-after": &s.KillAfter,
	} {
		if c.IsSet(name) {
			*value = c.Duration(name)
		}
	}
	for name, value := range map[string]*bool{"fan-out": &s.FanOut, "fill-first": &s.Backlog, "transient": &s.Transient} {
		if c.IsSet(name) {
			*value = c.Bool(name)
		}
	}
	for name, value := range map[string]*string{"queue-type": &s.QueueType, "ack-quorum": &s.AckQuorum} {
		if c.IsSet(name) {
			*value = c.String(name)
		}
	}
	if c.IsSet("rate") {
		s.Rate = c.Float64("rate")
	}
	if c.IsSet("size") {
		var err error
		s.Sizes, err = ParseSizes(c.String("size"))
		return err
	}
	return nil
}

// named are the scenarios that a comma list names, in its order.
func named(list string) ([]Named, error) {
	all := Scenarios()
	var chosen []Named
	for name := range strings.SplitSeq(list, ",") {
		at := slices.IndexFunc(all, func(n Named) bool { return n.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("bench: unknown scenario %q: say %s", name, strings.Join(scenarioNames(), ", "))
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

func scenarioNames() []string {
	var names []string
	for _, n := range Scenarios() {
		names = append(names, n.Name)
	}
	return names
}
