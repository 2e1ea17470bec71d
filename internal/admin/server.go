package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// DefaultSampleInterval is the time between two samples for rates, the same
// as RabbitMQ's.
const DefaultSampleInterval = 5 * time.Second

// Config is what a Server needs.
type Config struct {
	Source        Source        // required
	Authenticator Authenticator // required
	// Metrics is where the broker's rooms count; required, since they begin to
	// count before there is a Server.
	Metrics *Metrics
	// Version is MirrorMQ's own, shown in the overview.
	Version string
	// SampleInterval is the time between two samples of the counters that
	// rates are computed from; 0 is DefaultSampleInterval.
	SampleInterval time.Duration
	// OpenMetrics serves /metrics without authentication. The queues' names
	// are in it, so that is for closed networks.
	OpenMetrics bool
	Logger      *slog.Logger // nil: discarded
}

func (c *Config) setDefaults() {
	if c.SampleInterval <= 0 {
		c.SampleInterval = DefaultSampleInterval
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server is the HTTP side of one broker.
type Server struct {
	config Config
	rates  *rates
	http   *http.Server

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New makes a Server and attaches its Source to the metrics. It serves nothing
// until Start, but its Handler can be used at once.
func New(c Config) *Server {
	c.setDefaults()
	s := &Server{config: c, rates: newRates(c.Source)}
	c.Metrics.attach(c.Source, c.Version)
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Handler serves everything: /healthz and /readyz to anybody, the rest to those
// who are authenticated.
func (s *Server) Handler() http.Handler {
	metrics := http.Handler(promhttp.HandlerFor(s.config.Metrics.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, // One bad series must not hide the rest.
		ErrorLog:      slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelWarn),
	}))
	if !s.config.OpenMetrics {
		metrics = s.authenticated(metrics)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", probe(s.config.Source.Healthy))
	mux.HandleFunc("GET /readyz", probe(s.config.Source.Ready))
	mux.Handle("GET /metrics", metrics)
	api := s.authenticated(newRouter(s.routes()))
	mux.Handle("GET /{$}", s.authenticated(http.HandlerFunc(index)))
	// The mux would redirect paths that it finds unclean, such as that of a
	// queue named "..": the API's router reads them as they came.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isAPI(r) {
			api.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Start serves on l, which the Server then owns, and samples for rates until
// Close. It returns at once.
func (s *Server) Start(l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.config.Logger.Error("http server stopped", "error", err)
		}
	})
	s.done.Go(func() { s.rates.run(ctx, s.config.SampleInterval) })
}

// Close stops accepting, waits for requests under way until ctx ends, and then
// cuts them off. It is idempotent and waits for the Server's goroutines.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close() // Only closes what Shutdown waited for in vain.
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.done.Wait()
	return err
}

// probe answers 200 and "ok", or 503 and why not.
func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(err.Error() + "\n"))
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

// index is the page that a person finds at the root until there is a user
// interface.
func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(`MirrorMQ

/healthz       is the broker working
/readyz        can it serve clients
/metrics       Prometheus metrics
/api/overview  management API (see also /api/queues, /api/connections, /api/nodes)
/api/cluster   brokers, groups, mirrors and changes of leaders
`))
}
