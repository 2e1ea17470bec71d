package bench

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/bench/report"
	"github.com/mirrormq/mirrormq/internal/launch"
)

func compareCommand(binary string) *cli.Command {
	text := "Plays scenarios on MirrorMQ and on each broker of --against in turn, A B A B, every\n" +
		"time on fresh brokers on loopback, in a temporary directory and with nothing else of\n" +
		"ours running, and prints how they compare: the medians, their ratios, and the bounds\n" +
		"of the ratios over the rounds. RabbitMQ is Debian's package with quorum queues, the\n" +
		"others are part of this program. jetstream is a NATS server's, which syncs its disk\n" +
		"every two minutes; jetstream-sync is the same with sync: always. null is a broker that\n" +
		"keeps nothing, and so the ceiling of any on this machine with this client.\n\nScenarios:\n"
	for _, s := range Scenarios() {
		text += fmt.Sprintf("   %-15s %s\n", s.Name, s.What)
	}
	return &cli.Command{
		Name: "compare", Usage: "the same scenarios on MirrorMQ and others in turn, and the ratios",
		Description: strings.TrimRight(text, "\n"),
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "against", Value: "rabbitmq", Usage: "comma list: " + strings.Join(PeerNames[1:], ", ")},
			&cli.StringFlag{Name: "scenario", Value: "one-broker", Usage: "comma list of those above"},
			&cli.IntFlag{Name: "brokers", DefaultText: "the scenario's", Usage: "brokers of each cluster: 1 or 3"},
			&cli.IntFlag{Name: "rounds", Value: 2, Usage: "how often to go round (A B, A B, …)"},
			&cli.StringFlag{Name: "binary", Value: binary, Usage: "path of the mirrormq program to start"},
			&cli.StringFlag{Name: "dir", Usage: "directory below which brokers keep their data (default: the system's temporary one)"},
		}, scenarioFlags(nil)...),
		Action: compareAction,
	}
}

func compareAction(c *cli.Context) error {
	scenarios, err := named(c.String("scenario"))
	if err != nil {
		return err
	}
	peers, err := peersOf(strings.Split(c.String("against"), ","), c.String("binary"))
	if errors.Is(err, launch.ErrAbsent) {
		_, err := fmt.Fprintln(c.App.Writer, "bench compare: skipped:", err)
		return err
	}
	if err != nil {
		return err
	}
	var comparisons []report.Comparison
	for _, s := range scenarios {
		if err := apply(c, &s.Scenario); err != nil {
			return err
		}
		if c.IsSet("brokers") {
			s.Brokers = c.Int("brokers")
		}
		comparison, err := Compare(c.Context, peers, c.String("dir"), s, c.Int("rounds"), c.App.Writer)
		if err != nil {
			return err
		}
		comparisons = append(comparisons, comparison)
	}
	for _, comparison := range comparisons {
		if _, err := fmt.Fprintf(c.App.Writer, "\n%s\n", comparison.What); err != nil {
			return err
		}
		if err := comparison.Write(c.App.Writer); err != nil {
			return err
		}
	}
	return nil
}
