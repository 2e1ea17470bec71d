package admin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
)

func queueName(q *Queue) string { return q.Name }

func compareQueues(a, b Queue) int {
	return cmp.Or(cmp.Compare(a.Vhost, b.Vhost), cmp.Compare(a.Name, b.Name))
}

func (s *Server) queues(w http.ResponseWriter, r *http.Request, _ []string) {
	list := s.config.Source.Queues()
	slices.SortFunc(list, compareQueues)
	writeList(w, r, list, queueName, s.queueView)
}

func (s *Server) queuesOf(w http.ResponseWriter, r *http.Request, args []string) {
	if !s.hasVhost(w, args[0]) {
		return
	}
	list := filter(s.config.Source.Queues(), func(q *Queue) bool { return q.Vhost == args[0] })
	slices.SortFunc(list, compareQueues)
	writeList(w, r, list, queueName, s.queueView)
}

func (s *Server) queue(w http.ResponseWriter, _ *http.Request, args []string) {
	q, consumers, err := s.config.Source.Queue(args[0], args[1])
	if errors.Is(err, ErrNotFound) {
		notFound(w)
		return
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, "Internal Server Error", err.Error())
		return
	}
	v := s.queueView(&q)
	list := views(consumers, func(c *Consumer) consumerView { return newConsumerView(c, &q, s.config.Source.Node().Name) })
	v.Details = &list
	writeJSON(w, v)
}

func (s *Server) queueBindings(w http.ResponseWriter, r *http.Request, args []string) {
	if _, _, err := s.config.Source.Queue(args[0], args[1]); err != nil {
		notFound(w)
		return
	}
	s.writeBindings(w, r, func(b *Binding) bool {
		return b.Vhost == args[0] && b.Destination == args[1] && !b.ToExchange
	})
}
