package topology

import (
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// headersTable is a headers exchange's index. Each pair of a header and a
// value, or a header alone for those that need only be there, leads to a
// bucket: to the "any" bindings that have the pair, which need nothing else,
// and to those "all" bindings that have it and were put under it, of which the
// other pairs are then compared. So a message costs a look-up or two for each
// of its headers, however many bindings there are, where their pairs differ.
type headersTable struct {
	always  leaf // "all" bindings without pairs: they match every message
	buckets map[string]*headersBucket
}

type headersBucket struct {
	any leaf
	all []*headersMatch
}

// headersMatch is a binding's arguments made ready for comparing.
type headersMatch struct {
	binding *binding
	any     bool
	pairs   []headersPair
	// under is the bucket that an "all" binding was put in, at its place there.
	under string
	at    int
}

// headersPair is a header that a binding asks for.
type headersPair struct {
	name   string
	exists bool   // a void argument: any value will do
	value  string // as appendValue has it
}

func (p *headersPair) bucket() string {
	b := appendBytes(nil, p.name)
	if p.exists {
		return string(append(b, existsTag))
	}
	return string(append(b, p.value...))
}

// The tags begin a value's encoding, so that values of different sorts differ.
const (
	existsTag = '?'
	voidTag   = 'v'
	boolTag   = 't'
	numberTag = 'n'
	stringTag = 's'
	otherTag  = 'o'
)

// appendValue encodes a field so that two that RabbitMQ's headers exchange
// holds to be equal have the same bytes: it compares Erlang terms with ==, of
// which those of numbers are equal whatever their type or width (1 and 1.0 and
// the timestamp 1), and those of strings whether S or x.
func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, voidTag)
	case bool:
		return append(dst, boolTag, byte(boolInt(v)))
	case string:
		return append(append(dst, stringTag), v...)
	case []byte:
		return append(append(dst, stringTag), v...)
	case time.Time:
		return strconv.AppendInt(append(dst, numberTag), v.Unix(), 10)
	case float32:
		return appendFloat(dst, float64(v))
	case float64:
		return appendFloat(dst, v)
	}
	if n, ok := integer(v); ok {
		return strconv.AppendInt(append(dst, numberTag), n, 10)
	}
	return append(append(dst, otherTag), encodeValue(v)...)
}

// encodeValue is for decimals, tables and arrays: their encoding tells them
// apart, types of the fields within included, as Erlang's terms do. It isn't
// given the bytes to append to: they would have to be on the heap then.
func encodeValue(v any) []byte {
	b, err := amqp.AppendTable(nil, amqp.Table{"": v})
	if err != nil { // no parsed table has such a value
		return nil
	}
	return b
}

func appendFloat(dst []byte, f float64) []byte {
	if f == math.Trunc(f) && !math.IsInf(f, 0) {
		if math.Abs(f) < 1<<63 {
			return strconv.AppendInt(append(dst, numberTag), int64(f), 10)
		}
		whole, _ := big.NewFloat(f).Int(nil)
		return append(append(dst, numberTag), whole.String()...)
	}
	return binary.BigEndian.AppendUint64(append(dst, numberTag, '.'), math.Float64bits(f))
}

// integer is the value of a field of one of the integer types.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int64:
		return v, true
	case int:
		return int64(v), true
	}
	return 0, false
}

// newHeadersMatch reads a binding's arguments: x-match is all unless it is any,
// all-with-x or any-with-x; other arguments that begin with "x-" count only
// with the latter two.
func newHeadersMatch(b *binding) *headersMatch {
	mode, _ := b.table["x-match"].(string)
	m := &headersMatch{binding: b, any: strings.HasPrefix(mode, "any")}
	withX := strings.HasSuffix(mode, "-with-x")
	for name, v := range b.table {
		if name == "x-match" || strings.HasPrefix(name, "x-") && !withX {
			continue
		}
		p := headersPair{name: name, exists: v == nil}
		if v != nil {
			p.value = string(appendValue(nil, v))
		}
		m.pairs = append(m.pairs, p)
	}
	slices.SortFunc(m.pairs, func(a, b headersPair) int { return strings.Compare(a.name, b.name) })
	return m
}

func (t *headersTable) bucket(key string) *headersBucket {
	bucket := t.buckets[key]
	if bucket == nil {
		if t.buckets == nil {
			t.buckets = make(map[string]*headersBucket)
		}
		bucket = new(headersBucket)
		t.buckets[key] = bucket
	}
	return bucket
}

func (t *headersTable) release(key string, bucket *headersBucket) {
	if bucket.any.empty() && len(bucket.all) == 0 {
		delete(t.buckets, key)
	}
}

func (t *headersTable) insert(b *binding) {
	m := newHeadersMatch(b)
	b.match = m
	switch {
	case m.any:
		for i := range m.pairs {
			t.bucket(m.pairs[i].bucket()).any.add(b)
		}
	case len(m.pairs) == 0:
		t.always.add(b)
	default:
		// Under the pair that the fewest others are under: what all bindings
		// have in common tells nothing apart.
		for i := range m.pairs {
			key := m.pairs[i].bucket()
			n := 0
			if bucket := t.buckets[key]; bucket != nil {
				n = len(bucket.all)
			}
			if i == 0 || n < m.at {
				m.under, m.at = key, n
			}
		}
		bucket := t.bucket(m.under)
		bucket.all = append(bucket.all, m)
	}
}

func (t *headersTable) remove(b *binding) {
	m := b.match
	switch {
	case m.any:
		for i := range m.pairs {
			key := m.pairs[i].bucket()
			bucket := t.buckets[key]
			bucket.any.remove(b)
			t.release(key, bucket)
		}
	case len(m.pairs) == 0:
		t.always.remove(b)
	default:
		bucket := t.buckets[m.under]
		last := len(bucket.all) - 1
		moved := bucket.all[last]
		bucket.all[m.at], moved.at = moved, m.at
		bucket.all[last] = nil
		bucket.all = bucket.all[:last]
		t.release(m.under, bucket)
	}
	b.match = nil
}

// match visits what the walk's headers lead to.
func (t *headersTable) match(w *walk) {
	t.always.visit(w)
	if len(t.buckets) == 0 {
		return
	}
	var buffer [128]byte
	table := w.headersTable()
	for name, v := range table {
		key := appendBytes(buffer[:0], name)
		n := len(key)
		if v != nil {
			key = appendValue(key, v)
			t.buckets[string(key)].visit(table, w)
		}
		key = append(key[:n], existsTag)
		t.buckets[string(key)].visit(table, w)
	}
}

func (b *headersBucket) visit(table amqp.Table, w *walk) {
	if b == nil {
		return
	}
	b.any.visit(w)
	for _, m := range b.all {
		if !m.holds(table) {
			continue
		}
		w.leaves++
		if m.binding.queue != nil {
			w.dst = append(w.dst, m.binding.queue)
		} else {
			w.push(m.binding.exchange)
		}
	}
}

// holds reports whether every pair is in table.
func (m *headersMatch) holds(table amqp.Table) bool {
	var buffer [64]byte
	for i := range m.pairs {
		p := &m.pairs[i]
		v, found := table[p.name]
		if !found {
			return false
		}
		if !p.exists && string(appendValue(buffer[:0], v)) != p.value {
			return false
		}
	}
	return true
}
