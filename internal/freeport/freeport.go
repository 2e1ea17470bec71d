// Package freeport finds loopback addresses to listen on a moment later, for
// processes that must be told their own and each other's in advance.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are looked for below those that systems give to whoever asks for any:
// one of those could become the local end of a connection before it is listened
// on.
const (
	lowest, highest = 10_000, 32_000
	tries           = 1000
)

// Addresses returns n different addresses host:port on 127.0.0.1 that nobody
// listens on.
func Addresses(n int) ([]string, error) {
	addresses := make([]string, 0, n)
	var last error
	for try := 0; len(addresses) < n; try++ {
		if try >= tries {
			return nil, fmt.Errorf("no free ports from %d to %d: %w", lowest, highest, last)
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(highest-lowest))))
		if err != nil {
			last = err
			continue
		}
		defer l.Close() // Held until all are known: none is found twice.
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
