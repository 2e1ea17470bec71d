package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// sideIndex lists the records of one sealed segment without their payloads,
// so that opening need not read the segment. It is built while the segment is
// written, at about 3 bytes a record. doc.go draws it.
type sideIndex struct {
	first uint64 // sequence of the segment's first record
	count uint64
	end   int64 // size of the segment
	body  []byte
	prev  record // what the next record is told against
}

const (
	sideMagic      = "MQIDX\x00\x00\x01"
	sideHeaderSize = len(sideMagic) + 8 + 8 + 8
	sideSumSize    = 4

	sideKindMask  = 0x07
	sideSameGroup = 0x08
	sideNextIndex = 0x10
	sideSameTerm  = 0x20
)

var errSideIndex = errors.New("log: malformed side index")

func (x *sideIndex) reset(first uint64) {
	*x = sideIndex{first: first, body: x.body[:0]}
}

// add appends a record. Its offset is not stored: records leave no gaps.
func (x *sideIndex) add(r record) {
	tag := byte(r.kind)
	if r.group == x.prev.group {
		tag |= sideSameGroup
	}
	if r.index == x.prev.index+1 {
		tag |= sideNextIndex
	}
	if r.term == x.prev.term {
		tag |= sideSameTerm
	}
	x.body = append(x.body, tag)
	if tag&sideSameGroup == 0 {
		x.body = binary.AppendUvarint(x.body, uint64(r.group))
	}
	if tag&sideNextIndex == 0 {
		x.body = binary.AppendUvarint(x.body, r.index)
	}
	if tag&sideSameTerm == 0 {
		x.body = binary.AppendUvarint(x.body, r.term)
	}
	if r.kind == kindHardState {
		x.body = binary.AppendUvarint(x.body, r.vote)
	} else {
		x.body = binary.AppendUvarint(x.body, uint64(r.size-headerSize))
	}
	x.prev = r
	x.count++
	x.end += framed(r.size)
}

// each calls fn for every record in order, until it returns false.
func (x *sideIndex) each(fn func(record) bool) error {
	b, prev, end := x.body, record{}, int64(0)
	for n := uint64(0); n < x.count; n++ {
		r, rest, ok := nextSide(b, prev)
		if !ok || r.size > maxRecord || end > maxRecord {
			return fmt.Errorf("%w: record %d of %d", errSideIndex, n, x.count)
		}
		r.offset = end + int64(prefixLen(r.size))
		end += framed(r.size)
		b, prev = rest, r
		if !fn(r) {
			return nil
		}
	}
	if len(b) != 0 || end != x.end {
		return fmt.Errorf("%w: %d bytes left over, records end at %d of %d", errSideIndex, len(b), end, x.end)
	}
	return nil
}

// nextSide decodes one record but for its offset.
func nextSide(b []byte, prev record) (r record, rest []byte, ok bool) {
	if len(b) == 0 {
		return record{}, nil, false
	}
	tag := b[0]
	b = b[1:]
	r = record{kind: kind(tag & sideKindMask), group: prev.group, index: prev.index + 1, term: prev.term}
	if r.kind < kindEntry || r.kind > kindRefill || tag > sideKindMask|sideSameGroup|sideNextIndex|sideSameTerm {
		return record{}, nil, false
	}
	ok = true
	next := func() uint64 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			ok = false
			return 0
		}
		b = b[w:]
		return n
	}
	if tag&sideSameGroup == 0 {
		n := next()
		r.group = entry.GroupID(n)
		ok = ok && n>>32 == 0
	}
	if tag&sideNextIndex == 0 {
		r.index = next()
	}
	if tag&sideSameTerm == 0 {
		r.term = next()
	}
	switch n := next(); {
	case r.kind == kindHardState:
		r.vote, r.size = n, headerSize+voteSize
	case n > maxRecord, n != 0 && (r.kind == kindSynced || r.kind == kindFront):
		return record{}, nil, false
	default:
		r.size = headerSize + int64(n)
	}
	return r, b, ok
}

// encode returns the file's bytes.
func (x *sideIndex) encode() []byte {
	b := make([]byte, 0, sideHeaderSize+len(x.body)+sideSumSize)
	b = append(b, sideMagic...)
	b = binary.LittleEndian.AppendUint64(b, x.first)
	b = binary.LittleEndian.AppendUint64(b, x.count)
	b = binary.LittleEndian.AppendUint64(b, uint64(x.end))
	b = append(b, x.body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeSideIndex checks a file's frame and checksum; the result aliases b.
func decodeSideIndex(b []byte) (*sideIndex, error) {
	if len(b) < sideHeaderSize+sideSumSize || string(b[:len(sideMagic)]) != sideMagic {
		return nil, fmt.Errorf("%w: no header", errSideIndex)
	}
	b, sum := b[:len(b)-sideSumSize], binary.LittleEndian.Uint32(b[len(b)-sideSumSize:])
	if crc32.Checksum(b, castagnoli) != sum {
		return nil, fmt.Errorf("%w: %w", errSideIndex, errChecksum)
	}
	f := b[len(sideMagic):]
	x := &sideIndex{
		first: binary.LittleEndian.Uint64(f),
		count: binary.LittleEndian.Uint64(f[8:]),
		end:   int64(binary.LittleEndian.Uint64(f[16:])),
		body:  b[sideHeaderSize:],
	}
	if x.end < 0 || x.count > uint64(len(x.body)) {
		return nil, fmt.Errorf("%w: %d records in %d bytes", errSideIndex, x.count, len(x.body))
	}
	return x, nil
}

func sideIndexPath(dir string, first uint64) string {
	return filepath.Join(dir, segmentName(first))
}

// loadSideIndex reads the side index of a segment, nil if there is none or it
// is not that of a segment of this name and size.
func loadSideIndex(dir string, first uint64, size int64) (*sideIndex, error) {
	b, err := os.ReadFile(sideIndexPath(dir, first))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	x, err := decodeSideIndex(b)
	if err != nil || x.first != first || x.end != size {
		return nil, nil // the segment itself will tell what is wrong
	}
	if err := x.each(func(record) bool { return true }); err != nil {
		return nil, nil
	}
	return x, nil
}

// save writes the side index's file. No rename: a torn one fails its checksum
// and is built again. It is synced so that a power failure soon after does not
// make the next opening read gigabytes.
func (x *sideIndex) save(files files, dir string) error {
	path := sideIndexPath(dir, x.first)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, filePerms)
	if err != nil {
		return err
	}
	if _, err := f.Write(x.encode()); err != nil {
		_ = f.Close()
		return err
	}
	return errors.Join(files.sync(f), f.Close())
}
