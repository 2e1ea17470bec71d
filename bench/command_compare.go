package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

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
			&cli.StringFlag{Name: "json", Usage: "write everything measured to this `FILE` (durations in nanoseconds, sizes in bytes)"},
			&cli.StringFlag{Name: "html", Usage: "write a page with charts to this `FILE`; it opens from disk"},
			&cli.StringFlag{Name: "history", Usage: "append a line of JSON with commit, machine, medians and ratios to this `FILE`"},
			&cli.StringFlag{Name: "commit", Usage: "the program's source, for what is written"},
			&cli.StringFlag{Name: "dir", Usage: "directory below which brokers keep their data (default: the system's temporary one)"},
		}, scenarioFlags(nil)...),
		Action: compareAction,
	}
}

func compareAction(c *cli.Context) error {
	scenarios, err := scenariosOf(c)
	if err != nil {
		return err
	}
	peers, missing, err := peersOf(strings.Split(c.String("against"), ","), c.String("binary"))
	if err != nil {
		return err
	}
	for _, reason := range missing {
		if _, err := fmt.Fprintln(c.App.Writer, "bench compare: skipped:", reason); err != nil {
			return err
		}
	}
	if len(peers) < 2 {
		return nil
	}
	document := report.Document{
		When: time.Now(), Commit: c.String("commit"), Command: os.Args, Machine: report.ThisMachine(), Versions: map[string]string{},
	}
	for _, peer := range peers {
		if version := launch.Version(c.Context, peer.Program); version != "" {
			document.Versions[peer.Program.Name()] = version
		}
	}
	for _, s := range scenarios {
		var comparison report.Comparison
		comparison, err = Compare(c.Context, peers, c.String("dir"), s, c.Int("rounds"), c.App.Writer)
		document.Comparisons = append(document.Comparisons, comparison)
		if err != nil {
			break
		}
	}
	// What was measured before something went wrong is worth as much.
	return errors.Join(err, publish(c, document))
}

// scenariosOf are the ones named, with what the flags change.
func scenariosOf(c *cli.Context) ([]Named, error) {
	scenarios, err := named(c.String("scenario"))
	if err != nil {
		return nil, err
	}
	for i := range scenarios {
		s := &scenarios[i]
		if err := apply(c, &s.Scenario); err != nil {
			return nil, err
		}
		if c.IsSet("brokers") {
			s.Brokers = c.Int("brokers")
		}
		if given := changes(c); given != "" {
			s.What += " (changed: " + given + ")"
		}
	}
	return scenarios, nil
}

// changes are the flags given that change a scenario.
func changes(c *cli.Context) string {
	var given []string
	for _, flag := range append(scenarioFlags(nil), &cli.IntFlag{Name: "brokers"}) {
		if name := flag.Names()[0]; c.IsSet(name) {
			given = append(given, fmt.Sprintf("%s %v", name, c.Value(name)))
		}
	}
	return strings.Join(given, ", ")
}

// publish prints the tables and writes the files that were asked for.
func publish(c *cli.Context, d report.Document) error {
	if len(d.Comparisons) == 0 {
		return nil
	}
	for _, comparison := range d.Comparisons {
		if _, err := fmt.Fprintf(c.App.Writer, "\n%s\n", comparison.What); err != nil {
			return err
		}
		if err := comparison.Write(c.App.Writer); err != nil {
			return err
		}
	}
	return errors.Join(
		toFile(c.String("json"), os.O_TRUNC, d.WriteJSON),
		toFile(c.String("html"), os.O_TRUNC, d.WriteHTML),
		toFile(c.String("history"), os.O_APPEND, d.History().Append),
	)
}

// toFile writes to the file, made if need be; without a name it does nothing.
func toFile(name string, how int, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|how, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
