package broker

import (
	"math/bits"
	"sync"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// unackedChunk is how many delivery tags share a chunk: the bits of a word.
const unackedChunk = 64

// held is what a channel holds of one queue, as far as it concerns the
// connection's reader: where an ack must go, and which acks wait there for the
// next submission.
type held struct {
	lane        *lane
	queue       *topology.Queue
	deadLetters bool          // the queue has a dead-letter exchange
	get         bool          // its messages were got, not delivered
	settled     []entry.Range // acked, or rejected by a queue without one
	returns     []entry.Range // to be requeued
	rejected    []entry.Range // to be dead-lettered
	listed      bool          // in lane.held
	channel     *channel
}

// unackedEntry is one delivery that waits for its ack.
type unackedEntry struct {
	held    *held
	message entry.MessageID
}

// chunk holds the entries of 64 tags that follow one another.
type chunk struct {
	live    uint64 // bit i: entries[i] waits
	entries [unackedChunk]unackedEntry
}

// unacked maps a channel's delivery tags to what they stand for. The writer
// adds, the reader takes.
//
// Tags ascend by one, so it is a queue of chunks by tag/64; a chunk whose
// deliveries are all settled is freed wherever it lies. One delivery that is
// never acked therefore costs one chunk, and 8 bytes for every 64 deliveries
// after it.
type unacked struct {
	mu struct {
		sync.Mutex
		last   uint64 // the highest tag given out
		base   uint64 // chunks[0] is for tags base*64 to base*64+63
		chunks []*chunk
		spare  *chunk // the chunk that was freed last: deliveries that are acked one by one need no new ones
		count  int
	}
}

// add gives a delivery the next tag and remembers it.
func (u *unacked) add(h *held, message entry.MessageID) (tag uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.last++
	u.put(u.mu.last, unackedEntry{h, message})
	return u.mu.last
}

// skip gives out the next tag without remembering it, for a delivery that
// needs no ack.
func (u *unacked) skip() (tag uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.last++
	return u.mu.last
}

// restore puts back what was taken: a transaction was rolled back.
func (u *unacked) restore(tag uint64, e unackedEntry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.put(tag, e)
}

// put stores an entry. REQUIRES: mu held.
func (u *unacked) put(tag uint64, e unackedEntry) {
	word := tag / unackedChunk
	if len(u.mu.chunks) == 0 {
		u.mu.base = word
	}
	for ; word < u.mu.base; u.mu.base-- {
		u.mu.chunks = append([]*chunk{nil}, u.mu.chunks...)
	}
	for uint64(len(u.mu.chunks)) <= word-u.mu.base {
		u.mu.chunks = append(u.mu.chunks, nil)
	}
	c := u.mu.chunks[word-u.mu.base]
	if c == nil {
		if c, u.mu.spare = u.mu.spare, nil; c == nil {
			c = new(chunk)
		}
		u.mu.chunks[word-u.mu.base] = c
	}
	c.live |= 1 << (tag % unackedChunk)
	c.entries[tag%unackedChunk] = e
	u.mu.count++
}

// take removes one delivery and returns it, or false if there is none with
// that tag.
func (u *unacked) take(tag uint64) (unackedEntry, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.chunk(tag)
	if c == nil {
		return unackedEntry{}, false
	}
	bit := tag % unackedChunk
	e := c.entries[bit]
	u.clear(c, tag/unackedChunk, bit)
	return e, true
}

// chunk is the chunk in which tag is live, or nil. REQUIRES: mu held.
func (u *unacked) chunk(tag uint64) *chunk {
	word := tag/unackedChunk - u.mu.base
	if tag/unackedChunk < u.mu.base || word >= uint64(len(u.mu.chunks)) {
		return nil
	}
	c := u.mu.chunks[word]
	if c == nil || c.live&(1<<(tag%unackedChunk)) == 0 {
		return nil
	}
	return c
}

// clear removes an entry, and the chunks that became empty. REQUIRES: mu held.
func (u *unacked) clear(c *chunk, word, bit uint64) {
	c.live &^= 1 << bit
	c.entries[bit] = unackedEntry{}
	u.mu.count--
	if c.live != 0 {
		return
	}
	u.mu.chunks[word-u.mu.base] = nil
	u.mu.spare = c
	empty := 0
	for empty < len(u.mu.chunks) && u.mu.chunks[empty] == nil {
		empty++
	}
	if empty == len(u.mu.chunks) {
		if u.mu.chunks = u.mu.chunks[:0]; cap(u.mu.chunks) > unackedChunk {
			u.mu.chunks = nil
		}
		return
	}
	u.mu.chunks, u.mu.base = u.mu.chunks[empty:], u.mu.base+uint64(empty)
}

// takeUpTo removes every delivery with a tag up to the given one, in order of
// the tags, and reports whether that tag itself was among them. Tag 0 stands
// for all there are, even none (AMQP 0-9-1, basic.ack). Without that tag it
// removes nothing: the channel fails, as RabbitMQ's does.
func (u *unacked) takeUpTo(tag uint64, fn func(uint64, unackedEntry)) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case tag == 0:
		tag = u.mu.last
	case u.chunk(tag) == nil:
		return false
	}
	for len(u.mu.chunks) > 0 && u.mu.base*unackedChunk <= tag {
		c, word := u.mu.chunks[0], u.mu.base
		live := c.live
		if over := tag - word*unackedChunk; over < unackedChunk-1 {
			live &= 1<<(over+1) - 1
		}
		for ; live != 0; live &= live - 1 {
			bit := uint64(bits.TrailingZeros64(live))
			e := c.entries[bit]
			u.clear(c, word, bit)
			fn(word*unackedChunk+bit, e)
		}
		if c.live != 0 {
			break
		}
	}
	return true
}

// drop forgets everything: the channel's holder gives it back.
func (u *unacked) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.chunks, u.mu.spare, u.mu.count = nil, nil, 0
}

// len is the number of deliveries that wait.
func (u *unacked) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mu.count
}
