package broker

import (
	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// fate is what becomes of a delivery that leaves its channel.
type fate uint8

const (
	acked fate = iota
	requeued
	// rejected is dead-lettered, or the same as acked where the queue has no
	// dead-letter exchange.
	rejected
)

// nacked is the fate that a basic.nack or basic.reject asks for.
func nacked(requeue bool) fate {
	if requeue {
		return requeued
	}
	return rejected
}

// settle handles basic.ack, basic.nack and basic.reject: the delivery with the
// tag, or all up to it, leave the channel.
func (ch *channel) settle(tag uint64, multiple bool, to fate) error {
	if ch.mode.Load() == modeTx {
		return ch.tx.settle(ch, tag, multiple, to)
	}
	if !multiple {
		e, ok := ch.unacked.take(tag)
		if !ok {
			return unknownTag(tag)
		}
		e.held.settle(e.message, to)
	} else if !ch.unacked.takeUpTo(tag, func(_ uint64, e unackedEntry) { e.held.settle(e.message, to) }) {
		return unknownTag(tag)
	}
	ch.makeRoom()
	return nil
}

func unknownTag(tag uint64) error {
	return amqp.PreconditionFailed("unknown delivery tag %d", tag)
}

// settle notes one message for the next submission.
func (h *held) settle(message entry.MessageID, to fate) {
	h.note(message, to)
	if !h.listed {
		h.listed = true
		h.lane.held = append(h.lane.held, h)
		h.lane.mark()
	}
}

// note adds one message to those of its fate.
func (h *held) note(message entry.MessageID, to fate) {
	if !h.get {
		h.channel.freed++
	}
	switch {
	case to == requeued:
		h.returns = entry.AppendID(h.returns, message)
	case to == rejected && h.deadLetters:
		h.rejected = entry.AppendID(h.rejected, message)
	default:
		h.settled = entry.AppendID(h.settled, message)
	}
}

// empty reports whether no message is noted.
func (h *held) empty() bool { return len(h.settled)+len(h.returns)+len(h.rejected) == 0 }

// appendSettled appends ops for what is noted, and to notes who is done with
// what, which frees the consumers' prefetch before the log has the acks.
func (h *held) appendSettled(ops []byte, notes []settledNote) ([]byte, []settledNote) {
	l, holder := h.lane, h.channel.holder
	if len(h.settled) > 0 {
		ops = queue.AppendSettle(ops, h.queue.ID, h.settled)
		notes = append(notes, settledNote{holder, h.queue.ID, h.settled})
	}
	if len(h.returns) > 0 {
		ops = queue.AppendReturn(ops, h.queue.ID, h.returns)
		notes = append(notes, settledNote{holder, h.queue.ID, h.returns})
	}
	if len(h.rejected) > 0 {
		l.deadLetter(holder, h.queue, h.rejected)
	}
	// The ranges belong to the group now.
	h.settled, h.returns, h.rejected = nil, nil, nil
	return ops, notes
}

// recover handles basic.recover: everything unacked is requeued.
func (ch *channel) recover(requeue, answer bool) error {
	if !requeue {
		return amqp.NotImplemented("requeue=false")
	}
	ch.unacked.takeUpTo(0, func(_ uint64, e unackedEntry) { e.held.settle(e.message, requeued) })
	ch.makeRoom()
	ch.conn.flush()
	if answer {
		ch.reply(&amqp.BasicRecoverOk{})
	}
	return nil
}
