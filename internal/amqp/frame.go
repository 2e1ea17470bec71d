package amqp

import "encoding/binary"

const (
	// frameOverhead is what a frame has besides its payload: seven octets
	// before it and one after.
	frameOverhead  = frameHeadSize + 1
	frameHeadSize  = 7
	contentHeadLen = 12 // class, weight and body size
)

// ProtocolHeader is what a connection opens with, and what a server answers
// to any other before it closes the socket.
const ProtocolHeader = "AMQP\x00\x00\x09\x01"

// Frame is a frame as Reader.Next returns it. Payload aliases the reader's
// buffer.
type Frame struct {
	Type    uint8
	Channel uint16
	Payload []byte
}

// MaxBody is the longest payload that fits frames of frameMax octets. A
// frameMax of 0 is no limit: then it is what the size field can say.
func MaxBody(frameMax uint32) int {
	if frameMax == 0 {
		return 1<<32 - 1
	}
	return max(int(frameMax)-frameOverhead, 1)
}

// AppendFrame appends a frame with the payload.
func AppendFrame(dst []byte, kind uint8, channel uint16, payload []byte) []byte {
	dst = appendFrameHead(dst, kind, channel, len(payload))
	dst = append(dst, payload...)
	return append(dst, FrameEnd)
}

// AppendMethod appends a frame with the method. The hot path's methods have
// writers of their own that need no struct.
func AppendMethod(dst []byte, channel uint16, m Method) []byte {
	dst, start := beginMethod(dst, channel, m.ID())
	return endFrame(m.Append(dst), start)
}

// AppendHeartbeat appends a heartbeat.
func AppendHeartbeat(dst []byte) []byte {
	return append(dst, FrameHeartbeat, 0, 0, 0, 0, 0, 0, FrameEnd)
}

// AppendHeader appends the content header of a basic method: properties are
// flags and values, as ParseHeader returns them. A header can't be split, so
// frameMax has no say in it.
func AppendHeader(dst []byte, channel uint16, bodySize uint64, properties []byte) []byte {
	dst = appendFrameHead(dst, FrameHeader, channel, contentHeadLen+len(properties))
	dst = binary.BigEndian.AppendUint16(dst, ClassBasic)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, bodySize)
	dst = append(dst, properties...)
	return append(dst, FrameEnd)
}

// AppendBody appends the body in as many frames as frameMax asks for, none if
// it is empty. A part of a body makes part of the frames.
func AppendBody(dst []byte, channel uint16, frameMax uint32, body []byte) []byte {
	for limit := MaxBody(frameMax); len(body) > 0; {
		n := min(len(body), limit)
		dst = AppendFrame(dst, FrameBody, channel, body[:n])
		body = body[n:]
	}
	return dst
}

// AppendContent appends a content header and the body's frames.
func AppendContent(dst []byte, channel uint16, frameMax uint32, properties, body []byte) []byte {
	dst = AppendHeader(dst, channel, uint64(len(body)), properties)
	return AppendBody(dst, channel, frameMax, body)
}

// ContentSize is the number of bytes that AppendContent will add.
func ContentSize(frameMax uint32, properties, body int) int {
	limit := MaxBody(frameMax)
	return frameOverhead + contentHeadLen + properties + body + (body+limit-1)/limit*frameOverhead
}

func appendFrameHead(dst []byte, kind uint8, channel uint16, size int) []byte {
	return append(dst, kind, byte(channel>>8), byte(channel),
		byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// beginMethod appends a method frame up to the arguments. endFrame then puts
// the size in, and the end.
func beginMethod(dst []byte, channel uint16, id MethodID) (out []byte, start int) {
	start = len(dst)
	dst = appendFrameHead(dst, FrameMethod, channel, 0)
	return binary.BigEndian.AppendUint32(dst, uint32(id)), start
}

func endFrame(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start+3:], uint32(len(dst)-start-frameHeadSize))
	return append(dst, FrameEnd)
}
