package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// endpoint is a broker to connect to.
type endpoint struct {
	url     string
	address string // host:port
	user    string
	vhost   string
}

// parseEndpoints reads a comma list of AMQP URLs. A comma in a password is
// written %2C.
func parseEndpoints(urls string) ([]endpoint, error) {
	var list []endpoint
	for text := range strings.SplitSeq(urls, ",") {
		e, err := parseEndpoint(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func parseEndpoint(text string) (endpoint, error) {
	uri, err := amqp.ParseURI(text)
	if err != nil {
		// What net/url says repeats the URL, and with it the password.
		var inURL *url.Error
		if errors.As(err, &inURL) {
			err = inURL.Err
		}
		return endpoint{}, fmt.Errorf("client: a URL looks like amqp://user:password@host:5672/vhost: %w", err)
	}
	return endpoint{text, net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)), uri.Username, uri.Vhost}, nil
}

// endpoints are the brokers that a client knows of: those it was given, and
// those that brokers have told it of.
type endpoints struct {
	given []endpoint

	mu struct {
		sync.Mutex
		learned []endpoint
	}
}

func newEndpoints(given []endpoint, inOrder bool) *endpoints {
	e := &endpoints{given: slices.Clone(given)}
	if !inOrder {
		rand.Shuffle(len(e.given), func(i, j int) { e.given[i], e.given[j] = e.given[j], e.given[i] })
	}
	return e
}

// round returns all brokers in the order in which to try them: the one that was
// just lost comes last.
func (e *endpoints) round(lost string) []endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := slices.Concat(e.given, e.mu.learned)
	if i := slices.IndexFunc(list, func(p endpoint) bool { return p.address == lost }); i >= 0 {
		last := list[i]
		list = append(slices.Delete(list, i, i+1), last)
	}
	return list
}

// learn takes the addresses (host:port) that a broker says clients can reach its
// cluster at. They are reached with what the URL of that broker has beside the
// address. What a later broker says replaces it, unless that says nothing.
func (e *endpoints) learn(from endpoint, addresses []string) {
	if len(addresses) == 0 {
		return
	}
	var learned []endpoint
	for _, address := range addresses {
		if slices.ContainsFunc(e.given, func(p endpoint) bool { return p.address == address }) {
			continue
		}
		u, err := url.Parse(from.url)
		if err != nil {
			return
		}
		u.Host = address
		if p, err := parseEndpoint(u.String()); err == nil {
			learned = append(learned, p)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.learned = learned
}
