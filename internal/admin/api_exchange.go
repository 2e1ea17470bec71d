package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// defaultExchange is how the default exchange, whose name is empty, is named
// in a path.
const defaultExchange = "amq.default"

func exchangeName(e *Exchange) string { return e.Name }

func (s *Server) sortedExchanges(wanted func(*Exchange) bool) []Exchange {
	list := filter(s.config.Source.Exchanges(), wanted)
	slices.SortFunc(list, func(a, b Exchange) int {
		return cmp.Or(cmp.Compare(a.Vhost, b.Vhost), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func (s *Server) exchanges(w http.ResponseWriter, r *http.Request, _ []string) {
	list := s.sortedExchanges(func(*Exchange) bool { return true })
	writeList(w, r, list, exchangeName, newExchangeView)
}

func (s *Server) exchangesOf(w http.ResponseWriter, r *http.Request, args []string) {
	if !s.hasVhost(w, args[0]) {
		return
	}
	list := s.sortedExchanges(func(e *Exchange) bool { return e.Vhost == args[0] })
	writeList(w, r, list, exchangeName, newExchangeView)
}

// findExchange is the exchange that a path's vhost and name mean.
func (s *Server) findExchange(vhost, name string) (Exchange, bool) {
	if name == defaultExchange {
		name = ""
	}
	list := s.sortedExchanges(func(e *Exchange) bool { return e.Vhost == vhost && e.Name == name })
	if len(list) == 0 {
		return Exchange{}, false
	}
	return list[0], true
}

func (s *Server) exchange(w http.ResponseWriter, _ *http.Request, args []string) {
	e, ok := s.findExchange(args[0], args[1])
	if !ok {
		notFound(w)
		return
	}
	writeJSON(w, newExchangeView(&e))
}

// exchangeBindings lists the bindings whose source, or whose destination, an
// exchange is; the path's last segment says which.
func (s *Server) exchangeBindings(w http.ResponseWriter, r *http.Request, args []string) {
	e, ok := s.findExchange(args[0], args[1])
	if !ok {
		notFound(w)
		return
	}
	asSource := strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/"), "/source")
	s.writeBindings(w, r, func(b *Binding) bool {
		if asSource {
			return b.Vhost == e.Vhost && b.Source == e.Name
		}
		return b.Vhost == e.Vhost && b.ToExchange && b.Destination == e.Name
	})
}

func (s *Server) bindings(w http.ResponseWriter, r *http.Request, _ []string) {
	s.writeBindings(w, r, func(*Binding) bool { return true })
}

func (s *Server) bindingsOf(w http.ResponseWriter, r *http.Request, args []string) {
	if s.hasVhost(w, args[0]) {
		s.writeBindings(w, r, func(b *Binding) bool { return b.Vhost == args[0] })
	}
}

func (s *Server) writeBindings(w http.ResponseWriter, r *http.Request, wanted func(*Binding) bool) {
	list := filter(s.config.Source.Bindings(), wanted)
	slices.SortFunc(list, func(a, b Binding) int {
		return cmp.Or(cmp.Compare(a.Vhost, b.Vhost), cmp.Compare(a.Source, b.Source),
			cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.RoutingKey, b.RoutingKey))
	})
	writeList(w, r, list, func(b *Binding) string { return b.Destination }, newBindingView)
}
