package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// kind is what a record is; doc.go draws them.
type kind uint8

const (
	kindEntry     kind = 1 // a raft entry; discards the group's entries from its index on
	kindMoved     kind = 2 // an entry that compaction copied; changes its place, discards nothing
	kindHardState kind = 3 // term and vote, commit as index; payload: 8 bytes vote
	kindSynced    kind = 4 // all that precedes it in the log was synced before it was written
	kindFront     kind = 5 // segments before that of sequence index are dropped
	kindRefill    kind = 6 // an entry below a checkpoint to come; nothing to the group until the floor reaches it
)

func (k kind) String() string {
	switch k {
	case kindEntry:
		return "entry"
	case kindMoved:
		return "moved"
	case kindHardState:
		return "hardstate"
	case kindSynced:
		return "synced"
	case kindFront:
		return "front"
	case kindRefill:
		return "refill"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

const (
	headerSize = 4 + 1 + 4 + 8 + 8
	voteSize   = 8
	// maxRecord keeps a record's size within a place's 32 bits.
	maxRecord = math.MaxUint32
	// maxEntryKind is the highest Entry.Kind: it shares a byte with the
	// record's kind, so that records of before it was kept read as 0.
	maxEntryKind   = 0x0f
	recordKindMask = 0x0f
	entryKindShift = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a record's header and place, without its payload.
type record struct {
	kind      kind
	entryKind uint8 // Entry.Kind; side indexes do not have it
	group     entry.GroupID
	term      uint64
	index     uint64
	vote      uint64 // of a hard state
	offset    int64  // of the record in its segment, after the length prefix
	size      int64  // of header and payload
}

// isEntry tells whether r has an entry's body.
func (r record) isEntry() bool {
	return r.kind == kindEntry || r.kind == kindMoved || r.kind == kindRefill
}

// framed is the number of bytes that a record of the given size takes in a
// segment, with tidwall/wal's length prefix.
func framed(size int64) int64 { return size + int64(prefixLen(size)) }

// prefixLen is the length of the uvarint that precedes a record.
func prefixLen(size int64) int {
	n := 1
	for ; size >= 0x80; size >>= 7 {
		n++
	}
	return n
}

// placeSeed is the CRC's initial value: the checksum also covers the record's
// place, which is not stored. So bytes that are a record elsewhere (in another
// segment, or inside a message body that happens to be a log file) are never
// taken for one here. The mixing is that of splitmix64.
func placeSeed(segment uint64, offset int64) uint32 {
	x := segment*0x9e3779b97f4a7c15 + uint64(offset)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32(x ^ x>>31)
}

// appendHeader appends r's header with a zero checksum; seal fills it in.
func appendHeader(dst []byte, r record) []byte {
	dst = append(dst, 0, 0, 0, 0, byte(r.kind)|r.entryKind<<entryKindShift)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.group))
	dst = binary.LittleEndian.AppendUint64(dst, r.term)
	return binary.LittleEndian.AppendUint64(dst, r.index)
}

// seal writes the checksum of a whole record that will lie at a place.
func seal(b []byte, segment uint64, offset int64) {
	binary.LittleEndian.PutUint32(b, crc32.Update(placeSeed(segment, offset), castagnoli, b[4:]))
}

// parseHeader decodes a header. It checks the kind and the size that its kind
// asks for, not the checksum.
func parseHeader(b []byte, size int64) (r record, sum uint32, err error) {
	if size < headerSize || len(b) < headerSize {
		return record{}, 0, fmt.Errorf("record of %d bytes is shorter than a header", size)
	}
	r = record{
		kind:      kind(b[4] & recordKindMask),
		entryKind: b[4] >> entryKindShift,
		group:     entry.GroupID(binary.LittleEndian.Uint32(b[5:])),
		term:      binary.LittleEndian.Uint64(b[9:]),
		index:     binary.LittleEndian.Uint64(b[17:]),
		size:      size,
	}
	if r.entryKind != 0 && !r.isEntry() {
		return record{}, 0, fmt.Errorf("%v record with the kind of an entry", r.kind)
	}
	switch payload := size - headerSize; r.kind {
	case kindEntry, kindMoved, kindRefill:
	case kindHardState:
		if payload != voteSize {
			return record{}, 0, fmt.Errorf("hard state with %d bytes of payload", payload)
		}
	case kindSynced, kindFront:
		if payload != 0 {
			return record{}, 0, fmt.Errorf("%v record with %d bytes of payload", r.kind, payload)
		}
	default:
		return record{}, 0, fmt.Errorf("unknown record kind %d", b[4])
	}
	return r, binary.LittleEndian.Uint32(b), nil
}

// parseRecord decodes and verifies a whole record that lies at a place. The
// payload aliases b.
func parseRecord(b []byte, segment uint64, offset int64) (record, []byte, error) {
	r, sum, err := parseHeader(b, int64(len(b)))
	if err != nil {
		return record{}, nil, err
	}
	if crc32.Update(placeSeed(segment, offset), castagnoli, b[4:]) != sum {
		return record{}, nil, errChecksum
	}
	if r.kind == kindHardState {
		r.vote = binary.LittleEndian.Uint64(b[headerSize:])
	}
	r.offset = offset
	return r, b[headerSize:], nil
}
