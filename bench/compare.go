package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/mirrormq/mirrormq/internal/launch"
)

// WithBroker starts program in a directory of its own below dir ("" for the
// system's temporary one), calls do, stops the broker and removes the
// directory.
func WithBroker(ctx context.Context, program launch.Program, dir string, do func(*launch.Broker) error) error {
	return inDirectory(dir, func(own string) error { return withBrokerIn(ctx, program, own, do) })
}

// inDirectory calls do with a new directory below dir and removes it.
func inDirectory(dir string, do func(own string) error) error {
	own, err := os.MkdirTemp(dir, "mirrormq-bench-")
	if err != nil {
		return err
	}
	return errors.Join(do(own), os.RemoveAll(own))
}

func withBrokerIn(ctx context.Context, program launch.Program, own string, do func(*launch.Broker) error) error {
	startCtx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	broker, err := launch.Start(startCtx, program, launch.Config{Dir: own})
	if err != nil {
		return err
	}
	if err := do(broker); err != nil {
		tail := broker.Tail(2048)
		broker.Kill()
		if errors.Is(err, ErrVerification) || ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w\nthe end of %s's output:\n%s", err, program.Name(), tail)
	}
	return stop(ctx, broker)
}

// Comparison is the reports of a scenario, by broker, in the order of Compare's
// programs.
type Comparison struct {
	Scenario string
	Reports  [][]Report
}

// Compare plays the scenario on each program in turn, rounds times over
// (A B A B …), each time on a fresh broker with nothing else running, and
// writes each report to w as it comes. The alternation spreads whatever the
// machine does meanwhile over all of them.
func Compare(ctx context.Context, programs []launch.Program, dir string, scenario Scenario, rounds int, w io.Writer) (Comparison, error) {
	comparison := Comparison{Scenario: scenario.Name, Reports: make([][]Report, len(programs))}
	for range rounds {
		for i, program := range programs {
			err := WithBroker(ctx, program, dir, func(broker *launch.Broker) error {
				target := Target{Name: program.Name(), URL: broker.URL(), PID: broker.PID()}
				report, err := Run(ctx, target, scenario)
				comparison.Reports[i] = append(comparison.Reports[i], report)
				if err != nil {
					return err
				}
				return report.Write(w)
			})
			if err != nil {
				return comparison, fmt.Errorf("%s, %s: %w", program.Name(), scenario.Name, err)
			}
		}
	}
	return comparison, nil
}

// figures are the medians of what Comparison.Write sets side by side.
var figures = []struct {
	name string
	of   func(Report) float64
}{
	{"msgs/s", Report.Rate},
	{"broker CPU µs/msg", func(r Report) float64 { return microseconds(r.CPUPerMessage()) }},
	{"confirm p50 ms", func(r Report) float64 { return microseconds(r.Confirm.P50) / 1000 }},
	{"confirm p99 ms", func(r Report) float64 { return microseconds(r.Confirm.P99) / 1000 }},
	{"confirm max ms", func(r Report) float64 { return microseconds(r.Confirm.Max) / 1000 }},
	{"end to end p50 ms", func(r Report) float64 { return microseconds(r.EndToEnd.P50) / 1000 }},
	{"end to end p99 ms", func(r Report) float64 { return microseconds(r.EndToEnd.P99) / 1000 }},
	{"peak RSS MiB", func(r Report) float64 { return float64(r.PeakRSS) / (1 << 20) }},
}

// Write prints the median of each figure for each broker, and the ratio of
// the first one's to each other's.
func (c Comparison) Write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s (median)\t", c.Scenario)
	for i, reports := range c.Reports {
		fmt.Fprintf(table, "%s\t", reports[0].Broker)
		if i > 0 {
			fmt.Fprint(table, "ratio\t")
		}
	}
	fmt.Fprintln(table)
	for _, figure := range figures {
		fmt.Fprintf(table, "%s\t", figure.name)
		first := 0.0
		for i, reports := range c.Reports {
			value := median(reports, figure.of)
			fmt.Fprintf(table, "%.2f\t", value)
			if i == 0 {
				first = value
			} else if value != 0 {
				fmt.Fprintf(table, "%.2f\t", first/value)
			} else {
				fmt.Fprint(table, "-\t")
			}
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func median(reports []Report, of func(Report) float64) float64 {
	values := make([]float64, 0, len(reports))
	for _, report := range reports {
		values = append(values, of(report))
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}
