package broker

import (
	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// settle handles basic.ack, basic.nack and basic.reject: the delivery with the
// tag, or all up to it, leave the channel. Rejected without requeue is the
// same as acked until there is dead lettering.
func (ch *channel) settle(tag uint64, multiple, requeue bool) error {
	if ch.mode.Load() == modeTx {
		return ch.tx.settle(ch, tag, multiple, requeue)
	}
	if !multiple {
		e, ok := ch.unacked.take(tag)
		if !ok {
			return unknownTag(tag)
		}
		e.held.settle(e.message, requeue)
		return nil
	}
	ok := ch.unacked.takeUpTo(tag, func(_ uint64, e unackedEntry) { e.held.settle(e.message, requeue) })
	if !ok {
		return unknownTag(tag)
	}
	return nil
}

func unknownTag(tag uint64) error {
	return amqp.PreconditionFailed("unknown delivery tag %d", tag)
}

// settle notes one message for the next submission.
func (h *held) settle(message entry.MessageID, requeue bool) {
	if requeue {
		h.returns = entry.AppendID(h.returns, message)
	} else {
		h.settled = entry.AppendID(h.settled, message)
	}
	if !h.listed {
		h.listed = true
		h.lane.held = append(h.lane.held, h)
		h.lane.mark()
	}
}

// recover handles basic.recover: everything unacked is requeued.
func (ch *channel) recover(requeue, answer bool) error {
	if !requeue {
		return amqp.NotImplemented("requeue=false")
	}
	ch.unacked.takeUpTo(0, func(_ uint64, e unackedEntry) { e.held.settle(e.message, true) })
	ch.conn.flush()
	if answer {
		ch.reply(&amqp.BasicRecoverOk{})
	}
	return nil
}
