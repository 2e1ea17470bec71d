package amqp

import "encoding/binary"

// ParseHeader decodes a content header's payload. The properties (flags and
// values, to the end of the payload) alias it; they are checked through, so
// that what a consumer is sent later can be decoded, but nothing is decoded
// or allocated. The error is an *Error: 501 for a payload too short, 505 for a
// class without content, 502 for malformed properties.
func ParseHeader(payload []byte) (class uint16, bodySize uint64, properties []byte, err error) {
	if len(payload) < contentHeadLen+2 {
		return 0, 0, nil, FrameError("content header frame of %d octets", len(payload))
	}
	class = binary.BigEndian.Uint16(payload)
	weight := binary.BigEndian.Uint16(payload[2:])
	if weight != 0 {
		return 0, 0, nil, UnexpectedFrame("expected content header for class %d, got non content header frame instead", ClassBasic)
	}
	if class != ClassBasic {
		return 0, 0, nil, UnexpectedFrame("expected content header for class %d, got one for class %d instead", ClassBasic, class)
	}
	properties = payload[contentHeadLen:]
	if !RawProperties(properties).valid() {
		return 0, 0, nil, SyntaxError("malformed properties in a content header")
	}
	return class, binary.BigEndian.Uint64(payload[4:]), properties, nil
}

// Parse decodes flags and values, which are all of properties. The error is
// an *Error, 502.
func (m *Properties) Parse(properties []byte) error {
	*m = Properties{}
	d := decoder{rest: properties}
	m.Present = d.short()
	if m.Present&^allFlags == 0 {
		m.parse(&d)
		if !d.ended && d.tableErr == nil && len(d.rest) == 0 {
			return nil
		}
	}
	*m = Properties{}
	return SyntaxError("malformed properties in a content header")
}

// Append appends flags and values.
// REQUIRES: short strings ≤ 255 bytes, headers that AppendTable takes.
func (m *Properties) Append(dst []byte) []byte {
	flags := m.flags()
	return m.append(binary.BigEndian.AppendUint16(dst, flags), flags)
}
