package topology

import (
	"cmp"
	"slices"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// walk is one message's way through the exchanges.
type walk struct {
	key     []byte
	headers func() amqp.Table
	table   amqp.Table
	parsed  bool // headers has been called

	dst []*Queue
	// leaves counts the leaves that contributed: with one, dst is sorted and
	// has nothing twice.
	leaves int
	// exchanges are those reached so far; each is visited once, which is what
	// ends a cycle.
	exchanges smallSet[*exchange]
}

func (w *walk) push(x *exchange) { w.exchanges.add(x) }

func (w *walk) headersTable() amqp.Table {
	if !w.parsed && w.headers != nil {
		w.table = w.headers()
	}
	w.parsed = true
	return w.table
}

// Route appends to dst the queues that a message published to exchange name goes
// to: each once, in the order in which they were declared. It follows bindings
// between exchanges and, where an exchange has no binding that matches, its
// alternate exchange. headers gives the message's headers; it is called at most
// once, and only if a headers exchange is met; nil means none. The error is a
// NoSuchExchange. Who publishes asks CheckPublish as well.
//
// Nothing is allocated where dst has room and the message meets no more than a
// few exchanges and no long header.
func (s *State) Route(vhost string, name, key []byte, headers func() amqp.Table, dst []*Queue) ([]*Queue, error) {
	v := s.vhosts[vhost]
	if v == nil {
		return dst, NoSuchVhost(vhost)
	}
	if len(name) == 0 {
		if q := v.queues[string(key)]; q != nil {
			dst = append(dst, q)
		}
		return dst, nil
	}
	x := v.exchanges[string(name)]
	if x == nil {
		return dst, NoSuchExchange(vhost, string(name))
	}
	before := len(dst)
	w := walk{key: key, headers: headers, dst: dst}
	w.push(x)
	for i := 0; i < w.exchanges.len(); i++ {
		v.visit(w.exchanges.at(i), &w)
	}
	if w.leaves > 1 {
		found := w.dst[before:]
		slices.SortFunc(found, func(a, b *Queue) int { return cmp.Compare(a.ordinal, b.ordinal) })
		w.dst = w.dst[:before+len(slices.Compact(found))]
	}
	return w.dst, nil
}

// visit adds what x routes the message to.
func (v *vhost) visit(x *exchange, w *walk) {
	before := w.leaves
	switch x.kind {
	case direct:
		if l := x.direct[string(w.key)]; l != nil {
			l.visit(w)
		}
	case fanout:
		x.fanout.visit(w)
	case topic:
		x.topic.match(w)
	case headers:
		x.headers.match(w)
	}
	if w.leaves == before && x.Alternate != "" {
		if alternate := v.exchanges[x.Alternate]; alternate != nil {
			w.push(alternate)
		}
	}
}
