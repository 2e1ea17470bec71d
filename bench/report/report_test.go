package report

import (
	"strings"
	"testing"
	"time"
)

func TestAComparisonSetsMediansAndRatiosSideBySide(t *testing.T) {
	report := func(broker string, confirmed uint64, cpu time.Duration) Report {
		return Report{Broker: broker, Measured: time.Second, Confirmed: confirmed, Consumed: confirmed, BrokerCPU: cpu}
	}
	comparison := Comparison{Scenario: "throughput", Reports: [][]Report{
		{report("ours", 900, time.Second), report("ours", 800, time.Second), report("ours", 10, time.Second)},
		{report("theirs", 100, time.Second), report("theirs", 300, time.Second)},
	}}
	var out strings.Builder
	if err := comparison.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"msgs/s 800 200 4.00 (2.67–9.00)", "µs/msg"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestAReportSaysWhatIsWrong(t *testing.T) {
	var out strings.Builder
	report := Report{Broker: "b", Scenario: "s", Measured: time.Second, Problems: []string{"3 messages lost"}}
	if err := report.Write(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "WRONG: 3 messages lost") {
		t.Errorf("%s", out.String())
	}
}
