package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	return nil, fmt.Errorf("in-memory entry %d: %w", index, log.ErrNotFound)
}

func (b memoryBodies) release(indexes []uint64) { b.order.release(indexes) }

func (b memoryBodies) retain(func(uint64) bool) {}

// maxKeptEntry is the largest buffer for an entry that a reader keeps between
// two deliveries.
const maxKeptEntry = 2 * maxBatchBytes

// contentReader reads delivered messages. It keeps the entry that it read last,
// since neighbours in a queue are neighbours in an entry. For one goroutine.
type contentReader struct {
	broker *Broker
	// ended ends what waits for another broker.
	ended   context.Context
	group   entry.GroupID
	index   uint64 // of payload; 0 for none
	payload []byte
	buffer  []byte // what payload aliases when it was read from the log
	cold    *atomic.Uint64
	// coming are the deliveries whose contents will be asked for, and fetched the
	// bodies of some of them that another broker gave.
	coming  []delivery
	fetched map[entry.Ref][]byte
}

// content returns a message's content, which is valid until the next call.
//
// Errors: ErrContent, or of the log; ErrNotFound of the log when the message's
// queue was deleted meanwhile; errNoBody where no broker that has it can be
// reached.
func (r *contentReader) content(g entry.GroupID, ref entry.Ref) (entry.Content, error) {
	read := r.stored
	if r.broker.groups[g] == nil {
		read = r.elsewhere
	}
	b, err := read(g, ref)
	if err != nil {
		return entry.Content{}, err
	}
	return entry.ParseContent(b)
}

// stored is a message's bytes from this broker's copy of the group.
func (r *contentReader) stored(g entry.GroupID, ref entry.Ref) ([]byte, error) {
	if r.index != ref.Index || r.group != g {
		if err := r.load(g, ref.Index); err != nil {
			return nil, err
		}
	}
	end := uint64(ref.Offset) + uint64(ref.Size)
	if end > uint64(len(r.payload)) {
		return nil, fmt.Errorf("%w: group %d entry %d has %d bytes, message ends at %d",
			entry.ErrContent, g, ref.Index, len(r.payload), end)
	}
	return r.payload[ref.Offset:end], nil
}

// expect tells which contents will be asked for next, in about that order.
func (r *contentReader) expect(coming []delivery) { r.coming = coming }

// elsewhere is a message's bytes where this broker has no copy of the group: it
// came along with the delivery, or is fetched, and with it what comes next.
func (r *contentReader) elsewhere(g entry.GroupID, ref entry.Ref) ([]byte, error) {
	w := r.broker.gateways[g]
	if w == nil || r.broker.cluster == nil {
		return nil, fmt.Errorf("no group %d on this broker", g)
	}
	if b, ok := w.body(ref); ok {
		return b, nil
	}
	if b, ok := r.fetched[ref]; ok {
		return b, nil
	}
	refs := r.next(w, g, ref)
	bodies, err := r.broker.cluster.fetcher.fetch(r.ended, g, refs)
	if errors.Is(err, log.ErrNotFound) && len(refs) > 1 {
		refs = refs[:1] // Which one is gone is not known.
		bodies, err = r.broker.cluster.fetcher.fetch(r.ended, g, refs)
	}
	if err != nil {
		return nil, err
	}
	r.fetched = make(map[entry.Ref][]byte, len(refs))
	for i, body := range bodies {
		r.fetched[refs[i]] = body
	}
	r.cold.Add(1)
	return bodies[0], nil
}

// next is a message and those behind it that have to be fetched too, as far as
// they are fetched at a time.
func (r *contentReader) next(w *gateway, g entry.GroupID, ref entry.Ref) []entry.Ref {
	refs, size := []entry.Ref{ref}, int(ref.Size)
	at := slices.IndexFunc(r.coming, func(d delivery) bool { return d.ref == ref && d.to.held.lane.id == g })
	r.coming = r.coming[at+1:]
	for i := range r.coming {
		d := &r.coming[i]
		if size += int(d.ref.Size); size > fetchBatch {
			break
		}
		if d.to.held.lane.id == g && !w.hasBody(d.ref) && !slices.Contains(refs, d.ref) {
			refs = append(refs, d.ref)
		}
	}
	return refs
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
	r.index, r.payload, r.coming, r.fetched = 0, nil, nil, nil
	if cap(r.buffer) > maxKeptEntry {
		r.buffer = nil
	}
}
