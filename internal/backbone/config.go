package backbone

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
)

// Config says who we are, whom we talk to and how. Zero values of the
// optional fields mean the defaults that their comments name.
type Config struct {
	// Name is this broker's, one of Peers.
	Name string
	// Incarnation is told to the peers (PeerUp): the identity of our data.
	Incarnation uint64
	// Peers has the name and route address (host:port) of every broker of the
	// cluster, our own included. All brokers must be given the same names, at
	// most 64. With NATS the addresses are not used.
	Peers map[string]string
	// Listen is the address for routes (host:port). Default: our own in Peers.
	// Without TLS and Secret it must be a loopback address.
	Listen string
	// Cluster names the cluster: letters, digits, '-' and '_'. Default "mirrormq".
	Cluster string
	// Secret is shared by the brokers; the routes' password derives from it.
	Secret string
	// TLS has the files of mutual TLS on the routes (or, with NATS, towards
	// the external servers).
	TLS TLSFiles
	// NATS is the URL (or a comma list of them) of an external NATS cluster
	// to use instead of the embedded server. Its MaxPending must allow for
	// twice Transit a broker, its max_payload decides the size of frames.
	NATS string

	// Handler hears everything. Required.
	Handler Handler
	// HoldBroken are classes whose broken links refuse messages with ErrHeld
	// until Reopen, so that an owner that resends in order is not overtaken by
	// its own newer messages.
	HoldBroken []Class

	// MaxPayload bounds a frame in bytes; larger messages are split. At most
	// 8 MiB. Default 1 MiB.
	MaxPayload int
	// MaxMessage bounds a message in bytes. Default 256 MiB.
	MaxMessage int
	// Window bounds, for each link, the bytes that are on their way or not yet
	// consumed by the receiver's owner, each message counted with 64 bytes
	// more than its length. A message larger than three quarters of it is
	// accepted when a quarter or less is taken, so that it finds its way on a
	// busy link too. Default 16 MiB.
	Window int
	// Transit bounds, for each link, the bytes that are written but have not
	// arrived: it must fit through the route within its write deadline of 1 s,
	// on a slow network or a busy machine too. Default 4 MiB.
	Transit int
	// Silence is how long a peer may say nothing before it is down. Default 1 s.
	Silence time.Duration

	// Logger is for what the operator should know. Default: discards.
	Logger *slog.Logger
}

// TLSFiles are the PEM files of mutual TLS. The zero value means no TLS.
type TLSFiles struct {
	// CA signed the certificates of all brokers.
	CA string
	// Cert and Key are ours; the certificate serves for both ends of a route.
	Cert, Key string
}

func (f TLSFiles) used() bool { return f != TLSFiles{} }

const (
	mebibyte    = 1 << 20
	maxBrokers  = 64
	maxPayload  = 8 * mebibyte
	messageCost = 64 // bytes that each message is counted with beyond its length
)

// ErrConfig is wrapped by all that is wrong with a Config.
var ErrConfig = errors.New("backbone: bad configuration")

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = c.Peers[c.Name]
	}
	if c.Cluster == "" {
		c.Cluster = "mirrormq"
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = mebibyte
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 256 * mebibyte
	}
	if c.Window == 0 {
		c.Window = 16 * mebibyte
	}
	if c.Transit == 0 {
		c.Transit = 4 * mebibyte
	}
	if c.Silence == 0 {
		c.Silence = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate checks a Config that has its defaults.
func (c Config) validate() error {
	switch _, known := c.Peers[c.Name]; {
	case !known:
		return fmt.Errorf("%w: %q is not among the peers", ErrConfig, c.Name)
	case len(c.Peers) > maxBrokers:
		return fmt.Errorf("%w: %d brokers, at most %d", ErrConfig, len(c.Peers), maxBrokers)
	case !isToken(c.Cluster):
		return fmt.Errorf("%w: cluster name %q", ErrConfig, c.Cluster)
	case c.Handler == nil:
		return fmt.Errorf("%w: no handler", ErrConfig)
	case c.MaxPayload < 1024 || c.MaxPayload > maxPayload:
		return fmt.Errorf("%w: MaxPayload %d, 1024 to %d", ErrConfig, c.MaxPayload, maxPayload)
	case c.MaxMessage < 1 || int64(c.MaxMessage) > 1<<32-1:
		return fmt.Errorf("%w: MaxMessage %d", ErrConfig, c.MaxMessage)
	case c.Window < 1 || c.Transit < 1 || c.Silence < 0:
		return fmt.Errorf("%w: negative Window, Transit or Silence", ErrConfig)
	}
	if c.TLS.used() && (c.TLS.CA == "" || c.TLS.Cert == "" || c.TLS.Key == "") {
		return fmt.Errorf("%w: TLS needs CA, Cert and Key", ErrConfig)
	}
	if c.NATS != "" {
		return nil
	}
	return c.validateAddresses()
}

func (c Config) validateAddresses() error {
	for name, address := range c.Peers {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("%w: peer %s: %v", ErrConfig, name, err)
		}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("%w: listen address: %v", ErrConfig, err)
	}
	if c.Secret == "" && !c.TLS.used() && !isLoopback(host) {
		return fmt.Errorf("%w: routes on %s need TLS or a secret", ErrConfig, c.Listen)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	})
}

// names are the brokers in the order of their numbers.
func (c Config) names() []string {
	names := make([]string, 0, len(c.Peers))
	for name := range c.Peers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// randomNonZero draws an epoch.
func randomNonZero() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails (crypto/rand)
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}
