// Package amqp is the codec of AMQP 0-9-1 as RabbitMQ speaks it: frames,
// methods, content headers, field tables and protocol errors. It owns bytes
// and nothing else: no connection, no goroutine, no clock, no state of a
// channel.
//
// A connection opens with the eight bytes of ProtocolHeader; everything after
// it is frames (AMQP 0-9-1, section 4.2.3), multi-octet integers big-endian:
//
//	0      1         3         7                 7+size
//	+------+---------+---------+-----------------+------+
//	| type | channel |  size   | payload         | 0xCE |
//	+------+---------+---------+-----------------+------+
//	 octet   short      long      size octets     octet
//
//	type 1, method:     class short | method short | arguments
//	type 2, header:     class short | weight short (0) | body size longlong | properties
//	type 3, body:       bytes of the body
//	type 8, heartbeat:  nothing, on channel 0
//
// Properties (section 4.2.6.1) are a short of flags, the first property in bit
// 15, and the values of those that are there, in the order of their flags.
// This package calls "properties" exactly those bytes, flags included: they go
// from the publisher to the log and to the consumers as they came.
//
// A field table is a long with the number of bytes that follow and, in them,
// entries of a short string, an octet for the type, and the value. The types
// are RabbitMQ's dialect, not the letters of the specification (see
// https://www.rabbitmq.com/amqp-0-9-1-errata#section_3):
//
//	t bool     b int8     B uint8    s int16    u uint16   I int32    i uint32
//	l int64    L int64    f float32  d float64  D decimal (scale octet, int32)
//	S long string         x long bytes          T seconds since 1970, 64 bits
//	A array: a long with the number of bytes, then type and value of each element
//	F table    V nothing
//
// Slow-path methods are structs with Parse and Append (methods_gen.go, made
// from the specification's XML). The methods of the publish and deliver paths
// also have views, whose fields alias the frame, and writers that take bytes;
// those allocate nothing.
//
// What can't be decoded is an *Error with the reply code to close with; input
// never panics. Encoding has preconditions instead of errors, because all that
// the broker sends was checked when it came in: a short string longer than 255
// bytes panics.
package amqp

//go:generate go run ./gen
