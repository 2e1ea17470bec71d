package amqp

import (
	"fmt"
	"unicode/utf8"
)

// maxReplyText is the length of a short string, which is what connection.close
// and channel.close carry their text in.
const maxReplyText = 255

// Error is a protocol error: what a connection.close or a channel.close says.
// The constructors that carry the reply codes' names (NotFound,
// PreconditionFailed, …) make them.
type Error struct {
	Code uint16
	// Text begins with the code's name, as RabbitMQ's do: "NOT_FOUND - no
	// queue 'q' in vhost '/'". Invariant: at most 255 bytes.
	Text string
	// Class and Method name the method at fault, 0 where none is.
	Class, Method uint16
	// Connection is true where the error closes the whole connection, false
	// where it closes its channel. On channel 0 every error closes the
	// connection: use OnConnection there.
	Connection bool
}

// Error prints the code and the text.
func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Text) }

// At returns a copy of e that names the method at fault.
func (e *Error) At(id MethodID) *Error {
	c := *e
	c.Class, c.Method = id.Class(), id.Method()
	return &c
}

// OnConnection returns a copy of e that closes the connection, for errors on
// channel 0 (a refused login is 403, which elsewhere closes a channel).
func (e *Error) OnConnection() *Error {
	c := *e
	c.Connection = true
	return &c
}

// ConnectionClose is the method that reports e on channel 0.
func (e *Error) ConnectionClose() *ConnectionClose {
	return &ConnectionClose{ReplyCode: e.Code, ReplyText: e.Text, ClassID: e.Class, MethodID: e.Method}
}

// ChannelClose is the method that reports e on its channel.
func (e *Error) ChannelClose() *ChannelClose {
	return &ChannelClose{ReplyCode: e.Code, ReplyText: e.Text, ClassID: e.Class, MethodID: e.Method}
}

func newError(code uint16, hard bool, format string, args ...any) *Error {
	text := ReplyName(code) + " - " + fmt.Sprintf(format, args...)
	return &Error{Code: code, Text: TruncateText(text), Connection: hard}
}

// TruncateText cuts s to what a short string holds. A text that is too long
// ends in "..." after at most 252 bytes, as RabbitMQ's do
// (rabbit_binary_generator:map_exception), but never in half a rune.
func TruncateText(s string) string {
	if len(s) <= maxReplyText {
		return s
	}
	cut := maxReplyText - len("...")
	// Text that isn't UTF-8 has no rune to spare: the loop gives up after the
	// longest that a rune can be.
	for back := 0; back < utf8.UTFMax && cut > 0; back++ {
		if utf8.RuneStart(s[cut]) {
			return s[:cut] + "..."
		}
		cut--
	}
	return s[:maxReplyText-len("...")] + "..."
}
