package backbone

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) files(name string) TLSFiles {
	a.t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return TLSFiles{
		CA:   filepath.Join(a.dir, "ca.pem"),
		Cert: a.write(name+".pem", "CERTIFICATE", der), Key: a.write(name+"-key.pem", "PRIVATE KEY", private),
	}
}

func TestRoutesWithMutualTLS(t *testing.T) {
	good, stranger := newAuthority(t), newAuthority(t)
	c := newCluster(t, 3, func(c *Config) {
		c.Secret = ""
		c.TLS = good.files(c.Name)
		if c.Name == "b3" {
			c.TLS = stranger.files(c.Name)
		}
	})
	refused := &lines{wake: make(chan struct{}, 1), want: "TLS"}
	config := c.configs["b3"]
	config.Logger = slog.New(slog.NewTextHandler(refused, nil))
	c.configs["b3"] = config
	for name := range c.configs {
		c.start(name)
	}
	b1, b2 := c.live["b1"], c.live["b2"]
	b1.awaitUp(t, "b2")
	b1.awaitOpen(t, Replication, "b2")
	if err := b1.b.SendLink(Replication, []string{"b2"}, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "message", "b1", 1)
	refused.await(t)
	for _, r := range []*recorder{b1, b2} {
		if r.count("up", "b3") != 0 {
			t.Error("a broker with a stranger's certificate came up")
		}
	}
}

func TestABrokerWithAnotherSecretIsRefused(t *testing.T) {
	refused := &lines{wake: make(chan struct{}, 1), want: "authentication error"}
	c := newCluster(t, 3, func(c *Config) {
		if c.Name == "b3" {
			c.Secret = "another"
			return
		}
		c.Logger = slog.New(slog.NewTextHandler(refused, nil))
	})
	for name := range c.configs {
		c.start(name)
	}
	c.live["b1"].awaitUp(t, "b2")
	refused.await(t)
	r := c.live["b3"]
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.up) != 0 {
		t.Errorf("it sees %v", r.up)
	}
}

// lines is a log that waits for a line.
type lines struct {
	want string
	wake chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	if strings.Contains(string(b), l.want) {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

func (l *lines) await(t *testing.T) {
	t.Helper()
	select {
	case <-l.wake:
	case <-time.After(patience):
		t.Fatalf("no line about %q", l.want)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	good := Config{Name: "a", Peers: map[string]string{"a": "127.0.0.1:0"}, Handler: newRecorder()}
	for what, change := range map[string]func(c *Config){
		"not one of the peers":         func(c *Config) { c.Name = "z" },
		"no handler":                   func(c *Config) { c.Handler = nil },
		"a cluster name with a dot":    func(c *Config) { c.Cluster = "a.b" },
		"frames over 8 MiB":            func(c *Config) { c.MaxPayload = 9 << 20 },
		"no port":                      func(c *Config) { c.Peers = map[string]string{"a": "127.0.0.1"} },
		"an open address, no secret":   func(c *Config) { c.Listen = "0.0.0.0:0" },
		"half of TLS":                  func(c *Config) { c.TLS.CA = "ca.pem" },
		"a certificate that is absent": func(c *Config) { c.TLS = TLSFiles{"x", "y", "z"} },
	} {
		config := good
		change(&config)
		if _, err := Start(config); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
	config := good
	config.Listen = listener.Addr().String()
	if _, err := Start(config); err == nil || errors.Is(err, ErrConfig) {
		t.Errorf("an address in use: %v", err)
	}
}
