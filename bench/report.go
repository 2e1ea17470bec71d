package bench

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Quantiles sums up a latency distribution.
type Quantiles struct {
	Count         int64
	P50, P99, Max time.Duration
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond }
	return Quantiles{
		Count: h.TotalCount(), P50: at(50), P99: at(99),
		Max: time.Duration(h.Max()) * time.Microsecond,
	}
}

func (q Quantiles) String() string {
	if q.Count == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s  p99 %s  max %s", milliseconds(q.P50), milliseconds(q.P99), milliseconds(q.Max))
}

// Report is what Run measured.
type Report struct {
	// Broker and Scenario name what ran.
	Broker, Scenario string
	// Measured is how long the measurement took; Confirmed and Consumed are
	// the messages in it.
	Measured            time.Duration
	Confirmed, Consumed uint64
	// Confirm is the time from a publish to its confirm, EndToEnd to its
	// delivery.
	Confirm, EndToEnd Quantiles
	// BrokerCPU was spent by the broker's processes during the measurement,
	// LoadCPU by this one. BrokerCPU is 0 when no pid is known.
	BrokerCPU, LoadCPU time.Duration
	// RSS is the broker's at the end of the measurement, PeakRSS its largest
	// since it started, in bytes.
	RSS, PeakRSS int64
	// Total is every message sent, warm-up included; Nacked and Redelivered
	// of these.
	Total, Nacked, Redelivered uint64
	// Problems say in words what the verification found wrong.
	Problems []string
}

// Rate is the messages that went through, in and out, per second: the mean of
// those confirmed and those consumed, or only the confirmed when nothing
// consumed.
func (r Report) Rate() float64 {
	if r.Measured <= 0 {
		return 0
	}
	return r.through() / r.Measured.Seconds()
}

func (r Report) through() float64 {
	if r.Consumed == 0 {
		return float64(r.Confirmed)
	}
	return float64(r.Confirmed+r.Consumed) / 2
}

// CPUPerMessage is the broker's CPU time for a message's whole way.
func (r Report) CPUPerMessage() time.Duration { return perMessage(r.BrokerCPU, r.through()) }

func perMessage(cpu time.Duration, messages float64) time.Duration {
	if messages == 0 {
		return 0
	}
	return time.Duration(float64(cpu) / messages)
}

// Write prints the report for a person.
func (r Report) Write(w io.Writer) error {
	seconds := r.Measured.Seconds()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s over %.1f s\n", r.Broker, r.Scenario, seconds)
	fmt.Fprintf(&b, "  throughput   %.0f msgs/s (confirmed %.0f/s, consumed %.0f/s)\n",
		r.Rate(), float64(r.Confirmed)/seconds, float64(r.Consumed)/seconds)
	fmt.Fprintf(&b, "  confirm      %s\n", r.Confirm)
	fmt.Fprintf(&b, "  end to end   %s\n", r.EndToEnd)
	if r.PeakRSS > 0 {
		fmt.Fprintf(&b, "  broker       %.1f µs CPU per message, %.0f%% of a core; RSS %s, peak %s\n",
			microseconds(r.CPUPerMessage()), 100*r.BrokerCPU.Seconds()/seconds, mebibytes(r.RSS), mebibytes(r.PeakRSS))
	}
	fmt.Fprintf(&b, "  load         %.1f µs CPU per message, %.0f%% of a core\n",
		microseconds(perMessage(r.LoadCPU, r.through())), 100*r.LoadCPU.Seconds()/seconds)
	fmt.Fprintf(&b, "  verified     %s\n", r.verdict())
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) verdict() string {
	if len(r.Problems) == 0 {
		return fmt.Sprintf("%d messages, once each, in order, intact", r.Total)
	}
	return "WRONG: " + strings.Join(r.Problems, "; ")
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", microseconds(d)/1000) }

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// fault is ErrVerification with the problems, nil when there are none.
func (r Report) fault() error { return verificationError(r.Problems) }

func verificationError(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrVerification, strings.Join(problems, "; "))
}
