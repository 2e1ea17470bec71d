package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
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
	a.cert, a.key, _ = a.issue("ca", true)
	return a
}

// issue makes a certificate and writes it and its key to NAME.pem and NAME.key.
func (a *authority) issue(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey, tls.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: ca,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", private)
	return cert, key, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func TestTLSAsksForTheClientsCertificate(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", false)
	_, _, known := a.issue("client", false)
	_, _, stranger := newAuthority(t).issue("stranger", false)
	b, _ := startBroker(t, func(c *Config) {
		c.AMQPS, c.TLSCert, c.TLSKey, c.TLSClientCA = "127.0.0.1:0", a.path("server.pem"), a.path("server.key"), a.path("ca.pem")
	})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	url := "amqps://guest:guest@" + b.AMQPSAddr().String() + "/"
	for name, certificates := range map[string][]tls.Certificate{"none": nil, "a stranger's": {stranger}} {
		if c, err := amqp091.DialTLS(url, &tls.Config{RootCAs: roots, Certificates: certificates}); err == nil {
			c.Close()
			t.Errorf("a client with the certificate %s got in", name)
		}
	}
	c, err := amqp091.DialTLS(url, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{known}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ch := openChannel(t, c)
	if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{10, 100_000, 5 << 20} {
		body := strings.Repeat("x", size)
		if err := ch.Publish("", "q", false, false, amqp091.Publishing{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
		if d, ok, err := ch.Get("q", true); err != nil || !ok || string(d.Body) != body {
			t.Errorf("%d bytes: %d came back, %v, %v", size, len(d.Body), ok, err)
		}
	}
	list := b.front.listConnections()
	if len(list) != 1 || list[0].TLSVersion != "TLS 1.3" || list[0].PeerCertificate != "CN=client" {
		t.Errorf("%+v", list)
	}
}

func TestPlainClientOnTheTLSPortIsDropped(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", false)
	b, _ := startBroker(t, func(c *Config) {
		c.AMQPS, c.TLSCert, c.TLSKey = "127.0.0.1:0", a.path("server.pem"), a.path("server.key")
	})
	c := dialRaw(t, b.AMQPSAddr().String())
	c.write([]byte("AMQP\x00\x00\x09\x01"))
	c.socket.SetDeadline(time.Now().Add(patience))
	for {
		if _, err := c.socket.Read(make([]byte, 100)); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("the socket stays open")
			}
			return
		}
	}
}
