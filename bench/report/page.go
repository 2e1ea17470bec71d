package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// WriteHTML writes a page that needs nothing else: charts are SVG within it.
func (d Document) WriteHTML(w io.Writer) error {
	view := pageView{Document: d, Date: d.When.Format(time.RFC1123), CommandLine: strings.Join(d.Command, " ")}
	for _, c := range d.Comparisons {
		view.Scenarios = append(view.Scenarios, viewOf(c))
	}
	return page.Execute(w, view)
}

type pageView struct {
	Document
	Date, CommandLine string
	// Colors are numbered as the brokers are.
	Colors    [6]struct{}
	Scenarios []scenarioView
}

type scenarioView struct {
	Name, What string
	Brokers    []string
	Rounds     int
	Bars       []bars
	Charts     []chart
	Rows       []row
	Problems   []string
}

// row is a figure; Cells are in the order of the brokers.
type row struct {
	Name  string
	Cells []cell
}

type cell struct{ Value, Ratio string }

// barFigures have bars; the others are in the table only.
var barFigures = []string{"rate", "cpu_us", "confirm_p99_ms", "peak_mib", "confirm_gap_ms", "delivery_gap_ms"}

func viewOf(c Comparison) scenarioView {
	v := scenarioView{Name: c.Scenario, What: c.What}
	for i, reports := range c.Reports {
		v.Brokers = append(v.Brokers, c.broker(i))
		v.Rounds = max(v.Rounds, len(reports))
		for round, r := range reports {
			for _, problem := range r.Problems {
				v.Problems = append(v.Problems, fmt.Sprintf("%s, round %d: %s", r.Broker, round+1, problem))
			}
		}
	}
	for _, f := range Figures {
		if !c.knows(f) {
			continue
		}
		if slices.Contains(barFigures, f.Key) {
			v.Bars = append(v.Bars, barChart(c, f))
		}
		v.Rows = append(v.Rows, c.row(f))
	}
	for _, one := range []chart{
		percentileChart("Confirm latency by percentile", c.latencies(func(r Report) Latency { return r.Confirm })),
		percentileChart("End to end latency by percentile", c.latencies(func(r Report) Latency { return r.EndToEnd })),
		timeChart("Confirmed over time, first round", c.course(func(m Moment) float64 { return m.Confirmed }), c.kills()),
		timeChart("Consumed over time, first round", c.course(func(m Moment) float64 { return m.Consumed }), c.kills()),
	} {
		if len(one.Lines) > 0 {
			v.Charts = append(v.Charts, one)
		}
	}
	return v
}

func (c Comparison) row(f Figure) row {
	r := row{Name: f.Name}
	for i, reports := range c.Reports {
		one := cell{Value: known(f.Format, f.Median(reports))}
		if i > 0 {
			one.Ratio = f.Ratio(c.Reports[0], reports).String()
		}
		r.Cells = append(r.Cells, one)
	}
	return r
}

// latencies are the brokers' curves: at each percentile the median of the
// rounds, in milliseconds.
func (c Comparison) latencies(of func(Report) Latency) []series {
	var all []series
	for i, reports := range c.Reports {
		s := series{broker: i, name: c.broker(i)}
		for at, percentile := range Percentiles {
			var values []float64
			for _, r := range reports {
				if curve := of(r).Curve; at < len(curve) {
					values = append(values, microseconds(curve[at])/1000)
				}
			}
			if len(values) > 0 {
				s.points = append(s.points, point{nines(percentile), median(values)})
			}
		}
		if len(s.points) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// course is how a rate went in each broker's first round.
func (c Comparison) course(of func(Moment) float64) []series {
	var all []series
	for i, reports := range c.Reports {
		s := series{broker: i, name: c.broker(i)}
		for round, r := range reports {
			for _, m := range r.Course {
				if round == 0 {
					s.points = append(s.points, point{m.At.Seconds(), of(m)})
				}
			}
		}
		if len(s.points) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// kills is when a broker was killed: the same time for all.
func (c Comparison) kills() []tick {
	for _, reports := range c.Reports {
		for _, r := range reports {
			if r.KilledAt > 0 {
				return []tick{{r.KilledAt.Seconds(), "leader killed"}}
			}
		}
	}
	return nil
}
