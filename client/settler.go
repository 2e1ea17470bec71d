package client

import (
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// lateConfirm is how long only the oldest message in flight is waited for: when
// it is later than that, the others are looked through.
const lateConfirm = 10 * time.Millisecond

// settle ends messages as their confirms come, until the producer ends.
//
// Confirms mostly come in the order of sending, so it waits for the oldest
// message's and then takes all that have come. While that one is late the others
// are looked through from time to time, so that a queue that is stuck does not
// hold up who publishes to others.
func (p *Producer) settle() {
	tick := time.NewTimer(time.Hour)
	defer tick.Stop()
	tick.Stop()
	ticking := false
	var late int64         // sequence of the oldest in flight at the last tick
	var exhausted *channel // its returns are closed
	for {
		at := p.front()
		if at.busy && !ticking {
			tick.Reset(lateConfirm)
			ticking = true
		}
		var returns <-chan amqp.Return
		if at.channel != nil && at.channel != exhausted {
			returns = at.channel.returns
		}
		select {
		case <-at.confirmed:
			p.sweep(false)
		case r, ok := <-returns:
			if ok {
				p.note(r)
			} else {
				exhausted = at.channel
			}
		case <-p.sent:
		case <-tick.C:
			ticking = false
			p.sweep(at.sequence == late)
			p.expire()
			late = at.sequence
		case <-p.running.Done():
			return
		}
	}
}

// front is what settle waits for.
type front struct {
	channel   *channel        // nil while there is none
	confirmed <-chan struct{} // of the oldest message in flight; nil for none
	sequence  int64           // its sequence
	busy      bool            // messages have not ended
}

func (p *Producer) front() front {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := front{channel: p.mu.channel, busy: p.mu.live > 0}
	p.dropEmpty()
	// What its channel's end has settled is recover's.
	if p.mu.flight.len > 0 {
		if r := p.mu.flight.at(0); !r.settled() || !p.lost(r) {
			f.confirmed, f.sequence = r.confirmation.Done(), r.sequence
		}
	}
	return f
}

// dropEmpty drops what has ended out of turn and is the oldest now. REQUIRES: mu
// held.
func (p *Producer) dropEmpty() {
	for flight := &p.mu.flight; flight.len > 0 && flight.at(0) == nil; {
		flight.pop()
	}
}

// lost says whether a settled message may not be there because its channel is
// gone. REQUIRES: mu held.
func (p *Producer) lost(r *pending) bool {
	return !r.confirmation.Acked() && (p.mu.channel == nil || p.mu.channel.IsClosed())
}

// sweep ends the oldest messages in flight that are settled, or of all in flight.
func (p *Producer) sweep(all bool) {
	p.mu.Lock()
	defer p.unlock()
	if p.mu.channel == nil {
		return // They are waiting again.
	}
	flight := &p.mu.flight
	settled := p.mu.settled[:0]
	for i := range flight.len {
		r := flight.at(i)
		switch {
		case r == nil:
			continue
		case r.settled():
			settled = append(settled, i)
			continue
		case all:
			continue
		}
		break
	}
	p.mu.settled = settled
	// Only now: a return comes before its confirm.
	p.noteReturns(p.mu.channel)
	for _, i := range settled {
		r := flight.at(i)
		switch {
		case r.confirmation.Acked():
			p.confirmed(r)
		case p.lost(r):
			continue
		default:
			p.client.counts.nacked.Add(1)
			p.finish(r, ErrNacked)
		}
		flight.clear(i)
	}
	p.dropEmpty()
	if p.mu.waiting.len > 0 {
		signal(p.wake) // It may have waited for room among the sequences.
	}
}

// confirmed ends a message that is confirmed. REQUIRES: mu held.
func (p *Producer) confirmed(r *pending) {
	if r.returned != nil {
		p.client.counts.returned.Add(1)
		p.finish(r, r.returned)
		return
	}
	p.client.counts.confirmed.Add(1)
	p.finish(r, nil)
}

// noteReturns notes what has come back over a channel so far. REQUIRES: mu held.
func (p *Producer) noteReturns(ch *channel) {
	for {
		select {
		case r, ok := <-ch.returns:
			if !ok {
				return
			}
			p.noteReturn(&r)
		default:
			return
		}
	}
}

func (p *Producer) note(r amqp.Return) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteReturn(&r)
}

// noteReturn finds the message that came back: the oldest where several have the
// same id. It may have come back before send has put it in flight. REQUIRES: mu
// held.
func (p *Producer) noteReturn(back *amqp.Return) {
	for i := range p.mu.flight.len {
		if r := p.mu.flight.at(i); r != nil && r.returned == nil && p.isReturned(r, back) {
			r.returned = newUnroutableError(back)
			return
		}
	}
	p.mu.strays = append(p.mu.strays, *back)
}

// claim looks whether what is in flight only now has come back already.
// REQUIRES: mu held.
func (p *Producer) claim(r *pending) {
	for i := range p.mu.strays {
		if p.isReturned(r, &p.mu.strays[i]) {
			r.returned = newUnroutableError(&p.mu.strays[i])
			p.mu.strays = slices.Delete(p.mu.strays, i, i+1)
			return
		}
	}
}

// isReturned says whether a message is the one that came back.
func (p *Producer) isReturned(r *pending, back *amqp.Return) bool {
	if !p.config.NotIdempotent {
		return back.Headers[sequenceHeader] == r.sequence
	}
	id := r.message.MessageID
	if id == "" {
		id = messageID(p.name, r.sequence)
	}
	return back.MessageId == id && back.Exchange == r.message.Exchange && back.RoutingKey == r.message.RoutingKey
}

func newUnroutableError(back *amqp.Return) *UnroutableError {
	return &UnroutableError{int(back.ReplyCode), back.ReplyText, back.Exchange, back.RoutingKey}
}

// expire ends what has taken longer than the producer's timeout. What is in
// flight stays there until it is settled, and is not sent again.
func (p *Producer) expire() {
	if p.config.Timeout < 0 {
		return
	}
	due := time.Now().Add(-p.config.Timeout)
	p.mu.Lock()
	defer p.unlock()
	for p.mu.waiting.len > 0 && p.mu.waiting.at(0).since.Before(due) {
		r := p.mu.waiting.pop()
		p.finish(r, notConfirmed(r, ErrTimeout))
	}
	for i := range p.mu.flight.len {
		r := p.mu.flight.at(i)
		if r == nil || r.ended {
			continue
		}
		if !r.since.Before(due) {
			break
		}
		p.end(r, notConfirmed(r, ErrTimeout))
	}
}
