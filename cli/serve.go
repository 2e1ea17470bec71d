package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/broker"
	"github.com/mirrormq/mirrormq/log"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run a broker",
		Description: `Ends cleanly on SIGTERM or Ctrl-C: clients are told, the log is synced. A
second signal ends it at once, which loses nothing that was confirmed.

Addresses are loopback ones unless told otherwise; guest (password guest) may
log in from this machine only.

Examples:
   mirrormq serve --data ./data
   mirrormq serve --config /etc/mirrormq.yaml
   mirrormq serve --amqp 0.0.0.0:5672 --http 0.0.0.0:15672 --memory-high-watermark 2GiB
   mirrormq serve --amqps 0.0.0.0:5671 --tls-cert cert.pem --tls-key key.pem
   MIRRORMQ_DATA=/var/lib/mirrormq MIRRORMQ_LOG_FORMAT=json mirrormq serve`,
		Flags:  serveFlags(),
		Action: serve,
	}
}

// serve runs a broker until a signal, or until it fails.
func serve(c *cli.Context) error {
	config, err := serveConfig(c)
	if err != nil {
		return err
	}
	stopProfiler, err := startProfiler(c.String("pprof"), config.Logger)
	if err != nil {
		return err
	}
	defer stopProfiler()
	for {
		err := serveOnce(c, config)
		if !errors.Is(err, broker.ErrNewcomer) {
			return err
		}
		config.Logger.Warn("starting again as a new member of the cluster")
	}
}

// serveOnce runs a broker until a signal, or until it fails.
func serveOnce(c *cli.Context, config broker.Config) error {
	b, err := broker.Start(c.Context, config)
	switch {
	case errors.Is(err, broker.ErrNewcomer):
		return err
	case err != nil && c.Context.Err() != nil:
		return context.Canceled
	case err != nil:
		return startError(err)
	}
	if isTerminal(c.App.ErrWriter) {
		say(c, "ready; try in another terminal: mirrormq publish --declare hello 'first message'")
	}

	var failed error
	select {
	case <-c.Context.Done():
	case failed = <-b.Failed():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(c.Context), c.Duration("stop-timeout"))
	defer cancel()
	err = b.Stop(stopping)
	switch {
	case errors.Is(failed, broker.ErrNewcomer):
		return failed
	case errors.Is(failed, log.ErrDamaged):
		return fail(exitDamaged, "see mirrormq log verify; "+damagedHint, "the broker failed: %w", failed)
	case failed != nil:
		return fail(exitFailure, "nothing that was confirmed is lost; repair the cause and start it again", "the broker failed: %w", failed)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(exitTimeout, "nothing that was confirmed is lost; the next start replays the log", "the broker did not stop within %v", c.Duration("stop-timeout"))
	}
	return err
}

// startError tells what to do about a broker that does not start.
func startError(err error) error {
	switch {
	case errors.Is(err, log.ErrLocked):
		return fail(exitFailure, "another broker uses this --data directory; stop it, or give this one another", "%w", err)
	case errors.Is(err, log.ErrDamaged):
		return fail(exitDamaged, "see mirrormq log verify; "+damagedHint, "%w", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fail(exitFailure, "another process listens there, maybe another broker; choose another --amqp or --http", "%w", err)
	case errors.Is(err, os.ErrPermission):
		return fail(exitFailure, "the user that runs the broker must own its --data directory, and may need rights for ports below 1024", "%w", err)
	}
	// Not what a client would make of it: a listener's error is no lost
	// connection.
	return fail(exitFailure, "", "%w", err)
}

// startProfiler serves Go's profiler at address, if there is one. The function
// it returns stops it and waits.
func startProfiler(address string, logger *slog.Logger) (stop func(), err error) {
	if address == "" || address == "-" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fail(exitFailure, "choose another --pprof address", "--pprof: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("profiler stopped", "error", err)
		}
	}()
	logger.Info("profiler is on", "address", "http://"+l.Addr().String()+"/debug/pprof/")
	return func() {
		_ = server.Close() // A profile under way is cut off.
		<-done
	}, nil
}
