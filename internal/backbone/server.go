package backbone

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// routeUser is the user of all routes; the password derives from the secret.
const routeUser = "mirrormq"

// startServer starts the embedded server and waits until it listens.
// The options have the users' passwords.
func startServer(c Config, logger *serverLogger) (*server.Server, *server.Options, error) {
	options, err := serverOptions(c)
	if err != nil {
		return nil, nil, err
	}
	// The server reports a taken address only in its log, after the fact.
	probe, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("backbone: listen for routes: %w", err)
	}
	if err := probe.Close(); err != nil {
		return nil, nil, fmt.Errorf("backbone: listen for routes: %w", err)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, nil, fmt.Errorf("backbone: embedded server: %w", err)
	}
	s.SetLoggerV2(logger, false, false, false)
	s.Start()
	for deadline := time.Now().Add(10 * time.Second); !s.ReadyForConnections(50 * time.Millisecond); {
		select {
		case text := <-logger.fatal:
			err = fmt.Errorf("backbone: embedded server: %s", text)
		default:
			if time.Now().After(deadline) {
				err = fmt.Errorf("backbone: embedded server is not ready after 10 s")
			}
		}
		if err != nil {
			s.Shutdown()
			s.WaitForShutdown()
			return nil, nil, err
		}
	}
	return s, options, nil
}

// serverOptions follows DESIGN.md, "Backbone".
func serverOptions(c Config) (*server.Options, error) {
	host, portText, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w: listen address: %v", ErrConfig, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("%w: listen port: %v", ErrConfig, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	options := &server.Options{
		ServerName: c.Name,
		// Our own clients come in-process. A listener is needed all the same:
		// with DontListen the routes never start.
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		NoSigs: true, NoSystemAccount: true,
		MaxPayload: int32(c.MaxPayload),
		// Where more waits than that, a client connection is closed; at three
		// quarters of it, a publisher is stalled. Transit keeps traffic far below.
		MaxPending: int64(4*len(c.Peers)*(c.Transit+c.MaxPayload) + 64*mebibyte),
		Cluster: server.ClusterOpts{
			Name: c.Cluster, Host: host, Port: port, NoAdvertise: true,
			// Gossip would make further routes, past the addresses that the
			// operator chose. All servers advertise the same place, which
			// each of them takes for itself and so does not dial.
			Advertise: "127.0.0.1:1",
			// One pooled connection for the default account, which carries
			// nothing, and one for each class.
			PoolSize:     1,
			PingInterval: time.Second, MaxPingsOut: 2,
			WriteDeadline: time.Second, WriteTimeout: server.WriteTimeoutPolicyClose,
		},
	}
	for class := range Class(classes) {
		account := server.NewAccount(class.String())
		options.Accounts = append(options.Accounts, account)
		options.Users = append(options.Users, &server.User{
			Username: class.String(), Password: rand.Text(), Account: account,
		})
		options.Cluster.PinnedAccounts = append(options.Cluster.PinnedAccounts, class.String())
	}
	var user *url.Userinfo
	if c.TLS.used() {
		if options.Cluster.TLSConfig, err = c.TLS.config(); err != nil {
			return nil, err
		}
		options.Cluster.TLSTimeout = 2
	} else {
		options.Cluster.Username, options.Cluster.Password = routeUser, routePassword(c)
		user = url.UserPassword(routeUser, options.Cluster.Password)
	}
	for name, address := range c.Peers {
		if name != c.Name {
			options.Routes = append(options.Routes, &url.URL{Scheme: "nats-route", Host: address, User: user})
		}
	}
	return options, nil
}

// routePassword never shows the secret itself to whoever reads the wire.
func routePassword(c Config) string {
	mac := hmac.New(sha256.New, []byte(c.Secret))
	mac.Write([]byte("mirrormq route " + c.Cluster))
	return hex.EncodeToString(mac.Sum(nil))
}

// config reads the files for both ends of a route: each side shows its
// certificate and demands one signed by the same authority.
func (f TLSFiles) config() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate: %v", ErrConfig, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate authority: %v", ErrConfig, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: no certificate in %s", ErrConfig, f.CA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		RootCAs:      pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS12,
	}, nil
}

// serverLogger passes the embedded server's lines on. Most of them only repeat
// what we tell ourselves in our own words, so they are for debugging. The line
// about a closed route is also the only news of it that the server gives.
type serverLogger struct {
	logger    *slog.Logger
	routeLost func()
	fatal     chan string
}

func newServerLogger(logger *slog.Logger, routeLost func()) *serverLogger {
	return &serverLogger{logger: logger.With("from", "nats-server"), routeLost: routeLost, fatal: make(chan string, 1)}
}

func (l *serverLogger) Noticef(format string, args ...any) {
	l.watch(fmt.Sprintf(format, args...))
}

func (l *serverLogger) Warnf(format string, args ...any) {
	l.watch(fmt.Sprintf(format, args...))
}

func (l *serverLogger) Errorf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.Contains(text, "authentication error") || strings.Contains(text, "TLS") {
		l.logger.Warn(text)
	}
	l.watch(text)
}

func (l *serverLogger) watch(text string) {
	if strings.Contains(text, "Router connection closed") {
		l.routeLost()
	}
	l.logger.Debug(text)
}

func (l *serverLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.logger.Error(text)
	select {
	case l.fatal <- text:
	default:
	}
}

func (l *serverLogger) Debugf(string, ...any) {}
func (l *serverLogger) Tracef(string, ...any) {}
