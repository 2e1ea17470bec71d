package queue

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Settings is what a machine knows of a queue beyond its messages. The
// encoding is a list of tagged fields: a version that doesn't know a tag
// keeps the field and passes it on, so brokers of two versions keep equal
// states. Empty fields are not written.
type Settings struct {
	Vhost     string // for diagnostics
	Name      string // for diagnostics
	AckQuorum string // leader, a number, majority or all; empty: the broker's default
	// Expires says that a message expires once it waited for MessageTTL: a whole
	// number of milliseconds from 0, at most MaxTTL.
	Expires    bool
	MessageTTL time.Duration
	Extra      []byte // encoded fields with tags that this version doesn't know
}

// maxSettings is the most bytes that a queue's settings may take.
const maxSettings = 16 << 10

// Tags of the fields. Never reuse one.
const (
	tagVhost     = 1
	tagName      = 2
	tagAckQuorum = 3
	tagTTL       = 4 // milliseconds(v)
)

func (s *Settings) fields() [3]struct {
	tag   byte
	value *string
} {
	return [3]struct {
		tag   byte
		value *string
	}{{tagVhost, &s.Vhost}, {tagName, &s.Name}, {tagAckQuorum, &s.AckQuorum}}
}

func (s *Settings) size() int {
	n := len(s.Extra)
	for _, f := range s.fields() {
		if v := len(*f.value); v > 0 {
			n += 1 + uvarintSize(uint64(v)) + v
		}
	}
	if s.Expires {
		n += 1 + 1 + uvarintSize(milliseconds(s.MessageTTL))
	}
	return n
}

func (s *Settings) append(dst []byte) []byte {
	for _, f := range s.fields() {
		if *f.value != "" {
			dst = append(dst, f.tag)
			dst = binary.AppendUvarint(dst, uint64(len(*f.value)))
			dst = append(dst, *f.value...)
		}
	}
	if s.Expires {
		ttl := milliseconds(s.MessageTTL)
		dst = append(dst, tagTTL, byte(uvarintSize(ttl)))
		dst = binary.AppendUvarint(dst, ttl)
	}
	return append(dst, s.Extra...)
}

// parseSettings decodes b and copies what it keeps.
func parseSettings(b []byte) (Settings, error) {
	var s Settings
	previous := uint64(0)
	for len(b) > 0 {
		tag, w := binary.Uvarint(b)
		if w <= 0 || tag <= previous {
			return Settings{}, fmt.Errorf("%w settings: tag", ErrMalformed)
		}
		size, v := binary.Uvarint(b[w:])
		if v <= 0 || size > uint64(len(b)-w-v) {
			return Settings{}, fmt.Errorf("%w settings: size of field %d", ErrMalformed, tag)
		}
		field, value := b[:w+v+int(size)], b[w+v:w+v+int(size)]
		b, previous = b[len(field):], tag
		switch tag {
		case tagVhost:
			s.Vhost = string(value)
		case tagName:
			s.Name = string(value)
		case tagAckQuorum:
			s.AckQuorum = string(value)
		case tagTTL:
			ttl, w := binary.Uvarint(value)
			if w != len(value) || ttl > maxTTL {
				return Settings{}, fmt.Errorf("%w settings: message TTL", ErrMalformed)
			}
			s.Expires, s.MessageTTL = true, time.Duration(ttl)*time.Millisecond
		default:
			s.Extra = append(s.Extra, field...)
		}
	}
	return s, nil
}
