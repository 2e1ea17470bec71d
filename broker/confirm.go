package broker

import (
	"math/bits"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// confirms tracks which of a channel's publishes are confirmed, and tells it
// in as few frames as it can: everything up to the lowest unconfirmed publish
// becomes one basic.ack with multiple set.
//
// Publishes to queues of several groups are confirmed out of order, so it
// remembers one bit a publish above that point. It is guarded by the
// connection's outbox's mutex.
type confirms struct {
	channel uint16
	listed  bool // in outbox.mu.confirms
	closed  bool // the channel is gone: nothing is told
	// settled is how many tags settle was called with.
	settled uint64
	// low is the tag up to which everything is settled and told.
	low uint64
	// words has a bit for every tag settled above low; words[0] is for tags
	// base*64 and up. Empty when nothing is settled out of order.
	words []uint64
	base  uint64
	// waiting is what is settled and not yet told.
	waiting []tagRange
}

// tagRange is publishes with adjoining tags that share a fate.
type tagRange struct {
	first, last uint64
	nack        bool
}

// settle records that the publishes first to last are confirmed, or refused.
func (c *confirms) settle(first, last uint64, nack bool) {
	c.settled += last - first + 1
	if n := len(c.waiting); n > 0 && c.waiting[n-1].last+1 == first && c.waiting[n-1].nack == nack {
		c.waiting[n-1].last = last
		return
	}
	c.waiting = append(c.waiting, tagRange{first, last, nack})
}

// appendTold appends the frames that tell what waits. Nacks come first, one
// each, so that no multiple ack covers them.
func (c *confirms) appendTold(dst []byte) []byte {
	if c.closed {
		c.waiting = nil
		return dst
	}
	for _, r := range c.waiting {
		for tag := r.first; r.nack && tag <= r.last; tag++ {
			dst = amqp.AppendNack(dst, c.channel, tag, false)
		}
		c.mark(r.first, r.last)
	}
	c.advance()
	// The highest ack up to low stands for all of them.
	var top, count uint64
	for _, r := range c.waiting {
		if !r.nack && r.first <= c.low {
			last := min(r.last, c.low)
			count += last - r.first + 1
			top = max(top, last)
		}
	}
	if count > 0 {
		dst = amqp.AppendAck(dst, c.channel, top, count > 1)
	}
	for _, r := range c.waiting {
		for tag := max(r.first, c.low+1); !r.nack && tag <= r.last; tag++ {
			dst = amqp.AppendAck(dst, c.channel, tag, false)
		}
	}
	if cap(c.waiting) > 64 {
		c.waiting = nil
	}
	c.waiting = c.waiting[:0]
	return dst
}

// mark sets the bits of first to last, or moves low where they follow it.
func (c *confirms) mark(first, last uint64) {
	if len(c.words) == 0 {
		if first == c.low+1 {
			c.low = last
			return
		}
		c.base = (c.low + 1) / 64
	}
	for need := last/64 - c.base; uint64(len(c.words)) <= need; {
		c.words = append(c.words, 0)
	}
	for tag := first; tag <= last; {
		word, bit := tag/64-c.base, tag%64
		n := min(64-bit, last-tag+1)
		c.words[word] |= (^uint64(0) >> (64 - n)) << bit
		tag += n
	}
}

// advance moves low over what is settled behind it.
func (c *confirms) advance() {
	for len(c.words) > 0 {
		next := c.low + 1
		if next/64 > c.base {
			c.words, c.base = c.words[1:], c.base+1
			continue
		}
		bit := next % 64
		run := uint64(bits.TrailingZeros64(^(c.words[0] >> bit)))
		run = min(run, 64-bit)
		c.low += run
		if bit+run < 64 {
			break
		}
	}
	if len(c.words) == 1 && c.words[0]>>((c.low+1)%64) == 0 && (c.low+1)/64 == c.base || len(c.words) == 0 {
		c.words = nil
	}
}
