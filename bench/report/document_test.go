package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// failover is a document of one scenario, two brokers and two rounds.
func failover(t *testing.T) Document {
	t.Helper()
	one := func(broker string, factor uint64) Report {
		h := hdrhistogram.New(1, 1e9, 3)
		for i := range int64(1000) {
			if err := h.RecordValue(int64(factor) * (100 + i)); err != nil {
				t.Fatal(err)
			}
		}
		r := Report{
			Broker: broker, Scenario: "failover", Brokers: 2, Copies: 1, Measured: 10 * time.Second,
			Confirmed: 9000 / factor, Consumed: 9000 / factor, BrokerCPU: time.Second, PeakRSS: 100 << 20, Written: -1, Fsyncs: 450,
			KilledAt: 5 * time.Second, ConfirmGap: time.Duration(factor) * 50 * time.Millisecond,
			Confirm: Summarize(h), EndToEnd: Summarize(h),
		}
		for i := range 100 {
			r.Course = append(r.Course, Moment{At: time.Duration(i) * 100 * time.Millisecond, Confirmed: 900 / float64(factor)})
		}
		return r
	}
	theirs := one("<theirs>", 3)
	theirs.Problems = []string{"7 messages lost"}
	return Document{
		When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Commit: "abc", Machine: Machine{Cores: 2},
		Comparisons: []Comparison{{
			Scenario: "failover", What: "a leader is killed",
			Reports: [][]Report{{one("ours", 1), one("ours", 2)}, {theirs, one("<theirs>", 4)}},
		}},
	}
}

func TestADocumentReadsBackFromJSON(t *testing.T) {
	var text strings.Builder
	want := failover(t)
	if err := want.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var got Document
	if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatal(err)
	}
	if a, b := got.Comparisons[0].Reports[1][0], want.Comparisons[0].Reports[1][0]; a.ConfirmGap != b.ConfirmGap || a.Confirm.P99 != b.Confirm.P99 {
		t.Errorf("read %+v, wrote %+v", a, b)
	}
}

func TestAHistoryIsOneLineOfMediansAndRatios(t *testing.T) {
	var text strings.Builder
	if err := failover(t).History().Append(&text); err != nil {
		t.Fatal(err)
	}
	if strings.Count(text.String(), "\n") != 1 {
		t.Errorf("not one line: %s", text.String())
	}
	var got History
	if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatal(err)
	}
	// 900 and 450 a second against 300 and 225.
	if want := (Result{Value: 262.5, Ratio: 2.571, Range: [2]float64{2, 3}}); got.Results["failover"]["<theirs>"]["rate"] != want {
		t.Errorf("%+v, want %+v", got.Results["failover"]["<theirs>"]["rate"], want)
	}
	if got.Results["failover"]["ours"]["rate"] != (Result{Value: 675}) {
		t.Errorf("%+v", got.Results["failover"]["ours"])
	}
	if _, known := got.Results["failover"]["ours"]["written_bytes"]; known {
		t.Error("tells what was not known")
	}
}

// The page is well-formed where a browser would guess otherwise, escapes what
// it is given, and needs nothing from elsewhere.
func TestThePageStandsAlone(t *testing.T) {
	var text strings.Builder
	if err := failover(t).WriteHTML(&text); err != nil {
		t.Fatal(err)
	}
	page := text.String()
	for _, want := range []string{"&lt;theirs&gt;, round 1: 7 messages lost", "leader killed", "a leader is killed", "p99.9", `<path class="line b1" d="M`, "2.57 (2.00–3.00)"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, bad := range []string{"http://", "https://", "src=", "url(", "<theirs>", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("there is a %q", bad)
		}
	}
	for rest := page; ; {
		_, svg, found := strings.Cut(rest, "<svg")
		if !found {
			break
		}
		svg, rest, _ = strings.Cut(svg, "</svg>")
		decoder := xml.NewDecoder(strings.NewReader("<svg" + svg + "</svg>"))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in <svg%s", err, svg)
			}
		}
	}
}

func TestAPageOfNothingMeasuredIsWritten(t *testing.T) {
	d := Document{Comparisons: []Comparison{{Scenario: "s", Reports: [][]Report{{}, {{Broker: "b"}}}}}}
	if err := d.WriteHTML(io.Discard); err != nil {
		t.Error(err)
	}
	if err := d.Comparisons[0].Write(io.Discard); err != nil {
		t.Error(err)
	}
}
