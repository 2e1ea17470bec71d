package broker

import "sync"

// maxPooledOps keeps a rare large message from staying in the pool.
const maxPooledOps = 1 << 20

var opsPool = sync.Pool{New: func() any { return new([]byte) }}

// takeOps returns an empty buffer for a submission's ops.
func takeOps() []byte { return (*opsPool.Get().(*[]byte))[:0] }

// giveOps takes back a buffer whose bytes nobody reads any more.
func giveOps(b []byte) {
	if cap(b) == 0 || cap(b) > maxPooledOps {
		return
	}
	opsPool.Put(&b)
}
