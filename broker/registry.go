package broker

import (
	"slices"
	"strings"
	"sync"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// registry knows a broker's open connections.
type registry struct {
	limit int // of open connections; 0 for none
	mu    struct {
		sync.Mutex
		open    map[*conn]struct{}
		blocked string // the reason why publishers are blocked, "" if they are not
		closing *amqp.Error
	}
}

func newRegistry(limit int) *registry {
	r := &registry{limit: limit}
	r.mu.open = make(map[*conn]struct{})
	return r
}

// add enters a connection, or returns why it may not be: there are too many, or
// the broker stops.
func (r *registry) add(c *conn) *amqp.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.mu.closing != nil:
		return r.mu.closing
	case r.limit > 0 && len(r.mu.open) >= r.limit:
		return amqp.NotAllowed("access to vhost '%s' refused for user '%s': connection limit (%d) is reached", c.session.vhost, c.session.user, r.limit)
	}
	r.mu.open[c] = struct{}{}
	if r.mu.blocked != "" {
		c.out.block(r.mu.blocked, c.session.can.blocked)
	}
	return nil
}

func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.open, c)
}

// judged has the writers of all connections look at what was doubtful.
func (r *registry) judged() {
	for _, c := range r.list() {
		c.out.judged()
	}
}

// count is the number of open connections.
func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.open)
}

// list returns the open connections in order of their names.
func (r *registry) list() []*conn {
	r.mu.Lock()
	connections := make([]*conn, 0, len(r.mu.open))
	for c := range r.mu.open {
		connections = append(connections, c)
	}
	r.mu.Unlock()
	slices.SortFunc(connections, func(a, b *conn) int { return strings.Compare(a.name, b.name) })
	return connections
}

// close closes the connections of that name with 320 CONNECTION_FORCED, and
// reports whether there was one.
func (r *registry) close(name, reason string) bool {
	found := false
	for _, c := range r.list() {
		if c.name == name {
			found = true
			c.fail(amqp.ConnectionForced("%s", reason))
		}
	}
	return found
}

// closeAll tells every connection that it is closed, and lets no other in.
func (r *registry) closeAll(reason string) {
	e := amqp.ConnectionForced("%s", reason)
	r.mu.Lock()
	r.mu.closing = e
	r.mu.Unlock()
	for _, c := range r.list() {
		c.fail(e)
	}
}

// block stops reading from connections that publish, and unblocks them when
// reason is empty.
func (r *registry) block(reason string) {
	r.mu.Lock()
	r.mu.blocked = reason
	// Under the lock, so that two alarms in a row arrive in their order.
	for c := range r.mu.open {
		c.out.block(reason, c.session.can.blocked)
	}
	r.mu.Unlock()
}
