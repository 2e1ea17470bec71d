package entry

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Content is a message as the log keeps it. Properties is the payload of the
// AMQP content header after the body size (property flags and property list,
// AMQP 0-9-1 section 4.2.6.1), passed through as the publisher sent it.
//
// Encoding, each length a uvarint:
//
//	exchange length | exchange | key length | routing key |
//	properties length | properties | body (the rest)
type Content struct {
	Exchange   []byte
	RoutingKey []byte
	Properties []byte
	Body       []byte
}

// ErrContent is returned for bytes that are not an encoded Content.
var ErrContent = errors.New("entry: malformed message content")

// ContentSize is the number of bytes that AppendContent will add.
func ContentSize(exchange, key, properties, body int) int {
	return uvarintLen(exchange) + exchange + uvarintLen(key) + key + uvarintLen(properties) + properties + body
}

// AppendContent appends the encoding of c to dst.
func AppendContent(dst []byte, c Content) []byte {
	return append(AppendContentHead(dst, c.Exchange, c.RoutingKey, c.Properties), c.Body...)
}

// AppendContentHead appends all of a content but its body, which the caller
// appends as its frames arrive.
func AppendContentHead(dst, exchange, key, properties []byte) []byte {
	dst = appendBytes(dst, exchange)
	dst = appendBytes(dst, key)
	return appendBytes(dst, properties)
}

// ParseContent decodes b without copying: the result aliases b.
func ParseContent(b []byte) (Content, error) {
	var c Content
	var ok bool
	if c.Exchange, b, ok = cutBytes(b); !ok {
		return Content{}, fmt.Errorf("%w: exchange", ErrContent)
	}
	if c.RoutingKey, b, ok = cutBytes(b); !ok {
		return Content{}, fmt.Errorf("%w: routing key", ErrContent)
	}
	if c.Properties, b, ok = cutBytes(b); !ok {
		return Content{}, fmt.Errorf("%w: properties", ErrContent)
	}
	c.Body = b
	return c, nil
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func cutBytes(b []byte) (head, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n) : w+int(n)], b[w+int(n):], true
}

func uvarintLen(n int) int {
	w := 1
	for n >= 0x80 {
		n >>= 7
		w++
	}
	return w
}
