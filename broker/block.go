package broker

import "github.com/mirrormq/mirrormq/internal/amqp"

// block stops reading from the client once it publishes, or lets it go on when
// reason is empty. A client that has published and can understand it is told.
func (o *outbox) block(reason string, can bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.blocked, o.mu.canBlock = reason, can
	o.tellBlocked()
	o.room.Broadcast()
}

// publishes notes that the client has published: from now on it can be blocked.
func (o *outbox) publishes() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.published = true
	o.tellBlocked()
}

// tellBlocked brings reader and client in line with what is so.
// REQUIRES: mu held.
func (o *outbox) tellBlocked() {
	blocked := o.mu.blocked != "" && o.mu.published
	if blocked {
		o.pressed.Store(true)
	}
	if blocked == o.mu.told || !o.mu.canBlock {
		return
	}
	o.mu.told = blocked
	if blocked {
		o.putMethod(0, &amqp.ConnectionBlocked{Reason: o.mu.blocked})
	} else {
		o.putMethod(0, &amqp.ConnectionUnblocked{})
	}
}

// state is "running", "blocking" (blocked as soon as it publishes) or "blocked".
func (o *outbox) blockState() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mu.blocked == "":
		return "running"
	case o.mu.published:
		return "blocked"
	}
	return "blocking"
}

// firstPublish notes that the connection publishes.
func (c *conn) firstPublish() {
	c.published = true
	c.out.publishes()
}
