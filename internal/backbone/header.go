package backbone

import (
	"encoding/binary"
	"errors"
)

// kind is a frame's first byte. See doc.go for the layouts.
type kind uint8

const (
	kindHello kind = 1 + iota
	kindLeave
	kindLeft
	kindGram
	kindData
	kindOpen
	kindProbe
	kindAck
	kindGap
)

const (
	headSize   = 1 + 1 + 8
	targetSize = 1 + 4 + 8
	dataFixed  = headSize + 4 + 4 + 1
)

// errFrame is returned for bytes that are not a frame.
var errFrame = errors.New("backbone: malformed frame")

// head opens every frame.
type head struct {
	kind   kind
	sender uint8
	epoch  uint64
}

// target is one recipient of a data frame, with the life of its link and the
// frame's number in it.
type target struct {
	recipient uint8
	life      uint32
	number    uint64
}

// control is the rest of all frames without a payload; each kind uses the
// fields that doc.go names.
type control struct {
	incarnation, heard uint64 // hello
	yours              uint64 // left, open, probe, ack, gap: the recipient's epoch
	life               uint32 // open, probe, ack, gap
	number             uint64 // probe: the last one written
	received           uint64 // ack: bytes that have arrived in this life
	consumed           int64  // ack: cost consumed in this life, less what an earlier one still owes
}

// data is a data frame without its payload's bytes.
type data struct {
	total, offset uint32
	targets       []byte // n × targetSize
}

func appendHead(dst []byte, h head) []byte {
	dst = append(dst, byte(h.kind), h.sender)
	return binary.LittleEndian.AppendUint64(dst, h.epoch)
}

// parseHead cuts a frame's head off.
func parseHead(b []byte) (h head, rest []byte, err error) {
	if len(b) < headSize {
		return head{}, nil, errFrame
	}
	h = head{kind: kind(b[0]), sender: b[1], epoch: binary.LittleEndian.Uint64(b[2:])}
	if h.kind < kindHello || h.kind > kindGap || h.sender >= maxBrokers || h.epoch == 0 {
		return head{}, nil, errFrame
	}
	return h, b[headSize:], nil
}

// appendControl encodes a frame of any kind but gram and data.
func appendControl(dst []byte, h head, c control) []byte {
	le := binary.LittleEndian
	dst = appendHead(dst, h)
	switch h.kind {
	case kindHello:
		return le.AppendUint64(le.AppendUint64(dst, c.incarnation), c.heard)
	case kindLeave:
		return dst
	}
	dst = le.AppendUint64(dst, c.yours)
	if h.kind == kindLeft {
		return dst
	}
	dst = le.AppendUint32(dst, c.life)
	switch h.kind {
	case kindProbe:
		dst = le.AppendUint64(dst, c.number)
	case kindAck:
		dst = le.AppendUint64(le.AppendUint64(dst, c.received), uint64(c.consumed))
	}
	return dst
}

// controlSizes is what follows the head, by kind.
var controlSizes = [...]int{
	kindHello: 16, kindLeave: 0, kindLeft: 8, kindGram: -1, kindData: -1,
	kindOpen: 12, kindProbe: 20, kindAck: 28, kindGap: 12,
}

// parseControl decodes what follows the head of such a frame.
func parseControl(k kind, b []byte) (control, error) {
	le := binary.LittleEndian
	if len(b) != controlSizes[k] {
		return control{}, errFrame
	}
	var c control
	switch k {
	case kindHello:
		c.incarnation, c.heard = le.Uint64(b), le.Uint64(b[8:])
		return c, nil
	case kindLeave:
		return c, nil
	}
	c.yours = le.Uint64(b)
	if k == kindLeft {
		return c, nil
	}
	c.life = le.Uint32(b[8:])
	switch k {
	case kindProbe:
		c.number = le.Uint64(b[12:])
	case kindAck:
		c.received, c.consumed = le.Uint64(b[12:]), int64(le.Uint64(b[20:]))
	}
	return c, nil
}

// dataHeaderSize is the room that a data frame for n recipients needs before
// its payload.
func dataHeaderSize(n int) int { return dataFixed + n*targetSize }

// appendData encodes a data frame's header.
func appendData(dst []byte, h head, total, offset uint32, targets []target) []byte {
	le := binary.LittleEndian
	dst = appendHead(dst, h)
	dst = le.AppendUint32(le.AppendUint32(dst, total), offset)
	dst = append(dst, byte(len(targets)))
	for _, t := range targets {
		dst = append(dst, t.recipient)
		dst = le.AppendUint64(le.AppendUint32(dst, t.life), t.number)
	}
	return dst
}

// parseData decodes what follows the head of a data frame; the payload aliases b.
func parseData(b []byte) (d data, payload []byte, err error) {
	le := binary.LittleEndian
	const fixed = dataFixed - headSize
	if len(b) < fixed {
		return data{}, nil, errFrame
	}
	d.total, d.offset = le.Uint32(b), le.Uint32(b[4:])
	n := int(b[8]) * targetSize
	if n == 0 || len(b) < fixed+n {
		return data{}, nil, errFrame
	}
	d.targets, payload = b[fixed:fixed+n], b[fixed+n:]
	if uint64(d.offset)+uint64(len(payload)) > uint64(d.total) || len(payload) == 0 && d.total != 0 {
		return data{}, nil, errFrame
	}
	return d, payload, nil
}

// target finds the entry of one recipient.
func (d data) target(recipient uint8) (target, bool) {
	for b := d.targets; len(b) > 0; b = b[targetSize:] {
		if b[0] == recipient {
			return target{
				recipient: recipient,
				life:      binary.LittleEndian.Uint32(b[1:]),
				number:    binary.LittleEndian.Uint64(b[5:]),
			}, true
		}
	}
	return target{}, false
}
