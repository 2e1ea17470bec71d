// Package mirrormqtest runs a MirrorMQ broker inside a test: the real one, with
// its log in a directory of the test, on a loopback port, ready in some
// milliseconds.
//
//	func TestOrders(t *testing.T) {
//		server := mirrormqtest.Start(t)
//		c, err := client.Dial(t.Context(), server.URL(), client.Config{})
//		…
//	}
//
// It syncs nothing to disk, unless Fsync is given: a test has no power cuts.
package mirrormqtest

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/mirrormq/mirrormq/broker"
)

// stopTime is how long a broker may take to stop.
const stopTime = 10 * time.Second

// TB is what Start needs of a *testing.T, *testing.B or *testing.F.
type TB interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Option changes how a broker runs.
type Option func(*broker.Config)

// Logger has the broker's events logged. Default: none.
func Logger(logger *slog.Logger) Option { return func(c *broker.Config) { c.Logger = logger } }

// HTTP has the broker serve its HTTP API, at HTTPURL.
func HTTP() Option { return func(c *broker.Config) { c.HTTP = "127.0.0.1:0" } }

// Fsync has the broker sync to disk before it confirms, as in production.
func Fsync() Option { return func(c *broker.Config) { c.Fsync = "always" } }

// Full has the broker believe that its disk is full: it blocks publishers
// (connection.blocked), and all else goes on.
func Full() Option { return func(c *broker.Config) { c.DiskFreeLimit = math.MaxInt64 } }

// Dir is where the broker keeps its data, for a test that starts it again on
// them. Default: a directory that goes with the test.
func Dir(path string) Option { return func(c *broker.Config) { c.Data = path } }

// Address is the broker's AMQP address. Default: a free port of 127.0.0.1.
func Address(address string) Option { return func(c *broker.Config) { c.AMQP = address } }

// Server is a running broker.
type Server struct {
	broker  *broker.Broker
	release func() error
}

// Start runs a broker until the test ends.
func Start(t TB, options ...Option) *Server {
	t.Helper()
	s, err := New(append([]Option{Dir(t.TempDir())}, options...)...)
	if err != nil {
		t.Fatalf("mirrormqtest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("mirrormqtest: %v", err)
		}
	})
	return s
}

// New runs a broker until Stop: for examples, TestMain, and programs that want
// one inside. Without Dir its data are in a temporary directory, and deleted by
// Stop.
func New(options ...Option) (*Server, error) {
	config := broker.Config{Name: "test", AMQP: "127.0.0.1:0", HTTP: "-", Fsync: "never", DiskFreeLimit: 1}
	for _, option := range options {
		option(&config)
	}
	s := &Server{release: func() error { return nil }}
	if config.Data == "" {
		dir, err := os.MkdirTemp("", "mirrormqtest-")
		if err != nil {
			return nil, err
		}
		config.Data = dir
		s.release = func() error { return os.RemoveAll(dir) }
	}
	var err error
	if s.broker, err = broker.Start(context.Background(), config); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// URL is where clients connect to, as the user guest.
func (s *Server) URL() string { return "amqp://guest:guest@" + s.broker.AMQPAddr().String() + "/" }

// HTTPURL is the root of the HTTP API, for the user guest; "" without HTTP.
func (s *Server) HTTPURL() string {
	if s.broker.HTTPAddr() == nil {
		return ""
	}
	return "http://guest:guest@" + s.broker.HTTPAddr().String()
}

// Stop stops the broker as a SIGTERM would: clients are told. Stopping it twice
// does no harm.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return errors.Join(s.broker.Stop(ctx), s.release())
}
