package amqp

import "sync"

// bufferSizes are the sizes of the readers' buffers. The largest holds a frame
// of the default frame_max (131072, and eight octets of grace) in the
// allocator's size of 17 pages.
var bufferSizes = [...]int{4 << 10, 32 << 10, 136 << 10}

const largestTier = len(bufferSizes) - 1

var bufferPools [len(bufferSizes)]sync.Pool

// buffer is a pooled piece of memory; one that is larger than any pool's has
// the tier after the last.
type buffer struct {
	bytes []byte
	tier  int
}

// takeBuffer returns a buffer of the tier.
func takeBuffer(tier int) *buffer {
	if b, ok := bufferPools[tier].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, bufferSizes[tier]), tier}
}

// larger returns a buffer that holds more than b: of the next tier, or twice
// as much where there is none, which only connections with a frame_max above
// the default come to.
func (b *buffer) larger() *buffer {
	if b.tier < largestTier {
		return takeBuffer(b.tier + 1)
	}
	return &buffer{make([]byte, 2*len(b.bytes)), largestTier + 1}
}

// give returns b to its pool. Nothing may alias it any more.
func (b *buffer) give() {
	if b.tier <= largestTier {
		bufferPools[b.tier].Put(b)
	}
}
