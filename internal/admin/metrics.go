package admin

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// DefaultQueueSeries is the number of queues that get series of their own.
const DefaultQueueSeries = 1000

// MetricsConfig says what is measured.
type MetricsConfig struct {
	// QueueSeries bounds the queues that get series of their own: the first
	// ones by vhost and name, so that the choice is stable. The rest are in the
	// totals, and counted by mirrormq_queues_without_series. 0 is
	// DefaultQueueSeries; below 0, none get any.
	QueueSeries int
}

// Metrics is the broker's Prometheus registry, with what its rooms measure
// themselves. It exists before the Server, since the log is opened first. It
// is safe for concurrent use.
type Metrics struct {
	registry    *prometheus.Registry
	queueSeries int

	fsyncDuration prometheus.Histogram
	writtenBytes  prometheus.Counter
	fsyncs        atomic.Uint64
}

// NewMetrics makes a registry of its own with Go's and the process's collectors.
func NewMetrics(c MetricsConfig) *Metrics {
	m := &Metrics{
		registry:    prometheus.NewRegistry(),
		queueSeries: c.QueueSeries,
		fsyncDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mirrormq_log_fsync_duration_seconds",
			Help: "Time that an fsync of the write-ahead log took; its count is the number of fsyncs.",
			// 100 µs to 3.3 s: from a good disk's cache to one that hangs.
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		writtenBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mirrormq_log_written_bytes_total",
			Help: "Bytes written to the write-ahead log, compaction's included.",
		}),
	}
	if m.queueSeries == 0 {
		m.queueSeries = DefaultQueueSeries
	}
	m.registry.MustRegister(
		m.fsyncDuration, m.writtenBytes,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// ObserveFsync counts one fsync of the log and the bytes that it made durable.
// It does not allocate; log.Options.Observe is where it belongs.
func (m *Metrics) ObserveFsync(took time.Duration, bytes int) {
	m.fsyncs.Add(1)
	m.fsyncDuration.Observe(took.Seconds())
	m.writtenBytes.Add(float64(bytes))
}

// Registry is where rooms may register metrics of their own.
func (m *Metrics) Registry() prometheus.Registerer { return m.registry }

// attach adds the collector over the source. A Metrics serves one Server.
func (m *Metrics) attach(s Source, version string) {
	m.registry.MustRegister(newCollector(s, m.queueSeries, version))
}
