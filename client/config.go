package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// SASL is an authentication mechanism with its response, such as amqp091-go's
// PlainAuth and ExternalAuth.
type SASL = amqp.Authentication

// Config says how a client connects. The zero value of a field means its
// default; so Config{} is a good start.
type Config struct {
	// Name is what brokers show as the connection's name. Default: the program's
	// name, process id and host.
	Name string
	// TLS is for amqps URLs. Default: the system's roots, or what the URL's
	// query says (cacertfile, certfile, keyfile).
	TLS *tls.Config
	// SASL are the mechanisms to offer, the preferred one first. Default: PLAIN
	// with the URL's user and password.
	SASL []SASL
	// InOrder tries the URLs in the order they were given. The default is a
	// random order, so that the clients of a cluster spread over its brokers.
	InOrder bool
	// DialTimeout bounds a single attempt to connect, with its TLS and AMQP
	// handshakes. Default 5 s.
	DialTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause after all brokers have been tried
	// in vain; it doubles from one to the other and is jittered. Default 50 ms
	// and 5 s.
	MinBackoff, MaxBackoff time.Duration
	// Heartbeat is how often an idle connection is used. One that has brought
	// nothing for one and a half times as long is given up. Default 10 s.
	Heartbeat time.Duration
	// Logger takes the client's events. Default: none.
	Logger *slog.Logger
	// Observer is told of each publish and delivery, for traces and metrics.
	// Default: none, and then it costs nothing.
	Observer Observer
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		host, _ := os.Hostname() // Without it the name is only less telling.
		c.Name = fmt.Sprintf("%s %d@%s", filepath.Base(os.Args[0]), os.Getpid(), host)
	}
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.MinBackoff, 50*time.Millisecond)
	setDefault(&c.MaxBackoff, max(5*time.Second, c.MinBackoff))
	setDefault(&c.Heartbeat, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"DialTimeout", c.DialTimeout}, {"MinBackoff", c.MinBackoff}, {"MaxBackoff", c.MaxBackoff}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("client: %s %v: not below 0", d.name, d.value))
		}
	}
	if c.MinBackoff > c.MaxBackoff {
		errs = append(errs, fmt.Errorf("client: MinBackoff %v is above MaxBackoff %v", c.MinBackoff, c.MaxBackoff))
	}
	if c.Heartbeat < time.Second || c.Heartbeat > math.MaxUint16*time.Second {
		errs = append(errs, fmt.Errorf("client: Heartbeat %v: from 1s to %v", c.Heartbeat, math.MaxUint16*time.Second))
	}
	return errors.Join(errs...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
