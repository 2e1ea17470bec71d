package broker

import (
	"encoding/binary"
	"fmt"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
)

// transferKind is what a message of the Transfer class is.
type transferKind byte

// A leader sends offer, then when the answer says so state, entries and end, or
// at any time abort; a mirror sends answer and result.
//
//	any      kind 1 | transfer 8 | group uvarint | …
//	offer    … | term uvarint | index uvarint
//	answer   … | needed 1 | commit uvarint
//	state    … | bytes of the checkpoint
//	entries  … | n × (term uvarint | index uvarint | kind 1 | length uvarint | payload)
//	end      … | bytes of the checkpoint uvarint | crc32c of them 4, little-endian
//	result   … | what is wrong, nothing if the checkpoint is installed
//	abort    …
const (
	transferOffer transferKind = iota + 1
	transferAnswer
	transferState
	transferEntries
	transferEnd
	transferResult
	transferAbort
)

// transferMessage is a message's head, and what follows it.
type transferMessage struct {
	kind  transferKind
	id    uint64
	group entry.GroupID
	rest  []byte
	size  int // of the whole
}

func appendTransferHead(dst []byte, kind transferKind, id uint64, g entry.GroupID) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(kind)), id)
	return binary.AppendUvarint(dst, uint64(g))
}

func parseTransfer(b []byte) (transferMessage, error) {
	if len(b) < 10 {
		return transferMessage{}, fmt.Errorf("%w: transfer of %d bytes", errWire, len(b))
	}
	m := transferMessage{kind: transferKind(b[0]), id: binary.LittleEndian.Uint64(b[1:]), size: len(b)}
	g, n := binary.Uvarint(b[9:])
	if n <= 0 || g > 1<<32-1 || m.kind < transferOffer || m.kind > transferAbort {
		return transferMessage{}, fmt.Errorf("%w: transfer of kind %d", errWire, b[0])
	}
	m.group, m.rest = entry.GroupID(g), b[9+n:]
	return m, nil
}

func appendPosition(dst []byte, at entry.Position) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, at.Term), at.Index)
}

func parsePosition(b []byte) (at entry.Position, rest []byte, err error) {
	term, n := binary.Uvarint(b)
	if n > 0 {
		b = b[n:]
		var index uint64
		if index, n = binary.Uvarint(b); n > 0 {
			return entry.Position{Term: term, Index: index}, b[n:], nil
		}
	}
	return entry.Position{}, nil, fmt.Errorf("%w: position", errWire)
}

// appendTransferEntry appends an entry but for its payload, which follows.
func appendTransferEntry(dst []byte, e *log.Entry) []byte {
	dst = append(appendPosition(dst, entry.Position{Term: e.Term, Index: e.Index}), e.Kind)
	return binary.AppendUvarint(dst, uint64(len(e.Payload)))
}

// parseTransferEntries decodes entries, whose payloads are parts of b.
func parseTransferEntries(b []byte) ([]log.Entry, error) {
	var entries []log.Entry
	for len(b) > 0 {
		at, rest, err := parsePosition(b)
		if err != nil {
			return nil, err
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("%w: entry is cut off", errWire)
		}
		kind := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil, fmt.Errorf("%w: entry is cut off", errWire)
		}
		rest = rest[1+n:]
		entries = append(entries, log.Entry{Term: at.Term, Index: at.Index, Kind: kind, Payload: rest[:size:size]})
		b = rest[size:]
	}
	return entries, nil
}

// parseEnd decodes an end: how many bytes the checkpoint has, and their sum.
func parseEnd(b []byte) (size uint64, sum uint32, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || len(b) != n+4 {
		return 0, 0, fmt.Errorf("%w: end of a transfer", errWire)
	}
	return size, binary.LittleEndian.Uint32(b[n:]), nil
}

// parseAnswer decodes an answer: whether the checkpoint is needed, and up to
// which index the bodies are there.
func parseAnswer(b []byte) (needed bool, commit uint64, err error) {
	if len(b) > 0 {
		if commit, n := binary.Uvarint(b[1:]); n > 0 {
			return b[0] != 0, commit, nil
		}
	}
	return false, 0, fmt.Errorf("%w: answer to an offer", errWire)
}
