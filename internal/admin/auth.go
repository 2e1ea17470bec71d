package admin

import (
	"net"
	"net/http"
	"net/netip"
)

// realm is what browsers show in their password dialogue.
const realm = `Basic realm="MirrorMQ Management"`

// authenticated lets a request through to next if its basic credentials are
// right. The answers are RabbitMQ's: an empty 401 without credentials, a JSON
// one with wrong ones.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", realm)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if err := s.config.Authenticator.Authenticate(user, password, remoteAddr(r)); err != nil {
			s.config.Logger.Warn("http login refused", "user", user, "remote", r.RemoteAddr, "error", err)
			w.Header().Set("WWW-Authenticate", realm)
			writeError(w, http.StatusUnauthorized, "not_authorized", "Login failed")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// remoteAddr is the client's address. An address that can't be parsed (a test's
// or a proxy's) becomes one that is not loopback, so that it grants nothing.
func remoteAddr(r *http.Request) net.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return &net.TCPAddr{IP: net.IPv4zero}
	}
	return net.TCPAddrFromAddrPort(ap)
}
