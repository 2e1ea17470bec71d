package report

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Comparison is a scenario's reports by broker, each broker's in the order of
// the rounds. The first broker is the one that the others are compared with.
type Comparison struct {
	Scenario string
	// What says in words what the scenario does.
	What    string
	Reports [][]Report
}

// Figure is one number of a report.
type Figure struct {
	// Name is with its unit, Key the same for programs.
	Name, Key string
	// Of is the number, negative when it isn't known or means nothing in this
	// scenario.
	Of func(Report) float64
	// Format is for fmt.
	Format string
}

// Figures are what a comparison sets side by side.
var Figures = []Figure{
	{"msgs/s", "rate", Report.Rate, "%.0f"},
	{"confirmed/s", "confirmed_rate", func(r Report) float64 { return whileBoth(r, r.Confirmed) }, "%.0f"},
	{"consumed/s", "consumed_rate", func(r Report) float64 { return whileBoth(r, r.Consumed) }, "%.0f"},
	{"fill msgs/s", "fill_rate", func(r Report) float64 { return some(r.FillRate()) }, "%.0f"},
	{"broker CPU µs/msg", "cpu_us", func(r Report) float64 { return some(microseconds(r.CPUPerMessage())) }, "%.1f"},
	{"broker CPU, cores", "cores", func(r Report) float64 { return some(r.BrokerCPU.Seconds() / r.Measured.Seconds()) }, "%.2f"},
	{"confirm p50 ms", "confirm_p50_ms", func(r Report) float64 { return some(microseconds(r.Confirm.P50) / 1000) }, "%.2f"},
	{"confirm p99 ms", "confirm_p99_ms", func(r Report) float64 { return some(microseconds(r.Confirm.P99) / 1000) }, "%.2f"},
	{"confirm max ms", "confirm_max_ms", func(r Report) float64 { return some(microseconds(r.Confirm.Max) / 1000) }, "%.2f"},
	{"end to end p50 ms", "end_p50_ms", func(r Report) float64 { return some(microseconds(r.EndToEnd.P50) / 1000) }, "%.2f"},
	{"end to end p99 ms", "end_p99_ms", func(r Report) float64 { return some(microseconds(r.EndToEnd.P99) / 1000) }, "%.2f"},
	{"no confirm for ms", "confirm_gap_ms", func(r Report) float64 { return some(microseconds(r.ConfirmGap) / 1000) }, "%.0f"},
	{"no delivery for ms", "delivery_gap_ms", func(r Report) float64 { return some(microseconds(r.DeliveryGap) / 1000) }, "%.0f"},
	{"memory MiB, peak", "peak_mib", func(r Report) float64 { return some(float64(r.PeakRSS) / (1 << 20)) }, "%.0f"},
	{"written bytes/msg", "written_bytes", Report.WrittenPerMessage, "%.0f"},
	{"fsyncs/msg", "fsyncs", Report.FsyncsPerMessage, "%.4f"},
	{"client CPU µs/msg", "load_cpu_us", func(r Report) float64 { return some(microseconds(perMessage(r.LoadCPU, r.through()))) }, "%.1f"},
}

// whileBoth is the rate of so many messages where publishing and consuming
// went on at the same time.
func whileBoth(r Report, messages uint64) float64 {
	if r.Drained > 0 || r.Measured <= 0 {
		return -1
	}
	return some(float64(messages) / r.Measured.Seconds())
}

// some makes what can't be 0 when it was measured unknown.
func some(value float64) float64 {
	if value > 0 {
		return value
	}
	return -1
}

// Median is the figure's over the rounds that it is known of, negative when
// there are none.
func (f Figure) Median(reports []Report) float64 { return median(f.values(reports)) }

func (f Figure) values(reports []Report) []float64 {
	var values []float64
	for _, r := range reports {
		if value := f.Of(r); value >= 0 {
			values = append(values, value)
		}
	}
	return values
}

// Ratio is how one broker's figure stands to another's.
type Ratio struct {
	// Median is of the medians; Low and High are the bounds of the ratios of
	// single rounds. All are 0 when one side isn't known.
	Median, Low, High float64
}

// Ratio of ours to theirs, round by round.
func (f Figure) Ratio(ours, theirs []Report) Ratio {
	mine, other := f.Median(ours), f.Median(theirs)
	if mine < 0 || other <= 0 {
		return Ratio{}
	}
	ratio := Ratio{Median: mine / other}
	var rounds []float64
	for i := range min(len(ours), len(theirs)) {
		if a, b := f.Of(ours[i]), f.Of(theirs[i]); a >= 0 && b > 0 {
			rounds = append(rounds, a/b)
		}
	}
	if len(rounds) > 0 {
		ratio.Low, ratio.High = slices.Min(rounds), slices.Max(rounds)
	}
	return ratio
}

func (r Ratio) String() string {
	if r.Median == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Median, r.Low, r.High)
}

// Write prints the median of each figure for each broker, and how the first
// one's stands to each other's: the ratio, and its bounds over the rounds.
func (c Comparison) Write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\t", c.Scenario)
	for i, reports := range c.Reports {
		fmt.Fprintf(table, "%s\t", c.broker(i))
		if i > 0 && len(reports) > 0 {
			fmt.Fprint(table, "ratio\t")
		}
	}
	fmt.Fprintln(table)
	for _, figure := range Figures {
		if !c.knows(figure) {
			continue
		}
		fmt.Fprintf(table, "%s\t", figure.Name)
		for i, reports := range c.Reports {
			fmt.Fprintf(table, "%s\t", known(figure.Format, figure.Median(reports)))
			if i > 0 && len(reports) > 0 {
				fmt.Fprintf(table, "%s\t", figure.Ratio(c.Reports[0], reports))
			}
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// broker is the name of the i-th.
func (c Comparison) broker(i int) string {
	if len(c.Reports[i]) == 0 {
		return "-"
	}
	return c.Reports[i][0].Broker
}

// knows says whether the figure is known of any broker.
func (c Comparison) knows(f Figure) bool {
	return slices.ContainsFunc(c.Reports, func(reports []Report) bool { return f.Median(reports) >= 0 })
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return -1
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}
