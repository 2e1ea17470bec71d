package admin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
)

// defaultCloseReason is what a client is told where the request gives no
// X-Reason; RabbitMQ says the same.
const defaultCloseReason = "Closed via management plugin"

func connectionName(c *Connection) string { return c.Name }

func (s *Server) sortedConnections(wanted func(*Connection) bool) []Connection {
	list := filter(s.config.Source.Connections(), wanted)
	slices.SortFunc(list, func(a, b Connection) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (s *Server) connections(w http.ResponseWriter, r *http.Request, _ []string) {
	list := s.sortedConnections(func(*Connection) bool { return true })
	writeList(w, r, list, connectionName, s.connectionView)
}

func (s *Server) vhostConnections(w http.ResponseWriter, r *http.Request, args []string) {
	if !s.hasVhost(w, args[0]) {
		return
	}
	list := s.sortedConnections(func(c *Connection) bool { return c.Vhost == args[0] })
	writeList(w, r, list, connectionName, s.connectionView)
}

func (s *Server) connection(w http.ResponseWriter, _ *http.Request, args []string) {
	list := s.sortedConnections(func(c *Connection) bool { return c.Name == args[0] })
	if len(list) == 0 {
		notFound(w)
		return
	}
	writeJSON(w, s.connectionView(&list[0]))
}

func (s *Server) closeConnection(w http.ResponseWriter, r *http.Request, args []string) {
	reason := r.Header.Get("X-Reason")
	if reason == "" {
		reason = defaultCloseReason
	}
	switch err := s.config.Source.CloseConnection(args[0], reason); {
	case errors.Is(err, ErrNotFound):
		notFound(w)
	case err != nil:
		writeError(w, http.StatusInternalServerError, "Internal Server Error", err.Error())
	default:
		user, _, _ := r.BasicAuth()
		s.config.Logger.Info("connection closed over http", "connection", args[0], "by", user, "reason", reason)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) sortedChannels(wanted func(*Channel) bool) []Channel {
	list := filter(s.config.Source.Channels(), wanted)
	slices.SortFunc(list, func(a, b Channel) int {
		return cmp.Or(cmp.Compare(a.Connection, b.Connection), cmp.Compare(a.Number, b.Number))
	})
	return list
}

func channelName(c *Channel) string { return c.Name }

func (s *Server) channels(w http.ResponseWriter, r *http.Request, _ []string) {
	writeList(w, r, s.sortedChannels(func(*Channel) bool { return true }), channelName, s.channelView)
}

func (s *Server) connectionChannels(w http.ResponseWriter, r *http.Request, args []string) {
	if len(s.sortedConnections(func(c *Connection) bool { return c.Name == args[0] })) == 0 {
		notFound(w)
		return
	}
	list := s.sortedChannels(func(c *Channel) bool { return c.Connection == args[0] })
	writeList(w, r, list, channelName, s.channelView)
}

func (s *Server) channel(w http.ResponseWriter, _ *http.Request, args []string) {
	list := s.sortedChannels(func(c *Channel) bool { return c.Name == args[0] })
	if len(list) == 0 {
		notFound(w)
		return
	}
	writeJSON(w, s.channelView(&list[0]))
}
