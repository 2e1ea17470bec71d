package topology

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// batchVersion is the first byte of every batch.
const batchVersion = 1

// ErrMalformed is returned for a batch or a checkpoint that isn't one. Batches
// are made by brokers, never by clients: it means a bug or another version.
var ErrMalformed = errors.New("topology: malformed")

// AppendBatch appends the head of a batch; its submissions follow. now is the
// leader's clock in ns since 1970 UTC.
func AppendBatch(dst []byte, now int64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, batchVersion), uint64(now))
}

// AppendSubmission appends a submission of ops, which the Append functions
// made. A session's sequences ascend; gaps are allowed.
func AppendSubmission(dst []byte, session entry.SessionID, sequence uint64, ops []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(session))
	dst = binary.AppendUvarint(dst, sequence)
	return appendBytes(dst, ops)
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendBytes(dst, s)
	}
	return dst
}

func appendFlags(dst []byte, flags ...bool) []byte {
	var b byte
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return append(dst, b)
}

// reader takes a payload apart. The first thing that doesn't fit makes every
// further read empty; err then says so. It allocates no more than a small
// multiple of the bytes that are there, whatever the lengths in them claim.
type reader struct {
	b   []byte
	bad string // what was wrong first
}

func (r *reader) err() error {
	if r.bad == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrMalformed, r.bad)
}

func (r *reader) fail(what string) {
	if r.bad == "" {
		r.bad = what
	}
	r.b = nil
}

func (r *reader) more() bool { return len(r.b) > 0 }

func (r *reader) byte(what string) byte {
	if len(r.b) == 0 {
		r.fail(what)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint(what string) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fixed64(what string) uint64 {
	if len(r.b) < 8 {
		r.fail(what)
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// bytes aliases the payload.
func (r *reader) bytes(what string) []byte {
	n := r.uvarint(what)
	if n > uint64(len(r.b)) {
		r.fail(what)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string(what string) string { return string(r.bytes(what)) }

func (r *reader) strings(what string) []string {
	n := r.uvarint(what)
	if n > uint64(len(r.b)) { // each takes a byte at least
		r.fail(what)
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]string, 0, min(n, 16))
	for ; n > 0; n-- {
		list = append(list, r.string(what))
	}
	return list
}

// flags sets each of the bits, the lowest first. Other bits must be clear.
func (r *reader) flags(what string, flags ...*bool) {
	b := r.byte(what)
	for i, f := range flags {
		*f = b&(1<<i) != 0
	}
	if b>>len(flags) != 0 {
		r.fail(what)
	}
}

func (r *reader) table(what string) amqp.Table {
	if r.bad != "" {
		return nil
	}
	t, rest, err := amqp.ParseTable(r.b)
	if err != nil {
		r.fail(what)
		return nil
	}
	r.b = rest
	if len(t) == 0 {
		return nil
	}
	return t
}

// done is err, or what is left over.
func (r *reader) done() error {
	if r.bad == "" && r.more() {
		r.fail("bytes left over")
	}
	return r.err()
}
