package bench

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
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
			"   mirrormq bench compare --against rabbitmq,jetstream  beside others, A B A B; --help has the scenarios",
		Subcommands: []*cli.Command{
			runCommand(binary, "run", "publish and consume as fast as the windows allow", Throughput()),
			runCommand(binary, "latency", "one publisher that waits for each confirm", Latency()),
			idleCommand(binary), backlogCommand(binary), pinnedCommand(binary),
			compareCommand(binary), peerCommand(),
		},
	}
}

// brokerFlags say which broker a scenario uses.
func brokerFlags(binary string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "broker", Value: "mirrormq", Usage: "broker to start: " + strings.Join(PeerNames, ", ")},
		&cli.StringFlag{Name: "binary", Value: binary, Usage: "path of the mirrormq program to start"},
		&cli.StringFlag{Name: "dir", Usage: "directory below which a started broker keeps its data (default: the system's temporary one)"},
		&cli.BoolFlag{Name: "json", Usage: "print the report as JSON (durations in nanoseconds, sizes in bytes)"},
	}
}

// runningFlags name a broker that runs already.
func runningFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Usage: "use the broker that runs here instead of starting one; with commas, those of a cluster"},
		&cli.IntSliceFlag{Name: "pid", Usage: "that broker's process, to measure its CPU time and memory; once for each"},
		&cli.StringFlag{Name: "data", Usage: "that broker's data directory, to measure its size"},
	}
}

// withTarget calls do with the broker that the flags name, started if need be.
func withTarget(c *cli.Context, do func(target Target, dataDir string) error) error {
	if urls := c.String("url"); urls != "" {
		return do(Target{Name: "broker", URLs: strings.Split(urls, ","), PIDs: c.IntSlice("pid")}, c.String("data"))
	}
	peer, err := PeerOf(c.String("broker"), c.String("binary"))
	if err != nil {
		return err
	}
	return WithCluster(c.Context, peer.Program, c.String("dir"), max(c.Int("brokers"), 1), func(cluster *launch.Cluster) error {
		return do(peer.target(cluster), cluster.Brokers[0].Config.DataDir())
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
	flags := append(brokerFlags(binary), &cli.IntFlag{Name: "brokers", Value: 1, Usage: "so many of them, as a cluster"})
	return &cli.Command{
		Name: name, Usage: usage,
		Flags: append(append(flags, runningFlags()...), scenarioFlags(&s)...),
		Action: func(c *cli.Context) error {
			if err := apply(c, &s); err != nil {
				return err
			}
			return withTarget(c, func(target Target, _ string) error {
				report, err := Run(c.Context, target, s)
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
			peer, err := PeerOf(c.String("broker"), c.String("binary"))
			if err != nil {
				return err
			}
			return inDirectory(c.String("dir"), func(own string) error {
				report, err := Backlog(c.Context, peer, launch.Config{Dir: own}, BacklogOptions{
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
			&cli.IntFlag{Name: "size", Value: s.Sizes.Largest(), Usage: "body size in bytes"},
			&cli.StringFlag{Name: "queue-type", Value: s.QueueType, Usage: "x-queue-type argument; empty for none"},
			&cli.DurationFlag{Name: "settle", Value: 10 * time.Second, Usage: "time for the broker to clean up"},
		),
		Action: func(c *cli.Context) error {
			if c.String("url") != "" && c.String("data") == "" {
				return errors.New("bench: pinned looks at the data directory: give --data with --url")
			}
			s.Sizes, s.QueueType, s.Driver = Fixed(c.Int("size")), c.String("queue-type"), drivers[c.String("driver")]
			return withTarget(c, func(target Target, dataDir string) error {
				report, err := Pinned(c.Context, target, dataDir, c.Int64("bytes"), s, c.Duration("settle"))
				return show(c, report, err)
			})
		},
	}
}
