package broker

import (
	"fmt"
	"sync/atomic"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/replicate"
)

// logBodies are the bodies of a durable group: its ring of recent entries, and
// the log behind it.
type logBodies struct {
	log  *log.Log
	id   entry.GroupID
	ring *replicate.Ring
}

func (b logBodies) recent(index uint64) ([]byte, bool) { return b.ring.Get(index) }

func (b logBodies) read(index uint64, dst []byte) ([]byte, error) {
	return b.log.Read(b.id, index, dst)
}

func (b logBodies) release(indexes []uint64) { b.log.Release(b.id, indexes...) }

func (b logBodies) retain(live func(uint64) bool) { b.log.Retain(b.id, live) }

// memoryBodies are the bodies of the volatile group.
type memoryBodies struct{ order *volatile }

func (b memoryBodies) recent(index uint64) ([]byte, bool) { return b.order.payload(index) }

func (b memoryBodies) read(index uint64, _ []byte) ([]byte, error) {
	return nil, fmt.Errorf("in-memory entry %d is gone", index)
}

func (b memoryBodies) release(indexes []uint64) { b.order.release(indexes) }

func (b memoryBodies) retain(func(uint64) bool) {}

// maxKeptEntry is the largest buffer for an entry that a reader keeps between
// two deliveries.
const maxKeptEntry = 2 * maxBatchBytes

// contentReader reads delivered messages. It keeps the entry that it read last,
// since neighbours in a queue are neighbours in an entry. For one goroutine.
type contentReader struct {
	broker  *Broker
	group   entry.GroupID
	index   uint64 // of payload; 0 for none
	payload []byte
	buffer  []byte // what payload aliases when it was read from the log
	cold    *atomic.Uint64
}

// content returns a message's content, which is valid until the next call.
//
// Errors: ErrContent, or of the log; ErrNotFound of the log when the message's
// queue was deleted meanwhile.
func (r *contentReader) content(g entry.GroupID, ref entry.Ref) (entry.Content, error) {
	if b, ok := r.alongside(g, ref); ok {
		return entry.ParseContent(b)
	}
	if r.index != ref.Index || r.group != g {
		if err := r.load(g, ref.Index); err != nil {
			return entry.Content{}, err
		}
	}
	end := uint64(ref.Offset) + uint64(ref.Size)
	if end > uint64(len(r.payload)) {
		return entry.Content{}, fmt.Errorf("%w: group %d entry %d has %d bytes, message ends at %d",
			entry.ErrContent, g, ref.Index, len(r.payload), end)
	}
	return entry.ParseContent(r.payload[ref.Offset:end])
}

// alongside is the content of a message that came with its body, since its
// group has no copy on this broker.
func (r *contentReader) alongside(g entry.GroupID, ref entry.Ref) ([]byte, bool) {
	if g < entry.Volatile || r.broker.groups[g] != nil {
		return nil, false
	}
	w := r.broker.gateways[g]
	if w == nil {
		return nil, false
	}
	return w.body(ref)
}

// load reads an entry: from the group's copy on this broker, which may have yet
// to catch up with the leader that gave the message out.
func (r *contentReader) load(g entry.GroupID, index uint64) error {
	r.index, r.payload = 0, nil
	group := r.broker.groups[g]
	if group == nil {
		return fmt.Errorf("no group %d on this broker", g)
	}
	if err := group.awaitApplied(index); err != nil {
		return err
	}
	payload, ok := group.bodies.recent(index)
	if !ok {
		var err error
		if payload, err = group.bodies.read(index, r.buffer); err != nil {
			r.broker.unreadable(err)
			return err
		}
		r.buffer = payload
		r.cold.Add(1)
	}
	r.group, r.index, r.payload = g, index, payload
	return nil
}

// rest gives up what the reader keeps, for the time that a connection is idle.
func (r *contentReader) rest() {
	r.index, r.payload = 0, nil
	if cap(r.buffer) > maxKeptEntry {
		r.buffer = nil
	}
}
