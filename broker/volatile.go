package broker

import (
	"bytes"
	"sync"

	"github.com/mirrormq/mirrormq/replicate"
)

// volatile is the orderer of a broker's in-memory queues: what is proposed is
// committed at once, and its payload is kept until the state machine releases
// it. Nothing of it outlives the process.
type volatile struct {
	next   uint64 // index of the next entry to be applied, owned by the loop
	queued [][]byte

	mu struct {
		sync.RWMutex
		payloads map[uint64][]byte
		bytes    int64
	}
}

func newVolatile() *volatile {
	v := &volatile{next: 1}
	v.mu.payloads = make(map[uint64][]byte)
	return v
}

func (v *volatile) propose(payload []byte) (uint64, error) {
	v.queued = append(v.queued, bytes.Clone(payload))
	return v.next + uint64(len(v.queued)) - 1, nil
}

func (v *volatile) advance(apply func(term, index uint64, payload []byte) error) (more bool, err error) {
	queued := v.queued
	v.queued = nil
	for _, payload := range queued {
		index := v.next
		v.next++
		v.mu.Lock()
		v.mu.payloads[index] = payload
		v.mu.bytes += int64(len(payload))
		v.mu.Unlock()
		if err := apply(1, index, payload); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (v *volatile) completed(replicate.Completion) {}
func (v *volatile) tick()                          {}
func (v *volatile) paused()                        {}
func (v *volatile) inFlight() int                  { return len(v.queued) }

func (v *volatile) leads() uint64  { return 1 }
func (v *volatile) ordering() bool { return true }

// confirmed: there is one copy, and it is all there can be.
func (v *volatile) confirmed(replicate.Quorum) uint64 { return v.next - 1 }

// payload returns entry index's payload while it is not released.
func (v *volatile) payload(index uint64) ([]byte, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	payload, ok := v.mu.payloads[index]
	return payload, ok
}

// release frees the payloads of entries.
func (v *volatile) release(indexes []uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, index := range indexes {
		v.mu.bytes -= int64(len(v.mu.payloads[index]))
		delete(v.mu.payloads, index)
	}
}
