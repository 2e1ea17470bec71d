package amqp

import (
	"encoding/binary"
	"math/bits"
	"time"
)

// propertyKind is the elementary type of a property.
type propertyKind uint8

const (
	kindShortstr propertyKind = iota
	kindOctet
	kindTable
	kindTimestamp
)

// RawProperties are encoded properties, flags and values. Its methods read
// one property each without decoding the others, O(bytes before it), and
// allocate nothing. They take what ParseHeader let through; of anything else
// they say that it isn't there.
type RawProperties []byte

// Flags tells which properties are there.
func (p RawProperties) Flags() uint16 {
	if len(p) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(p)
}

// ContentType returns the property. The bytes alias p here and below.
func (p RawProperties) ContentType() ([]byte, bool) { return p.text(FlagContentType) }

// Headers returns the headers' entries.
func (p RawProperties) Headers() (RawTable, bool) {
	v, ok := p.value(FlagHeaders)
	if !ok {
		return nil, false
	}
	return RawTable(v[4:]), true
}

// DeliveryMode is 2 for a persistent message, 1 for a transient one, 0 where
// the publisher didn't say.
func (p RawProperties) DeliveryMode() uint8 { return p.octet(FlagDeliveryMode) }

// Priority is 0 where the publisher didn't say.
func (p RawProperties) Priority() uint8 { return p.octet(FlagPriority) }

// CorrelationID returns the property.
func (p RawProperties) CorrelationID() ([]byte, bool) { return p.text(FlagCorrelationID) }

// ReplyTo returns the property.
func (p RawProperties) ReplyTo() ([]byte, bool) { return p.text(FlagReplyTo) }

// Expiration returns the property: milliseconds in decimal digits, unchecked.
func (p RawProperties) Expiration() ([]byte, bool) { return p.text(FlagExpiration) }

// MessageID returns the property.
func (p RawProperties) MessageID() ([]byte, bool) { return p.text(FlagMessageID) }

// Timestamp returns the property.
func (p RawProperties) Timestamp() (time.Time, bool) {
	v, ok := p.value(FlagTimestamp)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(v)), 0).UTC(), true
}

// UserID returns the property.
func (p RawProperties) UserID() ([]byte, bool) { return p.text(FlagUserID) }

// AppendWithInteger appends p with the header key set to n (type l), in place
// of any that has the name already: what a broker adds to a delivery, without
// decoding what it passes through. The other headers keep their order. p is
// appended as it is if ParseHeader wouldn't let it through.
// REQUIRES: len(key) ≤ 255.
func (p RawProperties) AppendWithInteger(dst []byte, key string, n int64) []byte {
	start, ok := p.offset(FlagHeaders)
	if !ok || !p.valid() {
		return append(dst, p...)
	}
	old, _ := p.value(FlagHeaders)
	dst = binary.BigEndian.AppendUint16(dst, p.Flags()|FlagHeaders)
	dst = append(dst, p[2:start]...)
	table := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	if len(old) > 4 {
		for b := old[4:]; len(b) > 0; {
			name, _, _, rest, _ := cutEntry(b)
			if string(name) != key {
				dst = append(dst, b[:len(b)-len(rest)]...)
			}
			b = rest
		}
	}
	dst = append(appendShort(dst, key), 'l')
	dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	binary.BigEndian.PutUint32(dst[table:], uint32(len(dst)-table-4))
	return append(dst, p[start+len(old):]...)
}

func (p RawProperties) text(flag uint16) ([]byte, bool) {
	v, ok := p.value(flag)
	if !ok {
		return nil, false
	}
	return v[1:], true
}

func (p RawProperties) octet(flag uint16) uint8 {
	if v, ok := p.value(flag); ok {
		return v[0]
	}
	return 0
}

// value returns a property as it is encoded, its length included.
func (p RawProperties) value(flag uint16) ([]byte, bool) {
	if p.Flags()&flag == 0 {
		return nil, false
	}
	start, ok := p.offset(flag)
	if !ok {
		return nil, false
	}
	n, ok := propertySize(flag, p[start:])
	if !ok {
		return nil, false
	}
	return p[start : start+n], true
}

// offset is where the property is, or would be if it isn't there.
func (p RawProperties) offset(flag uint16) (int, bool) {
	at := 2
	// The flags above flag are those of the properties before it.
	for before := p.Flags() &^ (flag<<1 - 1); before != 0; {
		next := uint16(1) << (15 - bits.LeadingZeros16(before))
		before &^= next
		n, ok := propertySize(next, p[at:])
		if !ok {
			return 0, false
		}
		at += n
	}
	return at, true
}

// valid reports whether p can be decoded. Flags that no property has are
// refused, and so is what comes after the last property: no client sends
// either, and what RabbitMQ lets through of them (3.10: only the flag of bit
// 1) consumers' libraries need not take.
func (p RawProperties) valid() bool {
	if len(p) < 2 || p.Flags()&^allFlags != 0 {
		return false
	}
	b := p[2:]
	for flags := p.Flags(); flags != 0; {
		next := uint16(1) << (15 - bits.LeadingZeros16(flags))
		flags &^= next
		n, ok := propertySize(next, b)
		if !ok || next == FlagHeaders && !validTable(b[4:n], 0) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// propertySize is the encoded size of the property that b begins with.
func propertySize(flag uint16, b []byte) (n int, ok bool) {
	index := bits.LeadingZeros16(flag)
	if index >= len(propertyKinds) {
		return 0, false
	}
	switch propertyKinds[index] {
	case kindOctet:
		n = 1
	case kindTimestamp:
		n = 8
	case kindShortstr:
		s, _, ok := cutShort(b)
		return 1 + len(s), ok
	case kindTable:
		s, _, ok := cutLong(b)
		return 4 + len(s), ok
	}
	return n, len(b) >= n
}
