// Package peer has the brokers that the load generator brings along to
// measure ours beside: a NATS server with JetStream, and a null broker. Each
// serves until its context ends, in a process of its own that package launch
// starts, so that its use of the machine can be seen.
package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// JetStreamConfig says where a NATS server listens and keeps its streams.
type JetStreamConfig struct {
	// Name is the server's, different from others of its cluster.
	Name string
	// Data is the directory of its streams.
	Data string
	// Listen is the address for clients, HTTP that for monitoring.
	Listen, HTTP string
	// Cluster is the address for routes, and Routes those of all members. A
	// server alone has none.
	Cluster string
	Routes  []string
	// SyncAlways syncs each write before it is answered.
	SyncAlways bool
	Logger     *slog.Logger
}

// JetStream runs a NATS server until ctx ends. Apart from the places above and
// messages of up to 8 MiB (its default is 1) it has the server's defaults.
func JetStream(ctx context.Context, c JetStreamConfig) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("peer: nats server: %w", err)
	}
	s.SetLoggerV2(natsLogger{c.Logger}, false, false, false)
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(30 * time.Second) {
		return fmt.Errorf("peer: nats server does not listen at %s", c.Listen)
	}
	<-ctx.Done()
	return nil
}

func (c JetStreamConfig) options() (*server.Options, error) {
	o := &server.Options{
		ServerName: c.Name, NoSigs: true, MaxPayload: 8 << 20,
		JetStream: true, StoreDir: c.Data, SyncAlways: c.SyncAlways,
	}
	for _, place := range []struct {
		address string
		host    *string
		port    *int
	}{
		{c.Listen, &o.Host, &o.Port}, {c.HTTP, &o.HTTPHost, &o.HTTPPort}, {c.Cluster, &o.Cluster.Host, &o.Cluster.Port},
	} {
		if place.address == "" {
			continue
		}
		host, port, err := net.SplitHostPort(place.address)
		if err == nil {
			*place.host = host
			*place.port, err = strconv.Atoi(port)
		}
		if err != nil {
			return nil, fmt.Errorf("peer: address %q: %w", place.address, err)
		}
	}
	if c.Cluster != "" {
		o.Cluster.Name = "bench"
	}
	for _, route := range c.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: route})
	}
	return o, nil
}

// natsLogger passes on what the server says.
type natsLogger struct{ log *slog.Logger }

func (l natsLogger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l natsLogger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l natsLogger) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l natsLogger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l natsLogger) Debugf(string, ...any)           {}
func (l natsLogger) Tracef(string, ...any)           {}
