package bench

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// MinimumSize is the smallest body, in bytes, that can be verified.
const MinimumSize = 32

var (
	// ErrBody is returned for a body that a run did not send as it arrived.
	ErrBody = errors.New("bench: body damaged")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	epoch      = time.Now()
)

// now is the load generator's clock: nanoseconds since the process started,
// monotonic.
func now() int64 { return int64(time.Since(epoch)) }

// stamp is what a body says about itself.
type stamp struct {
	from     uint32
	sequence uint64
	sentAt   int64
	run      uint64
}

// newBody is a body of size bytes with incompressible filler, to be stamped
// before each publish.
func newBody(size int, seed uint64) []byte {
	body := make([]byte, size)
	random := rand.New(rand.NewPCG(seed, uint64(size)))
	for i := MinimumSize; i < len(body); i++ {
		body[i] = byte(random.Uint32())
	}
	return body
}

// put writes s and the CRC into body, which has at least MinimumSize bytes.
func (s stamp) put(body []byte) {
	binary.BigEndian.PutUint32(body[4:], s.from)
	binary.BigEndian.PutUint64(body[8:], s.sequence)
	binary.BigEndian.PutUint64(body[16:], uint64(s.sentAt))
	binary.BigEndian.PutUint64(body[24:], s.run)
	binary.BigEndian.PutUint32(body, crc32.Checksum(body[4:], castagnoli))
}

// readStamp verifies body and returns its stamp, or ErrBody.
func readStamp(body []byte) (stamp, error) {
	if len(body) < MinimumSize || binary.BigEndian.Uint32(body) != crc32.Checksum(body[4:], castagnoli) {
		return stamp{}, ErrBody
	}
	return stamp{
		from:     binary.BigEndian.Uint32(body[4:]),
		sequence: binary.BigEndian.Uint64(body[8:]),
		sentAt:   int64(binary.BigEndian.Uint64(body[16:])),
		run:      binary.BigEndian.Uint64(body[24:]),
	}, nil
}
