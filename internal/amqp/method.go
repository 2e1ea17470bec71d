package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// MethodID names a method: its class in the upper 16 bits, its number in the
// class in the lower.
type MethodID uint32

// Class is the id of the method's class.
func (id MethodID) Class() uint16 { return uint16(id >> 16) }

// Method is the method's id within its class.
func (id MethodID) Method() uint16 { return uint16(id) }

// Method is any of the generated methods, all by pointer.
type Method interface {
	ID() MethodID
	// Parse decodes the arguments, which are all of b. The error is an *Error.
	Parse(b []byte) error
	// Append appends the encoded arguments.
	// REQUIRES: short strings ≤ 255 bytes, tables that AppendTable takes.
	Append(dst []byte) []byte
}

// CutMethod splits a method frame's payload into the method's id and its
// arguments, for code that goes by the id and parses views. The error, an
// *Error, is for a payload too short to have an id.
func CutMethod(payload []byte) (id MethodID, arguments []byte, err error) {
	if len(payload) < 4 {
		return 0, nil, FrameError("method frame of %d octets", len(payload))
	}
	return MethodID(binary.BigEndian.Uint32(payload)), payload[4:], nil
}

// ParseMethod decodes a method frame's payload. The error is an *Error: 503
// for a method that doesn't exist, 501 for arguments that are too short or
// too long, 502 for a malformed table.
func ParseMethod(payload []byte) (Method, error) {
	id, arguments, err := CutMethod(payload)
	if err != nil {
		return nil, err
	}
	m := newMethod(id)
	if m == nil {
		return nil, UnknownMethod(id)
	}
	if err := m.Parse(arguments); err != nil {
		return nil, err
	}
	return m, nil
}

// UnknownMethod is the error for an id that names no method.
func UnknownMethod(id MethodID) *Error {
	return CommandInvalid("unknown method %d of class %d", id.Method(), id.Class()).At(id)
}

// decoder reads a method's arguments or the properties. The first thing that
// is not there spoils it, and what it returns from then on is zero.
type decoder struct {
	rest     []byte
	octets   byte  // the octet that bits are read from
	ended    bool  // the input ended early
	tableErr error // the input had a malformed table
}

func (d *decoder) cut(n int) []byte {
	if len(d.rest) < n {
		d.ended, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) octet() uint8 {
	if b := d.cut(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) short() uint16 {
	if b := d.cut(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) long() uint32 {
	if b := d.cut(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) longlong() uint64 {
	if b := d.cut(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) timestamp() time.Time { return time.Unix(int64(d.longlong()), 0).UTC() }

func (d *decoder) shortstr() string { return string(d.shortBytes()) }

func (d *decoder) longstr() string { return string(d.longBytes()) }

// shortBytes is shortstr without a copy.
func (d *decoder) shortBytes() []byte {
	s, rest, ok := cutShort(d.rest)
	if !ok {
		d.ended, d.rest = true, nil
		return nil
	}
	d.rest = rest
	return s
}

func (d *decoder) longBytes() []byte {
	s, rest, ok := cutLong(d.rest)
	if !ok {
		d.ended, d.rest = true, nil
		return nil
	}
	d.rest = rest
	return s
}

func (d *decoder) table() Table {
	content := d.longBytes()
	if d.ended || d.tableErr != nil {
		return nil
	}
	t, err := parseTable(content, 0)
	if err != nil {
		d.tableErr = err
	}
	return t
}

// bits reads the octet that the following calls of bit look into.
func (d *decoder) bits() { d.octets = d.octet() }

func (d *decoder) bit(n uint) bool { return d.octets>>n&1 != 0 }

// finish reports what went wrong, input that is left included.
func (d *decoder) finish(id MethodID) error {
	switch {
	case d.tableErr != nil:
		return SyntaxError("%v in %v", d.tableErr, id).At(id)
	case d.ended:
		return FrameError("cannot decode %v: arguments cut short", id).At(id)
	case len(d.rest) > 0:
		return FrameError("cannot decode %v: %d octets too many", id, len(d.rest)).At(id)
	}
	return nil
}

// bit is the n-th bit of an octet of bits.
func bit(set bool, n uint) byte {
	if set {
		return 1 << n
	}
	return 0
}

func appendShort[T string | []byte](dst []byte, s T) []byte {
	if len(s) > math.MaxUint8 {
		panic(fmt.Sprintf("amqp: short string of %d bytes: %.32q…", len(s), string(s)))
	}
	return append(append(dst, byte(len(s))), s...)
}

func appendLong[T string | []byte](dst []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// appendMustTable appends a table that the caller has made or has parsed.
func appendMustTable(dst []byte, t Table) []byte {
	dst, err := AppendTable(dst, t)
	if err != nil {
		panic(fmt.Sprintf("amqp: a table that was made or parsed here can't be encoded: %v", err))
	}
	return dst
}
