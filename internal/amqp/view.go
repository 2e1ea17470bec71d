package amqp

import "encoding/binary"

// The views are the methods of the publish and deliver paths, parsed without
// allocating: their bytes alias the frame's payload. Parse takes the
// arguments that CutMethod returns; its error is an *Error.

// PublishView is basic.publish.
type PublishView struct {
	Exchange, RoutingKey []byte
	Mandatory, Immediate bool
}

// Parse decodes the arguments.
func (v *PublishView) Parse(b []byte) error {
	d := decoder{rest: b}
	d.short()
	v.Exchange = d.shortBytes()
	v.RoutingKey = d.shortBytes()
	d.bits()
	v.Mandatory, v.Immediate = d.bit(0), d.bit(1)
	return d.finish(IDBasicPublish)
}

// AckView is basic.ack.
type AckView struct {
	DeliveryTag uint64
	Multiple    bool
}

// Parse decodes the arguments.
func (v *AckView) Parse(b []byte) error {
	d := decoder{rest: b}
	v.DeliveryTag = d.longlong()
	d.bits()
	v.Multiple = d.bit(0)
	return d.finish(IDBasicAck)
}

// NackView is basic.nack.
type NackView struct {
	DeliveryTag       uint64
	Multiple, Requeue bool
}

// Parse decodes the arguments.
func (v *NackView) Parse(b []byte) error {
	d := decoder{rest: b}
	v.DeliveryTag = d.longlong()
	d.bits()
	v.Multiple, v.Requeue = d.bit(0), d.bit(1)
	return d.finish(IDBasicNack)
}

// RejectView is basic.reject.
type RejectView struct {
	DeliveryTag uint64
	Requeue     bool
}

// Parse decodes the arguments.
func (v *RejectView) Parse(b []byte) error {
	d := decoder{rest: b}
	v.DeliveryTag = d.longlong()
	d.bits()
	v.Requeue = d.bit(0)
	return d.finish(IDBasicReject)
}

// DeliverView is basic.deliver, for a client that is in a hurry.
type DeliverView struct {
	ConsumerTag          []byte
	DeliveryTag          uint64
	Redelivered          bool
	Exchange, RoutingKey []byte
}

// Parse decodes the arguments.
func (v *DeliverView) Parse(b []byte) error {
	d := decoder{rest: b}
	v.ConsumerTag = d.shortBytes()
	v.DeliveryTag = d.longlong()
	d.bits()
	v.Redelivered = d.bit(0)
	v.Exchange = d.shortBytes()
	v.RoutingKey = d.shortBytes()
	return d.finish(IDBasicDeliver)
}

// The writers below append whole method frames. A content must follow those
// of basic.deliver, basic.get-ok, basic.return and basic.publish.

// AppendDeliver appends basic.deliver.
func AppendDeliver(dst []byte, channel uint16, consumerTag string, deliveryTag uint64, redelivered bool, exchange, key []byte) []byte {
	dst, start := beginMethod(dst, channel, IDBasicDeliver)
	dst = appendShort(dst, consumerTag)
	dst = binary.BigEndian.AppendUint64(dst, deliveryTag)
	dst = append(dst, bit(redelivered, 0))
	dst = appendShort(dst, exchange)
	return endFrame(appendShort(dst, key), start)
}

// AppendGetOk appends basic.get-ok. messages is how many are left in the queue.
func AppendGetOk(dst []byte, channel uint16, deliveryTag uint64, redelivered bool, exchange, key []byte, messages uint32) []byte {
	dst, start := beginMethod(dst, channel, IDBasicGetOk)
	dst = binary.BigEndian.AppendUint64(dst, deliveryTag)
	dst = append(dst, bit(redelivered, 0))
	dst = appendShort(dst, exchange)
	dst = appendShort(dst, key)
	return endFrame(binary.BigEndian.AppendUint32(dst, messages), start)
}

// AppendReturn appends basic.return.
func AppendReturn(dst []byte, channel uint16, code uint16, text string, exchange, key []byte) []byte {
	dst, start := beginMethod(dst, channel, IDBasicReturn)
	dst = binary.BigEndian.AppendUint16(dst, code)
	dst = appendShort(dst, text)
	dst = appendShort(dst, exchange)
	return endFrame(appendShort(dst, key), start)
}

// AppendPublish appends basic.publish.
func AppendPublish(dst []byte, channel uint16, exchange, key []byte, mandatory bool) []byte {
	dst, start := beginMethod(dst, channel, IDBasicPublish)
	dst = append(dst, 0, 0)
	dst = appendShort(dst, exchange)
	dst = appendShort(dst, key)
	return endFrame(append(dst, bit(mandatory, 0)), start)
}

// AppendAck appends basic.ack.
func AppendAck(dst []byte, channel uint16, deliveryTag uint64, multiple bool) []byte {
	return appendSettle(dst, channel, IDBasicAck, deliveryTag, bit(multiple, 0))
}

// AppendNack appends basic.nack as a server sends it: without requeue, which
// means nothing to a publisher.
func AppendNack(dst []byte, channel uint16, deliveryTag uint64, multiple bool) []byte {
	return appendSettle(dst, channel, IDBasicNack, deliveryTag, bit(multiple, 0))
}

func appendSettle(dst []byte, channel uint16, id MethodID, deliveryTag uint64, bits byte) []byte {
	dst, start := beginMethod(dst, channel, id)
	dst = binary.BigEndian.AppendUint64(dst, deliveryTag)
	return endFrame(append(dst, bits), start)
}
