package broker

import (
	"cmp"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/replicate"
)

// maxRoutes bounds what a connection's route cache holds, in routes and in the
// queues that they lead to.
const maxRoutes = 8192

// route is where messages with an exchange and a routing key go. It is
// immutable, valid for one version of the topology.
type route struct {
	exchange, key []byte
	targets       []target
	// byHeaders is set when the way depends on each message's headers: then
	// targets says nothing.
	byHeaders bool
}

// target is the queues of one group on a route.
type target struct {
	lane   *lane
	queues []entry.QueueID
	quorum replicate.Quorum // the strongest of its queues
}

// required is the quorum of a publish whose header asks for no less than least.
func (t *target) required(least replicate.Quorum) replicate.Quorum {
	if least == replicate.QuorumLeader || t.lane.id >= entry.Volatile {
		return t.quorum
	}
	return t.lane.conn.front.quorums.raised(t.quorum, least)
}

// routeCache remembers a connection's routes, with what was checked to make
// them: that the exchange exists and may be written to. The whole is dropped
// when the topology changes. Owned by the reader.
type routeCache struct {
	version uint64
	last    *route
	routes  map[string]*route // by exchange, 0 and key
	weight  int
	scratch []byte
	queues  []*topology.Queue
}

// find returns the route of a publish, or the error that it causes.
func (rc *routeCache) find(c *conn, exchange, key []byte) (*route, error) {
	// The version is read before the topology: a route may be newer than its
	// version says, never older.
	if version := c.front.core.topologyVersion(); version != rc.version || rc.weight > maxRoutes {
		*rc = routeCache{version: version, scratch: rc.scratch, queues: rc.queues}
	}
	if r := rc.last; r != nil && string(r.exchange) == string(exchange) && string(r.key) == string(key) {
		return r, nil
	}
	rc.scratch = append(append(append(rc.scratch[:0], exchange...), 0), key...)
	if r := rc.routes[string(rc.scratch)]; r != nil {
		rc.last = r
		return r, nil
	}
	r, err := rc.make(c, exchange, key, nil)
	if err != nil {
		return nil, err
	}
	if rc.routes == nil {
		rc.routes = make(map[string]*route)
	}
	rc.routes[string(rc.scratch)], rc.last = r, r
	rc.weight++
	for _, t := range r.targets {
		rc.weight += len(t.queues)
	}
	return r, nil
}

// byHeaders returns the route of one message that is routed by its headers.
func (rc *routeCache) byHeaders(c *conn, r *route, properties amqp.RawProperties) (*route, error) {
	headers := func() amqp.Table {
		raw, ok := properties.Headers()
		if !ok {
			return nil
		}
		t, err := raw.Parse()
		if err != nil {
			return nil
		}
		return t
	}
	return rc.make(c, r.exchange, r.key, headers)
}

// make routes. Without headers it finds out whether they are needed.
func (rc *routeCache) make(c *conn, exchange, key []byte, headers func() amqp.Table) (*route, error) {
	name := topology.StripName(string(exchange))
	r := &route{exchange: []byte(name), key: append([]byte(nil), key...)}
	if headers == nil {
		headers = func() amqp.Table {
			r.byHeaders = true
			return nil
		}
	}
	var routing error
	err := c.firstRefusal(c.may(topology.Write, topology.ExchangeKind, name), func(s *topology.State) *amqp.Error {
		x := s.Exchange(c.vhost, name)
		if x == nil {
			return topology.NoSuchExchange(c.vhost, name)
		}
		if refusal := topology.CheckPublish(x); refusal != nil {
			return refusal
		}
		rc.queues, routing = s.Route(c.vhost, []byte(name), key, headers, rc.queues[:0])
		return nil
	})
	if err = cmp.Or(err, routing); err != nil {
		return nil, err
	}
	defer clear(rc.queues)
	if r.byHeaders {
		return r, nil
	}
	for _, q := range rc.queues {
		if err := r.add(c, q); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// add puts a queue into the target of its group.
func (r *route) add(c *conn, q *topology.Queue) error {
	l := c.lane(q.Group)
	if l == nil {
		return notHere(q)
	}
	quorum := c.front.quorums.of(q)
	for i := range r.targets {
		if t := &r.targets[i]; t.lane == l {
			t.queues, t.quorum = append(t.queues, q.ID), c.front.quorums.stronger(t.quorum, quorum)
			return nil
		}
	}
	r.targets = append(r.targets, target{l, []entry.QueueID{q.ID}, quorum})
	return nil
}
