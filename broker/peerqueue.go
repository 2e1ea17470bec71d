package broker

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/mirrormq/mirrormq/internal/backbone"
)

const (
	// gatewayWindow is what the link between gateways and leaders of two brokers
	// takes before the other side has consumed it, and bulkShare how much of it
	// submissions and bodies fill: the rest is for what has to pass, answers above
	// all.
	gatewayWindow = 16 << 20
	bulkShare     = gatewayWindow / 2
	// maxQueuedBytes bounds what waits behind a full link. It is answers,
	// deliveries and calls: what causes them is bounded, and small.
	maxQueuedBytes = 32 << 20
)

// peerQueue is what waits, in order, until the link to a broker has room.
type peerQueue struct {
	mu      sync.Mutex
	waiting [][]byte
	bytes   int
}

func (c *cluster) openPeerQueues() {
	for _, name := range c.broker.members.names {
		c.queues[name] = &peerQueue{}
	}
}

var wireBuffers = sync.Pool{New: func() any { return new([]byte) }}

// sendTo sends a message of a gateway or a leader, behind those before it. It is
// false when the message is lost, and with it the order: the link is broken, or
// far too much waits for it.
func (c *cluster) sendTo(to string, direction byte, m *wireMessage) bool {
	buffer := wireBuffers.Get().(*[]byte)
	*buffer = m.append(append((*buffer)[:0], direction))
	sent := c.queues[to].send(c.backbone, to, *buffer)
	if cap(*buffer) <= maxPooledOps {
		wireBuffers.Put(buffer)
	}
	return sent
}

func (q *peerQueue) send(link carrier, to string, payload []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		err := link.SendLink(backbone.Gateway, []string{to}, payload)
		if !errors.Is(err, backbone.ErrFull) {
			return err == nil
		}
	}
	if q.bytes > 0 && q.bytes+len(payload) > maxQueuedBytes {
		return false
	}
	q.waiting = append(q.waiting, bytes.Clone(payload))
	q.bytes += len(payload)
	return true
}

// drain sends what waits while there is room, and reports whether nothing is
// left. Where something is, LinkWritable follows.
func (q *peerQueue) drain(link carrier, to string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 {
		if link.SendLink(backbone.Gateway, []string{to}, q.waiting[0]) != nil {
			return false
		}
		q.bytes -= len(q.waiting[0])
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
	}
	q.waiting = nil
	return true
}

// clear forgets what waits for a link that is broken: who waits begins anew.
func (q *peerQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting, q.bytes = nil, 0
}

// room reports whether that many bytes more may be sent to a broker that are not
// to hold up what is smaller. When it is false, LinkWritable follows.
func (c *cluster) room(to string, size int) bool {
	q := c.queues[to]
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && c.backbone.Writable(backbone.Gateway, to, size+gatewayWindow-bulkShare)
}

// LinkWritable says that there is room again.
func (c *cluster) LinkWritable(class backbone.Class, to string) {
	c.starting.Wait()
	switch class {
	case backbone.Transfer:
		c.catchup.writable(to)
	case backbone.Gateway:
		if !c.queues[to].drain(c.backbone, to) {
			return
		}
		for _, g := range slices.Sorted(maps.Keys(c.broker.gateways)) {
			c.broker.gateways[g].writable(to)
		}
	}
}
