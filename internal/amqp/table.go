package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Table is a field table. Its values are of the types that the other Go client
// has for them: bool, int8, uint8, int16, uint16, int32, uint32, int64,
// float32, float64, Decimal, string, []byte, []any, time.Time (whole seconds,
// UTC when parsed), Table and nil. AppendTable also takes int, as int64.
type Table map[string]any

// Decimal is Value ÷ 10^Scale.
type Decimal struct {
	Scale uint8
	Value int32
}

// maxTableDepth bounds how deep tables and arrays may nest, so that the
// decoder's recursion is bounded by something smaller than the frame.
const maxTableDepth = 32

var (
	// ErrTable is returned for bytes that are not a field table.
	ErrTable = errors.New("amqp: malformed field table")
	// ErrField is returned for a table that can't be encoded: a value of a
	// type that AMQP has none for, a key longer than 255 bytes, or tables
	// nested deeper than a decoder accepts.
	ErrField = errors.New("amqp: value can't be put into a field table")
)

// AppendTable appends the encoding of t, its length first, to dst. Equal
// tables have equal encodings: keys are sorted. On an error dst is returned
// as it was.
func AppendTable(dst []byte, t Table) ([]byte, error) {
	b, err := appendTable(dst, t, 0)
	if err != nil {
		return dst, err
	}
	return b, nil
}

func appendTable(dst []byte, t Table, depth int) ([]byte, error) {
	if depth > maxTableDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrField, maxTableDepth)
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	// Most tables are small: the keys fit on the stack.
	var array [16]string
	keys := array[:0]
	for key := range t {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var err error
	for _, key := range keys {
		if len(key) > math.MaxUint8 {
			return nil, fmt.Errorf("%w: key of %d bytes", ErrField, len(key))
		}
		dst = append(append(dst, byte(len(key))), key...)
		if dst, err = appendField(dst, t[key], depth); err != nil {
			return nil, fmt.Errorf("%w at %q", err, key)
		}
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst, nil
}

func appendField(dst []byte, value any, depth int) ([]byte, error) {
	big := binary.BigEndian
	switch v := value.(type) {
	case nil:
		return append(dst, 'V'), nil
	case bool:
		if v {
			return append(dst, 't', 1), nil
		}
		return append(dst, 't', 0), nil
	case int8:
		return append(dst, 'b', byte(v)), nil
	case uint8:
		return append(dst, 'B', v), nil
	case int16:
		return big.AppendUint16(append(dst, 's'), uint16(v)), nil
	case uint16:
		return big.AppendUint16(append(dst, 'u'), v), nil
	case int32:
		return big.AppendUint32(append(dst, 'I'), uint32(v)), nil
	case uint32:
		return big.AppendUint32(append(dst, 'i'), v), nil
	case int64:
		return big.AppendUint64(append(dst, 'l'), uint64(v)), nil
	case int:
		return big.AppendUint64(append(dst, 'l'), uint64(v)), nil
	case float32:
		return big.AppendUint32(append(dst, 'f'), math.Float32bits(v)), nil
	case float64:
		return big.AppendUint64(append(dst, 'd'), math.Float64bits(v)), nil
	case Decimal:
		return big.AppendUint32(append(dst, 'D', v.Scale), uint32(v.Value)), nil
	case string:
		return append(big.AppendUint32(append(dst, 'S'), uint32(len(v))), v...), nil
	case []byte:
		return append(big.AppendUint32(append(dst, 'x'), uint32(len(v))), v...), nil
	case time.Time:
		return big.AppendUint64(append(dst, 'T'), uint64(v.Unix())), nil
	case Table:
		return appendTable(append(dst, 'F'), v, depth+1)
	case []any:
		return appendArray(append(dst, 'A'), v, depth+1)
	}
	return nil, fmt.Errorf("%w: type %T", ErrField, value)
}

func appendArray(dst []byte, values []any, depth int) ([]byte, error) {
	if depth > maxTableDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrField, maxTableDepth)
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	var err error
	for i, value := range values {
		if dst, err = appendField(dst, value, depth); err != nil {
			return nil, fmt.Errorf("%w [%d]", err, i)
		}
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst, nil
}

// ParseTable decodes the table, its length first, that b begins with, and
// returns the bytes after it. Nothing in the table aliases b. Of a key that
// comes twice the first counts, as where RabbitMQ looks one up. The error
// wraps ErrTable.
func ParseTable(b []byte) (t Table, rest []byte, err error) {
	content, rest, ok := cutLong(b)
	if !ok {
		return nil, b, fmt.Errorf("%w: cut short", ErrTable)
	}
	if t, err = parseTable(content, 0); err != nil {
		return nil, b, err
	}
	return t, rest, nil
}

func parseTable(b []byte, depth int) (Table, error) {
	if depth > maxTableDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrTable, maxTableDepth)
	}
	t := Table{}
	for len(b) > 0 {
		key, kind, value, rest, ok := cutEntry(b)
		if !ok {
			return nil, fmt.Errorf("%w: entry cut short or of an unknown type", ErrTable)
		}
		field, err := parseField(kind, value, depth)
		if err != nil {
			return nil, err
		}
		if _, twice := t[string(key)]; !twice {
			t[string(key)] = field
		}
		b = rest
	}
	return t, nil
}

func parseArray(b []byte, depth int) ([]any, error) {
	if depth > maxTableDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrTable, maxTableDepth)
	}
	values := []any{}
	for len(b) > 0 {
		kind, value, rest, ok := cutField(b)
		if !ok {
			return nil, fmt.Errorf("%w: element cut short or of an unknown type", ErrTable)
		}
		field, err := parseField(kind, value, depth)
		if err != nil {
			return nil, err
		}
		values = append(values, field)
		b = rest
	}
	return values, nil
}

// parseField decodes a value that cutField has cut.
func parseField(kind byte, b []byte, depth int) (any, error) {
	big := binary.BigEndian
	switch kind {
	case 'V':
		return nil, nil
	case 't':
		return b[0] != 0, nil
	case 'b':
		return int8(b[0]), nil
	case 'B':
		return b[0], nil
	case 's':
		return int16(big.Uint16(b)), nil
	case 'u':
		return big.Uint16(b), nil
	case 'I':
		return int32(big.Uint32(b)), nil
	case 'i':
		return big.Uint32(b), nil
	case 'l', 'L':
		return int64(big.Uint64(b)), nil
	case 'f':
		return math.Float32frombits(big.Uint32(b)), nil
	case 'd':
		return math.Float64frombits(big.Uint64(b)), nil
	case 'D':
		return Decimal{Scale: b[0], Value: int32(big.Uint32(b[1:]))}, nil
	case 'S':
		return string(b), nil
	case 'x':
		return append([]byte{}, b...), nil
	case 'T':
		return time.Unix(int64(big.Uint64(b)), 0).UTC(), nil
	case 'F':
		return parseTable(b, depth+1)
	case 'A':
		return parseArray(b, depth+1)
	}
	panic(fmt.Sprintf("amqp: cutField let type %q through", kind))
}
