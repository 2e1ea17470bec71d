package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/mirrormq/mirrormq/internal/admin"
)

// listen takes all addresses, so that a taken one is told before anything else
// is done. Nothing is accepted until the broker serves.
func (b *Broker) listen() error {
	var err error
	open := func(name, address string) net.Listener {
		if err != nil || address == "" || address == "-" {
			return nil
		}
		l, listenError := net.Listen("tcp", address)
		if listenError != nil {
			err = fmt.Errorf("%s: %w", name, listenError)
			return nil
		}
		return l
	}
	b.amqpListener = open("amqp", b.config.AMQP)
	b.amqpsListener = open("amqps", b.config.AMQPS)
	b.httpListener = open("http", b.config.HTTP)
	if err != nil || b.amqpsListener == nil {
		return err
	}
	settings, err := tlsConfig(b.config)
	if err != nil {
		return err
	}
	b.amqpsListener = tls.NewListener(b.amqpsListener, settings)
	return nil
}

// tlsConfig reads the certificate, its key and the clients' CA.
func tlsConfig(c Config) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w", c.TLSCert, c.TLSKey, err)
	}
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	if c.TLSClientCA == "" {
		return settings, nil
	}
	pem, err := os.ReadFile(c.TLSClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls: client CA: %w", err)
	}
	settings.ClientCAs = x509.NewCertPool()
	if !settings.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls: client CA %s: %w", c.TLSClientCA, errors.New("no certificate in it"))
	}
	settings.ClientAuth = tls.RequireAndVerifyClientCert
	return settings, nil
}

func (b *Broker) startWeb() {
	if b.httpListener == nil {
		return
	}
	b.web = admin.New(admin.Config{
		Source: source{b}, Authenticator: source{b}, Metrics: b.metrics, Version: Version,
		OpenMetrics: true, Logger: b.logger,
	})
	b.web.Start(b.httpListener)
}
