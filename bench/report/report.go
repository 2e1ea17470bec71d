// Package report has what a run of the load generator measured, sets runs on
// several brokers side by side, and prints them for people and programs: text,
// JSON, and a page with charts.
package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mirrormq/mirrormq/bench/procstat"
)

// Latency sums up a distribution of latencies.
type Latency struct {
	Count         int64
	P50, P99, Max time.Duration
	// Curve is the latency at each of Percentiles, in their order; nil when
	// there was none.
	Curve []time.Duration
}

// Percentiles are those that a Latency's curve has.
var Percentiles = []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100}

// Summarize reads a histogram of microseconds.
func Summarize(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond }
	l := Latency{
		Count: h.TotalCount(), P50: at(50), P99: at(99),
		Max: time.Duration(h.Max()) * time.Microsecond,
	}
	for _, q := range Percentiles {
		if l.Count > 0 {
			l.Curve = append(l.Curve, at(q))
		}
	}
	return l
}

func (l Latency) String() string {
	if l.Count == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s  p99 %s  max %s", milliseconds(l.P50), milliseconds(l.P99), milliseconds(l.Max))
}

// Report is what a run measured.
type Report struct {
	// Broker and Scenario name what ran, Brokers is how many were connected to.
	Broker, Scenario string
	Brokers          int
	// Measured is how long the measurement took; Confirmed and Consumed are
	// the messages in it. Each message is to be consumed Copies times.
	Measured            time.Duration
	Confirmed, Consumed uint64
	Copies              int
	// Filled and Drained are how long a backlog took to publish and to consume;
	// zero where both happened at the same time.
	Filled, Drained time.Duration
	// Confirm is the time from a publish to its confirm, EndToEnd to its
	// delivery.
	Confirm, EndToEnd Latency
	// BrokerCPU was spent by the broker's processes during the measurement,
	// LoadCPU by the load generator's. BrokerCPU is 0 when no pid is known.
	BrokerCPU, LoadCPU time.Duration
	// RSS is the broker's at the end of the measurement, PeakRSS its largest
	// since it started, in bytes.
	RSS, PeakRSS int64
	// Written is the bytes that the brokers caused to go to disks, Fsyncs how
	// often they synced; -1 when that is not known.
	Written, Fsyncs int64
	// KilledAt is when a broker was killed, ConfirmGap and DeliveryGap the
	// longest times from then on without a confirm and without a delivery; zero
	// when none was killed.
	KilledAt, ConfirmGap, DeliveryGap time.Duration
	// Course is how the rates went, in time's order.
	Course []Moment
	// Total is every message sent, warm-up included; Nacked and Redelivered
	// of these.
	Total, Nacked, Redelivered uint64
	// Problems say in words what the verification found wrong.
	Problems []string
}

// Moment is the rates, in messages per second, up to the time At since the
// measurement began.
type Moment struct {
	At                  time.Duration
	Confirmed, Consumed float64
}

// Rate is the messages that went through, in and out, per second: the mean of
// those confirmed and those consumed, or only the confirmed when nothing
// consumed. Of a backlog it is the rate at which it drained.
func (r Report) Rate() float64 {
	if r.Drained > 0 {
		return float64(r.Consumed) / r.Drained.Seconds()
	}
	if r.Measured <= 0 {
		return 0
	}
	return r.through() / r.Measured.Seconds()
}

func (r Report) through() float64 {
	if r.Consumed == 0 {
		return float64(r.Confirmed)
	}
	return (float64(r.Confirmed) + float64(r.Consumed)/float64(max(r.Copies, 1))) / 2
}

// CPUPerMessage is the broker's CPU time for a message's whole way.
func (r Report) CPUPerMessage() time.Duration { return perMessage(r.BrokerCPU, r.through()) }

func perMessage(cpu time.Duration, messages float64) time.Duration {
	if messages == 0 {
		return 0
	}
	return time.Duration(float64(cpu) / messages)
}

// FillRate is how fast a backlog was published, in messages per second; 0
// without one.
func (r Report) FillRate() float64 {
	if r.Filled <= 0 {
		return 0
	}
	return float64(r.Confirmed) / r.Filled.Seconds()
}

// WrittenPerMessage is the bytes that all brokers together wrote for a message,
// FsyncsPerMessage their fsyncs; negative when not known.
func (r Report) WrittenPerMessage() float64 { return eachMessage(r.Written, r.through()) }

// FsyncsPerMessage: see WrittenPerMessage.
func (r Report) FsyncsPerMessage() float64 { return eachMessage(r.Fsyncs, r.through()) }

func eachMessage(n int64, messages float64) float64 {
	if n < 0 || messages == 0 {
		return -1
	}
	return float64(n) / messages
}

func known(format string, value float64) string {
	if value < 0 {
		return "-"
	}
	return fmt.Sprintf(format, value)
}

// Write prints the report for a person.
func (r Report) Write(w io.Writer) error {
	seconds := r.Measured.Seconds()
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d): %s over %.1f s\n", r.Broker, max(r.Brokers, 1), r.Scenario, seconds)
	fmt.Fprintf(&b, "  throughput   %.0f msgs/s (confirmed %.0f/s, consumed %.0f/s)\n",
		r.Rate(), float64(r.Confirmed)/seconds, float64(r.Consumed)/seconds)
	fmt.Fprintf(&b, "  confirm      %s\n", r.Confirm)
	fmt.Fprintf(&b, "  end to end   %s\n", r.EndToEnd)
	if r.PeakRSS > 0 {
		fmt.Fprintf(&b, "  broker       %.1f µs CPU per message, %.0f%% of a core; RSS %s, peak %s\n",
			microseconds(r.CPUPerMessage()), 100*r.BrokerCPU.Seconds()/seconds, procstat.MiB(r.RSS), procstat.MiB(r.PeakRSS))
		fmt.Fprintf(&b, "  disk         %s bytes written per message, %s fsyncs per message\n",
			known("%.0f", r.WrittenPerMessage()), known("%.4f", r.FsyncsPerMessage()))
	}
	if r.Drained > 0 {
		fmt.Fprintf(&b, "  backlog      filled at %.0f msgs/s, drained at %.0f msgs/s\n", r.FillRate(), r.Rate())
	}
	if r.KilledAt > 0 {
		fmt.Fprintf(&b, "  failover     killed at %.1f s; longest without a confirm %s, without a delivery %s\n",
			r.KilledAt.Seconds(), milliseconds(r.ConfirmGap), milliseconds(r.DeliveryGap))
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
