package report

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Document is what one call of compare measured, with what is needed to judge
// and repeat it.
type Document struct {
	When time.Time
	// Commit is that of the program's source, "" when not known.
	Commit string
	// Command is the command line.
	Command []string
	Machine Machine
	// Versions of the brokers, in their own words, by name.
	Versions    map[string]string
	Comparisons []Comparison
}

// WriteJSON writes all of it, with durations in nanoseconds and sizes in bytes.
func (d Document) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(d)
}

// History is a document's line in a history of them: what it comes to.
type History struct {
	When    time.Time `json:"when"`
	Commit  string    `json:"commit"`
	Machine Machine   `json:"machine"`
	// Results are by scenario, broker and a figure's key.
	Results map[string]map[string]map[string]Result `json:"results"`
}

// Result is the median of a figure, and for brokers beside the first how the
// first's stands to it.
type Result struct {
	Value float64    `json:"value"`
	Ratio float64    `json:"ratio,omitempty"`
	Range [2]float64 `json:"range,omitzero"`
}

// History sums up the document.
func (d Document) History() History {
	h := History{When: d.When, Commit: d.Commit, Machine: d.Machine, Results: map[string]map[string]map[string]Result{}}
	for _, c := range d.Comparisons {
		brokers := map[string]map[string]Result{}
		for i, reports := range c.Reports {
			if len(reports) > 0 {
				brokers[c.broker(i)] = c.results(i)
			}
		}
		h.Results[c.Scenario] = brokers
	}
	return h
}

func (c Comparison) results(broker int) map[string]Result {
	results := map[string]Result{}
	for _, figure := range Figures {
		value := figure.Median(c.Reports[broker])
		if value < 0 {
			continue
		}
		result := Result{Value: digits(value)}
		if broker > 0 {
			ratio := figure.Ratio(c.Reports[0], c.Reports[broker])
			result.Ratio, result.Range = digits(ratio.Median), [2]float64{digits(ratio.Low), digits(ratio.High)}
		}
		results[figure.Key] = result
	}
	return results
}

// digits leaves four: more would be noise.
func digits(value float64) float64 {
	var short float64
	// It can't fail: what %g prints, Sscan reads.
	_, _ = fmt.Sscan(fmt.Sprintf("%.4g", value), &short)
	return short
}

// Append writes the line.
func (h History) Append(w io.Writer) error { return json.NewEncoder(w).Encode(h) }
