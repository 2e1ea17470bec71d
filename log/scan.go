package log

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const scanBuffer = 256 << 10

// damage is where and why the records of a segment end before its bytes do.
type damage struct {
	offset int64 // of the length prefix of the first bad record
	reason error
}

// scanSegment calls fn for every valid record of a segment file, checksums
// verified, until its end or until fn's error. Where the bytes are not a valid
// record, it returns what it found there; later bytes are not looked at.
// Memory is bounded, whatever the size of a record.
func scanSegment(path string, first uint64, fn func(record) error) (*damage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read-only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := scanner{in: bufio.NewReaderSize(f, scanBuffer), first: first, size: info.Size()}
	for s.offset < s.size {
		r, err := s.next()
		var bad *damage
		if errors.As(err, &bad) {
			return bad, nil
		} else if err != nil {
			return nil, err
		}
		if err := fn(r); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Error lets scanner.next tell damage from an I/O error.
func (d *damage) Error() string { return d.reason.Error() }

type scanner struct {
	in     *bufio.Reader
	first  uint64
	offset int64 // of the next record's prefix
	size   int64
	header [headerSize + voteSize]byte
}

func (s *scanner) next() (record, error) {
	size, err := s.length()
	if err != nil {
		return record{}, err
	}
	at := s.offset + int64(prefixLen(size))
	if at+size > s.size {
		return record{}, s.damaged("record is cut off: %d bytes of %d", s.size-at, size)
	}
	header := s.header[:min(size, headerSize)]
	if _, err := io.ReadFull(s.in, header); err != nil {
		return record{}, err
	}
	r, sum, err := parseHeader(header, size)
	if err != nil {
		return record{}, s.damaged("%w", err)
	}
	crc := crc32.Update(placeSeed(s.first, at), castagnoli, header[4:])
	if r.kind == kindHardState {
		vote := s.header[headerSize:]
		if _, err := io.ReadFull(s.in, vote); err != nil {
			return record{}, err
		}
		crc = crc32.Update(crc, castagnoli, vote)
		r.vote = binary.LittleEndian.Uint64(vote)
	} else if crc, err = s.sumPayload(crc, r.size-headerSize); err != nil {
		return record{}, err
	}
	if crc != sum {
		return record{}, s.damaged("%w", errChecksum)
	}
	r.offset = at
	s.offset = at + r.size
	return r, nil
}

// length reads a length prefix, of five bytes at most for maxRecord.
func (s *scanner) length() (int64, error) {
	var size int64
	for shift := 0; shift < 35; shift += 7 {
		b, err := s.in.ReadByte()
		if err == io.EOF {
			return 0, s.damaged("length is cut off")
		} else if err != nil {
			return 0, err
		}
		size |= int64(b&0x7f) << shift
		if b < 0x80 {
			if size > maxRecord {
				break
			}
			return size, nil
		}
	}
	return 0, s.damaged("length is out of range")
}

func (s *scanner) sumPayload(crc uint32, n int64) (uint32, error) {
	for n > 0 {
		b, err := s.in.Peek(int(min(n, scanBuffer)))
		if err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		if _, err := s.in.Discard(len(b)); err != nil {
			return 0, err
		}
		n -= int64(len(b))
	}
	return crc, nil
}

func (s *scanner) damaged(format string, arguments ...any) error {
	return &damage{offset: s.offset, reason: fmt.Errorf(format, arguments...)}
}

// findSynced looks for a valid synced record anywhere from offset on, at any
// byte: what precedes it was durable before it was written. O(bytes), as the
// record is small; its checksum covers its place, so that no message body can
// pose as one.
func findSynced(path string, first uint64, from int64) (at int64, found bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = f.Close() }() // read-only
	b := make([]byte, scanBuffer)
	for {
		n, err := f.ReadAt(b, from)
		if err != nil && err != io.EOF {
			return 0, false, err
		}
		for k := 0; k+headerSize <= n; k++ {
			// The kind is the fifth byte.
			j := bytes.IndexByte(b[k+4:n], byte(kindSynced))
			if j < 0 || k+j+headerSize > n {
				break
			}
			k += j
			if _, _, err := parseRecord(b[k:k+headerSize], first, from+int64(k)); err == nil {
				return from + int64(k), true, nil
			}
		}
		if n < len(b) {
			return 0, false, nil
		}
		from += int64(n - headerSize + 1)
	}
}
