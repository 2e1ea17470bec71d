package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The size of a chart and of its margins, in the units of its SVG.
const (
	chartWidth, chartHeight                      = 640.0, 260.0
	leftMargin, rightMargin, topMargin, belowIt  = 64.0, 16.0, 12.0, 34.0
	plotWidth, plotHeight                        = chartWidth - leftMargin - rightMargin, chartHeight - topMargin - belowIt
	barHeight, barStep, barLabel, barValue, barW = 18.0, 26.0, 120.0, 90.0, chartWidth
)

// chart is lines over two axes, in the SVG's coordinates.
type chart struct {
	Title          string
	XTicks, YTicks []tick
	Lines          []line
	// Marks are vertical lines with a label.
	Marks []tick
}

type tick struct {
	At    float64
	Label string
}

// line is a path of SVG. Broker chooses its colour.
type line struct {
	Broker int
	Name   string
	Path   string
}

type point struct{ x, y float64 }

// series is a line in the figures' own units.
type series struct {
	broker int
	name   string
	points []point
}

// axis turns values into coordinates.
type axis struct {
	low, high float64
	from, to  float64
	log       bool
}

func (a axis) at(value float64) float64 {
	low, high := a.low, a.high
	if a.log {
		low, high, value = math.Log10(low), math.Log10(high), math.Log10(max(value, a.low))
	}
	if high == low {
		return a.from
	}
	return a.from + (a.to-a.from)*(value-low)/(high-low)
}

func xAxis(low, high float64) axis {
	return axis{low: low, high: high, from: leftMargin, to: chartWidth - rightMargin}
}

func yAxis(low, high float64, log bool) axis {
	return axis{low: low, high: high, from: chartHeight - belowIt, to: topMargin, log: log}
}

func path(points []point, x, y axis) string {
	var b strings.Builder
	for i, p := range points {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", command, x.at(p.x), y.at(p.y))
	}
	return b.String()
}

// extent is the bounds of the points' values.
func extent(all []series, of func(point) float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, s := range all {
		for _, p := range s.points {
			low, high = min(low, of(p)), max(high, of(p))
		}
	}
	return low, high
}

// percentileChart has latencies in ms over the percentiles, which are spread so
// that each further nine has the same room.
func percentileChart(title string, all []series) chart {
	if len(all) == 0 {
		return chart{}
	}
	low, high := extent(all, func(p point) float64 { return p.y })
	low, high = math.Pow(10, math.Floor(math.Log10(max(low, 0.01)))), math.Pow(10, math.Ceil(math.Log10(max(high, 0.1))))
	x, y := xAxis(0, nines(100)), yAxis(low, high, true)
	c := chart{Title: title}
	for _, percentile := range []float64{50, 90, 99, 99.9, 99.99, 100} {
		label := fmt.Sprintf("p%g", percentile)
		if percentile == 100 {
			label = "max"
		}
		c.XTicks = append(c.XTicks, tick{x.at(nines(percentile)), label})
	}
	for value := low; value <= high*1.01; value *= 10 {
		c.YTicks = append(c.YTicks, tick{y.at(value), fmt.Sprintf("%g ms", value)})
	}
	c.draw(all, x, y)
	return c
}

// nines is a percentile's place: 90 is 1, 99 is 2, 99.9 is 3; 100 comes after
// 99.99.
func nines(percentile float64) float64 {
	if percentile >= 100 {
		return 4.6
	}
	return -math.Log10(1 - percentile/100)
}

// timeChart has rates over seconds.
func timeChart(title string, all []series, marks []tick) chart {
	if len(all) == 0 {
		return chart{}
	}
	_, end := extent(all, func(p point) float64 { return p.x })
	_, high := extent(all, func(p point) float64 { return p.y })
	step, high := niceStep(high)
	x, y := xAxis(0, end), yAxis(0, high, false)
	c := chart{Title: title}
	xStep, _ := niceStep(end)
	for value := 0.0; value <= end; value += xStep {
		c.XTicks = append(c.XTicks, tick{x.at(value), fmt.Sprintf("%g s", value)})
	}
	for value := 0.0; value <= high*1.001; value += step {
		c.YTicks = append(c.YTicks, tick{y.at(value), thousands(value) + "/s"})
	}
	for _, mark := range marks {
		c.Marks = append(c.Marks, tick{x.at(mark.At), mark.Label})
	}
	c.draw(all, x, y)
	return c
}

func (c *chart) draw(all []series, x, y axis) {
	for _, s := range all {
		c.Lines = append(c.Lines, line{s.broker, s.name, path(s.points, x, y)})
	}
}

// niceStep divides up to high into a handful of round steps, and returns high
// rounded up to one.
func niceStep(high float64) (step, rounded float64) {
	if high <= 0 {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(high)))
	for _, part := range []float64{0.2, 0.25, 0.5, 1, 2} {
		if high/(step*part) <= 6 {
			step *= part
			break
		}
	}
	return step, step * math.Ceil(high/step)
}

// bars is one figure of all brokers.
type bars struct {
	Title  string
	Height float64
	Bars   []bar
}

type bar struct {
	Broker                int
	Name, Value           string
	Y, Middle, Width, End float64
	// Dots are the rounds.
	Dots []float64
}

// barChart leaves out brokers whose figure isn't known; without any it has no
// bars.
func barChart(c Comparison, f Figure) bars {
	b := bars{Title: f.Name}
	high := 0.0
	for _, reports := range c.Reports {
		if values := f.values(reports); len(values) > 0 {
			high = max(high, slices.Max(values))
		}
	}
	width := func(value float64) float64 {
		if high == 0 {
			return 0
		}
		return (barW - barLabel - barValue) * value / high
	}
	for i, reports := range c.Reports {
		values := f.values(reports)
		if len(values) == 0 {
			continue
		}
		one := bar{
			Broker: i, Name: c.broker(i), Y: barStep * float64(len(b.Bars)),
			Width: max(width(median(values)), 1), Value: fmt.Sprintf(f.Format, median(values)),
		}
		one.Middle, one.End = one.Y+barHeight/2, barLabel+max(one.Width, width(slices.Max(values)))+8
		for _, value := range values {
			one.Dots = append(one.Dots, barLabel+width(value))
		}
		b.Bars = append(b.Bars, one)
	}
	b.Height = barStep * float64(len(b.Bars))
	return b
}

// thousands prints a whole number with a thin gap every three digits.
func thousands(value float64) string {
	text := fmt.Sprintf("%.0f", value)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "\u202f" + text[at:]
	}
	return text
}
