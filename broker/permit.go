package broker

import (
	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// maxPermits bounds a connection's permission cache.
const maxPermits = 1024

// permit is something that the user may do.
type permit struct {
	action topology.Action
	kind   topology.ResourceKind
	name   string
}

// permitCache remembers what a connection's user may do: asking the topology
// runs a regular expression. It is dropped when users, permissions or vhosts
// change. Owned by the reader.
type permitCache struct {
	version uint64
	granted map[permit]struct{}
}

// permitted says whether the connection's user may do something, with a 403
// where not.
func (c *conn) permitted(s *topology.State, action topology.Action, kind topology.ResourceKind, name string) *amqp.Error {
	cache := &c.permits
	if version := s.AccessVersion(); version != cache.version || len(cache.granted) >= maxPermits {
		*cache = permitCache{version: version}
	}
	p := permit{action, kind, name}
	if _, ok := cache.granted[p]; ok {
		return nil
	}
	if refusal := s.CheckAccess(c.user, c.vhost, action, kind, name); refusal != nil {
		return refusal
	}
	if cache.granted == nil {
		cache.granted = make(map[permit]struct{})
	}
	cache.granted[p] = struct{}{}
	return nil
}

// firstRefusal runs the checks in order, under the topology's lock, and returns
// the first error. It is here so that a nil *amqp.Error becomes a nil error.
func (c *conn) firstRefusal(checks ...func(*topology.State) *amqp.Error) error {
	var refusal *amqp.Error
	c.front.core.view(func(s *topology.State) {
		for _, check := range checks {
			if refusal = check(s); refusal != nil {
				return
			}
		}
	})
	if refusal == nil {
		return nil
	}
	return refusal
}

// may is a check that the user may do something.
func (c *conn) may(action topology.Action, kind topology.ResourceKind, name string) func(*topology.State) *amqp.Error {
	return func(s *topology.State) *amqp.Error { return c.permitted(s, action, kind, name) }
}

// always is a check that does not need the topology.
func always(refusal *amqp.Error) func(*topology.State) *amqp.Error {
	return func(*topology.State) *amqp.Error { return refusal }
}

// queueNamed is the name that a method means: an empty one is the channel's
// last declared queue.
func (ch *channel) queueNamed(name string) (string, error) {
	if name = topology.StripName(name); name != "" {
		return name, nil
	}
	if ch.lastQueue == "" {
		return "", topology.NoPreviousQueue()
	}
	return ch.lastQueue, nil
}

// queueFor finds the queue that a method means, which must exist, may be used
// by this connection, and for which the user needs the permission.
func (ch *channel) queueFor(name string, action topology.Action) (*topology.Queue, error) {
	name, err := ch.queueNamed(name)
	if err != nil {
		return nil, err
	}
	c := ch.conn
	var q *topology.Queue
	err = c.firstRefusal(c.may(action, topology.QueueKind, name), func(s *topology.State) *amqp.Error {
		if q = s.Queue(c.vhost, name); q == nil {
			return topology.NoSuchQueue(c.vhost, name)
		}
		return topology.CheckQueueOwner(q, c.id)
	})
	return q, err
}

// notHere is the error for a queue in a group that this broker can't reach.
func notHere(q *topology.Queue) error {
	return amqp.InternalError("queue '%s' in vhost '%s': its group is not on this broker", q.Name, q.Vhost)
}
