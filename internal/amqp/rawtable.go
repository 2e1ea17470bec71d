package amqp

import "encoding/binary"

// RawTable is the encoding of a field table without its length: what
// RawProperties.Headers returns. It is looked into without allocating, O(bytes).
type RawTable []byte

// RawField is a table's value as it is encoded. Bytes aliases the table; of
// the types S, x, A and F it is what follows the length.
type RawField struct {
	Type  byte
	Bytes []byte
}

// Lookup finds the first entry with the key. ok is false where there is none,
// and where the table is malformed before it.
func (t RawTable) Lookup(key string) (f RawField, ok bool) {
	for b := []byte(t); len(b) > 0; {
		name, kind, value, rest, valid := cutEntry(b)
		if !valid {
			return RawField{}, false
		}
		if string(name) == key {
			return RawField{kind, value}, true
		}
		b = rest
	}
	return RawField{}, false
}

// Cut returns the first entry and what comes after it, for a walk over all of
// them. ok is false where there is none, and where the table is malformed there.
func (t RawTable) Cut() (key []byte, f RawField, rest RawTable, ok bool) {
	key, kind, value, after, ok := cutEntry(t)
	return key, RawField{kind, value}, after, ok
}

// Parse decodes the whole table, with the errors of ParseTable.
func (t RawTable) Parse() (Table, error) { return parseTable(t, 0) }

// Text returns the bytes of a string (S) or of bytes (x).
func (f RawField) Text() (b []byte, ok bool) {
	return f.Bytes, f.Type == 'S' || f.Type == 'x'
}

// Integer returns the value of any integer type: their widths mean the same.
func (f RawField) Integer() (n int64, ok bool) {
	big := binary.BigEndian
	switch f.Type {
	case 'b':
		return int64(int8(f.Bytes[0])), true
	case 'B':
		return int64(f.Bytes[0]), true
	case 's':
		return int64(int16(big.Uint16(f.Bytes))), true
	case 'u':
		return int64(big.Uint16(f.Bytes)), true
	case 'I':
		return int64(int32(big.Uint32(f.Bytes))), true
	case 'i':
		return int64(big.Uint32(f.Bytes)), true
	case 'l', 'L':
		return int64(big.Uint64(f.Bytes)), true
	}
	return 0, false
}

// Value decodes the field to one of the types of Table.
func (f RawField) Value() (any, error) { return parseField(f.Type, f.Bytes, 0) }

// Elements calls fn for each element of an array (A) until fn returns false.
// It does nothing for other types, and stops where the array is malformed.
func (f RawField) Elements(fn func(RawField) bool) {
	if f.Type != 'A' {
		return
	}
	for b := f.Bytes; len(b) > 0; {
		kind, value, rest, ok := cutField(b)
		if !ok || !fn(RawField{kind, value}) {
			return
		}
		b = rest
	}
}

// validTable reports whether b is a table's content through all its levels,
// without allocating.
func validTable(b []byte, depth int) bool {
	if depth > maxTableDepth {
		return false
	}
	for len(b) > 0 {
		_, kind, value, rest, ok := cutEntry(b)
		if !ok || !validField(kind, value, depth) {
			return false
		}
		b = rest
	}
	return true
}

func validField(kind byte, value []byte, depth int) bool {
	switch kind {
	case 'F':
		return validTable(value, depth+1)
	case 'A':
		if depth+1 > maxTableDepth {
			return false
		}
		for len(value) > 0 {
			k, v, rest, ok := cutField(value)
			if !ok || !validField(k, v, depth+1) {
				return false
			}
			value = rest
		}
	}
	return true
}

// cutEntry cuts the entry that a table's content begins with.
func cutEntry(b []byte) (key []byte, kind byte, value, rest []byte, ok bool) {
	if key, b, ok = cutShort(b); !ok {
		return nil, 0, nil, nil, false
	}
	kind, value, rest, ok = cutField(b)
	return key, kind, value, rest, ok
}

// cutField cuts the type and the value that b begins with. It is the one place
// that knows how long each type is; tables and arrays are not looked into.
func cutField(b []byte) (kind byte, value, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, nil, false
	}
	kind, b = b[0], b[1:]
	var n int
	switch kind {
	case 'V':
	case 't', 'b', 'B':
		n = 1
	case 's', 'u':
		n = 2
	case 'I', 'i', 'f':
		n = 4
	case 'D':
		n = 5
	case 'l', 'L', 'd', 'T':
		n = 8
	case 'S', 'x', 'A', 'F':
		value, rest, ok = cutLong(b)
		return kind, value, rest, ok
	default:
		return 0, nil, nil, false
	}
	if len(b) < n {
		return 0, nil, nil, false
	}
	return kind, b[:n:n], b[n:], true
}

// cutShort cuts a short string: an octet with the length, and the bytes.
func cutShort(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}

// cutLong cuts a long string: a long with the length, and the bytes.
func cutLong(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if uint64(len(b)-4) < n {
		return nil, nil, false
	}
	return b[4 : 4+n : 4+n], b[4+n:], true
}
