package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/internal/launch"
)

// Command is the load generator's command line, for the program mirrormq and
// for one of its own. binary is the mirrormq program to start when a scenario
// starts a broker and --binary doesn't name another.
func Command(binary string) *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measure a broker: throughput, latency, memory, restart, disk",
		Description: "Each scenario starts a broker of its own (--broker mirrormq or rabbitmq), or uses\n" +
			"the running one at --url. Every message is verified: once each, in order, intact.\n\n" +
			"   mirrormq bench run                                   2 publishers, 2 consumers, 1 KiB, quorum queue\n" +
			"   mirrormq bench run --url amqp://guest:guest@127.0.0.1:5672/ --pid $(pidof mirrormq)\n" +
			"   mirrormq bench latency --duration 10s\n" +
			"   mirrormq bench backlog --messages 1000000\n" +
			"   mirrormq bench compare --rounds 3                    beside Debian's RabbitMQ, A B A B",
		Subcommands: []*cli.Command{
			runCommand(binary, "run", "publish and consume as fast as the windows allow", Throughput()),
			runCommand(binary, "latency", "one publisher that waits for each confirm", Latency()),
			idleCommand(binary), backlogCommand(binary), pinnedCommand(binary), compareCommand(binary),
		},
	}
}

// brokerFlags say which broker a scenario uses.
func brokerFlags(binary string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "broker", Value: "mirrormq", Usage: "broker to start: mirrormq or rabbitmq (Debian's package)"},
		&cli.StringFlag{Name: "binary", Value: binary, Usage: "path of the mirrormq program to start"},
		&cli.StringFlag{Name: "dir", Usage: "directory below which a started broker keeps its data (default: the system's temporary one)"},
		&cli.BoolFlag{Name: "json", Usage: "print the report as JSON (durations in nanoseconds, sizes in bytes)"},
	}
}

// runningFlags name a broker that runs already.
func runningFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Usage: "use the broker that runs here instead of starting one"},
		&cli.IntFlag{Name: "pid", Usage: "that broker's process, to measure its CPU time and memory"},
		&cli.StringFlag{Name: "data", Usage: "that broker's data directory, to measure its size"},
	}
}

func scenarioFlags(s Scenario) []cli.Flag {
	return []cli.Flag{
		driverFlag(),
		&cli.IntFlag{Name: "publishers", Value: s.Publishers, Usage: "publishing connections"},
		&cli.IntFlag{Name: "consumers", Value: s.Consumers, Usage: "consuming connections; 0 only fills"},
		&cli.IntFlag{Name: "queues", Value: s.Queues, Usage: "queues, used side by side"},
		&cli.StringFlag{Name: "queue-type", Value: s.QueueType, Usage: "x-queue-type argument; empty for none"},
		&cli.IntFlag{Name: "size", Value: s.Size, Usage: "body size in bytes"},
		&cli.IntFlag{Name: "window", Value: s.Window, Usage: "unconfirmed publishes of each publisher"},
		&cli.IntFlag{Name: "prefetch", Value: s.Prefetch, Usage: "unacked deliveries of each consumer"},
		&cli.IntFlag{Name: "ack-every", Value: s.AckEvery, Usage: "ack so many deliveries with one multiple ack"},
		&cli.BoolFlag{Name: "transient", Usage: "publish without delivery mode 2"},
		&cli.Float64Flag{Name: "rate", Usage: "messages per second of all publishers together; 0 for no bound"},
		&cli.DurationFlag{Name: "warm-up", Value: s.WarmUp, Usage: "time before measuring begins"},
		&cli.DurationFlag{Name: "duration", Value: s.Duration, Usage: "time to measure"},
		&cli.IntFlag{Name: "count", Usage: "messages to measure, if that ends before --duration"},
		&cli.DurationFlag{Name: "drain", Value: s.Drain, Usage: "how long to wait for a missing message"},
	}
}

// drivers by the name that --driver gives them.
var drivers = map[string]Driver{"amqp091-go": AMQP091{}, "lean": Lean{}}

func driverFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "driver", Value: "amqp091-go", Usage: "client to use: amqp091-go, or lean, which leaves more of the machine to the broker",
		Action: func(_ *cli.Context, name string) error {
			if drivers[name] == nil {
				return fmt.Errorf("bench: unknown --driver %q: say amqp091-go or lean", name)
			}
			return nil
		},
	}
}

func scenarioOf(c *cli.Context, s Scenario) Scenario {
	s.Driver = drivers[c.String("driver")]
	s.Publishers, s.Consumers, s.Queues = c.Int("publishers"), c.Int("consumers"), c.Int("queues")
	s.QueueType, s.Size, s.Transient = c.String("queue-type"), c.Int("size"), c.Bool("transient")
	s.Window, s.Prefetch, s.AckEvery = c.Int("window"), c.Int("prefetch"), c.Int("ack-every")
	s.Rate, s.WarmUp, s.Duration = c.Float64("rate"), c.Duration("warm-up"), c.Duration("duration")
	s.Count, s.Drain = c.Int("count"), c.Duration("drain")
	return s
}

func programOf(c *cli.Context) (launch.Program, error) {
	switch name := c.String("broker"); name {
	case "mirrormq":
		return launch.MirrorMQ{Binary: c.String("binary")}, nil
	case "rabbitmq":
		return launch.RabbitMQ{}, nil
	default:
		return nil, fmt.Errorf("bench: unknown --broker %q: say mirrormq or rabbitmq", name)
	}
}

// withTarget calls do with the broker that the flags name, started if need be.
func withTarget(c *cli.Context, do func(target Target, dataDir string) error) error {
	if url := c.String("url"); url != "" {
		return do(Target{Name: "broker", URL: url, PID: c.Int("pid")}, c.String("data"))
	}
	program, err := programOf(c)
	if err != nil {
		return err
	}
	return WithBroker(c.Context, program, c.String("dir"), func(broker *launch.Broker) error {
		target := Target{Name: program.Name(), URL: broker.URL(), PID: broker.PID()}
		return do(target, broker.Config.DataDir())
	})
}

// reporter is each scenario's report.
type reporter interface{ Write(io.Writer) error }

// show prints the report, also of a run that found the broker wrong.
func show(c *cli.Context, report reporter, err error) error {
	if err != nil && !errors.Is(err, ErrVerification) {
		return err
	}
	if c.Bool("json") {
		encoder := json.NewEncoder(c.App.Writer)
		encoder.SetIndent("", "  ")
		return errors.Join(err, encoder.Encode(report))
	}
	return errors.Join(err, report.Write(c.App.Writer))
}

func runCommand(binary, name, usage string, s Scenario) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage,
		Flags: append(append(brokerFlags(binary), runningFlags()...), scenarioFlags(s)...),
		Action: func(c *cli.Context) error {
			return withTarget(c, func(target Target, _ string) error {
				report, err := Run(c.Context, target, scenarioOf(c, s))
				return show(c, report, err)
			})
		},
	}
}

func idleCommand(binary string) *cli.Command {
	return &cli.Command{
		Name: "idle", Usage: "open connections that do nothing, and look at the broker's memory",
		Flags: append(append(brokerFlags(binary), runningFlags()...),
			&cli.IntFlag{Name: "connections", Value: 10_000, Usage: "connections to open"},
			&cli.IntFlag{Name: "channels", Value: 0, Usage: "channels to open on each"},
			&cli.DurationFlag{Name: "settle", Value: 5 * time.Second, Usage: "time to wait before looking"},
		),
		Action: func(c *cli.Context) error {
			if c.String("url") != "" && c.Int("pid") == 0 {
				return errors.New("bench: idle looks at the broker's memory: give --pid with --url")
			}
			if err := FilesFor(c.Int("connections")); err != nil {
				return err
			}
			return withTarget(c, func(target Target, _ string) error {
				report, err := Idle(c.Context, target, c.Int("connections"), c.Int("channels"), c.Duration("settle"))
				return show(c, report, err)
			})
		},
	}
}

func backlogCommand(binary string) *cli.Command {
	return &cli.Command{
		Name: "backlog", Usage: "fill a queue, restart the broker, drain the queue",
		Flags: append(brokerFlags(binary),
			driverFlag(),
			&cli.IntFlag{Name: "messages", Value: 1_000_000, Usage: "messages to leave waiting"},
			&cli.IntFlag{Name: "size", Value: 1024, Usage: "body size in bytes"},
			&cli.StringFlag{Name: "queue-type", Value: "quorum", Usage: "x-queue-type argument; empty for none"},
			&cli.BoolFlag{Name: "kill", Usage: "kill the broker (SIGKILL) instead of stopping it"},
		),
		Action: func(c *cli.Context) error {
			program, err := programOf(c)
			if err != nil {
				return err
			}
			return inDirectory(c.String("dir"), func(own string) error {
				report, err := Backlog(c.Context, program, launch.Config{Dir: own}, BacklogOptions{
					Messages: c.Int("messages"), Size: c.Int("size"), QueueType: c.String("queue-type"), Kill: c.Bool("kill"),
					Driver: drivers[c.String("driver")],
				})
				return show(c, report, err)
			})
		},
	}
}

func pinnedCommand(binary string) *cli.Command {
	s := Throughput()
	return &cli.Command{
		Name: "pinned", Usage: "hold one old message while others pass it, and look at the data directory",
		Flags: append(append(brokerFlags(binary), runningFlags()...),
			driverFlag(),
			&cli.Int64Flag{Name: "bytes", Value: 5 << 30, Usage: "bytes of bodies to publish and consume past it"},
			&cli.IntFlag{Name: "size", Value: s.Size, Usage: "body size in bytes"},
			&cli.StringFlag{Name: "queue-type", Value: s.QueueType, Usage: "x-queue-type argument; empty for none"},
			&cli.DurationFlag{Name: "settle", Value: 10 * time.Second, Usage: "time for the broker to clean up"},
		),
		Action: func(c *cli.Context) error {
			if c.String("url") != "" && c.String("data") == "" {
				return errors.New("bench: pinned looks at the data directory: give --data with --url")
			}
			s.Size, s.QueueType, s.Driver = c.Int("size"), c.String("queue-type"), drivers[c.String("driver")]
			return withTarget(c, func(target Target, dataDir string) error {
				report, err := Pinned(c.Context, target, dataDir, c.Int64("bytes"), s, c.Duration("settle"))
				return show(c, report, err)
			})
		},
	}
}

func compareCommand(binary string) *cli.Command {
	return &cli.Command{
		Name: "compare", Usage: "the same scenarios on MirrorMQ and RabbitMQ in turn, and the ratios",
		Flags: append(brokerFlags(binary)[1:],
			driverFlag(),
			&cli.IntFlag{Name: "rounds", Value: 2, Usage: "how often to go round (A B, A B, …)"},
			&cli.DurationFlag{Name: "duration", Value: 15 * time.Second, Usage: "time to measure each"},
			&cli.DurationFlag{Name: "warm-up", Value: 5 * time.Second, Usage: "time before measuring begins"},
			&cli.IntFlag{Name: "ack-every", Value: 1, Usage: "ack so many deliveries with one multiple ack"},
			&cli.StringSliceFlag{Name: "scenario", Usage: "only this one: throughput or latency"},
		),
		Action: compareAction,
	}
}

func compareAction(c *cli.Context) error {
	ours, theirs := launch.MirrorMQ{Binary: c.String("binary")}, launch.RabbitMQ{}
	if err := launch.Installed(theirs); err != nil {
		_, err := fmt.Fprintln(c.App.Writer, "bench compare: skipped:", err)
		return err
	}
	chosen := c.StringSlice("scenario")
	for _, s := range []Scenario{Throughput(), Latency()} {
		if len(chosen) > 0 && !slices.Contains(chosen, s.Name) {
			continue
		}
		s.Driver = drivers[c.String("driver")]
		s.Duration, s.WarmUp, s.AckEvery = c.Duration("duration"), c.Duration("warm-up"), c.Int("ack-every")
		comparison, err := Compare(c.Context, []launch.Program{ours, theirs}, c.String("dir"), s, c.Int("rounds"), c.App.Writer)
		if err != nil {
			return err
		}
		if err := comparison.Write(c.App.Writer); err != nil {
			return err
		}
	}
	return nil
}
