package broker

import (
	"errors"
	"net"

	"github.com/mirrormq/mirrormq/internal/topology"
)

var (
	errPassword = errors.New("no such user, or another password")
	errLoopback = errors.New("guest is let in from loopback only")
)

// authenticate checks a user's password, and that guest comes from loopback.
func (b *Broker) authenticate(user, password string, remote net.Addr) error {
	ok := false
	b.view(func(s *topology.State) { ok = s.VerifyPassword(user, password) })
	switch {
	case !ok:
		return errPassword
	case user == "guest" && !loopback(remote):
		return errLoopback
	}
	return nil
}

func loopback(address net.Addr) bool {
	switch a := address.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
