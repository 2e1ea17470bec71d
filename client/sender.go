package client

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// maxSpan is how far the newest sequence in flight may be ahead of the oldest,
// whatever has ended between them: all have to stay within what a broker
// remembers, since any may have to be published again.
const maxSpan = 4000

// send sends what waits, in its order, and begins again over a new channel
// whenever one is closed.
func (p *Producer) send() {
	encoder := newEncoder(p.name, !p.config.NotIdempotent)
	for {
		ch := p.open()
		if ch == nil {
			break
		}
		p.mu.Lock()
		p.mu.channel = ch
		p.mu.Unlock()
		signal(p.sent)
		if !p.feed(ch, encoder) {
			patiently(func() { _ = ch.Close() }) // All has ended that can.
			break
		}
		p.recover(ch)
	}
	p.giveUp()
	p.cancel()
}

// feed sends over a channel until it is closed (true) or the producer ends.
func (p *Producer) feed(ch *channel, encoder *encoder) bool {
	for {
		var r *pending
		free := ch.session.free()
		select {
		case <-free:
			r, free = p.take(), nil
		default: // The broker blocks publishers.
			signal(p.sent) // What waits may run out of time.
		}
		if r == nil {
			select {
			case <-p.wake:
			case <-free:
			case ch.why = <-ch.closed:
				return true
			case <-p.running.Done():
				return false
			}
			continue
		}
		confirmation, err := encoder.publish(ch, &r.message, r.sequence)
		p.posted(r, confirmation)
		if err != nil {
			return true
		}
	}
}

// take takes what is to be sent next, nil for nothing.
func (p *Producer) take() *pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting, flight := &p.mu.waiting, &p.mu.flight
	p.dropEmpty()
	if waiting.len == 0 || flight.len > 0 && (p.mu.probing > 0 || waiting.at(0).sequence-flight.at(0).sequence >= maxSpan) {
		return nil
	}
	r := waiting.pop()
	p.mu.probing = max(p.mu.probing-1, 0)
	if r.sent {
		p.client.counts.republished.Add(1)
	}
	r.sent = true
	return r
}

// posted puts what was sent in flight, or back where it was not.
func (p *Producer) posted(r *pending, confirmation *amqp.DeferredConfirmation) {
	p.mu.Lock()
	defer p.unlock()
	switch {
	case confirmation != nil:
		p.client.counts.published.Add(1)
		r.confirmation = confirmation
		p.mu.flight.push(r)
		if p.mu.flight.len == 1 {
			signal(p.sent)
		}
		p.claim(r)
	case r.ended:
		p.finish(r, nil)
	default:
		p.mu.waiting.pushFront(r)
	}
}

// recover takes back what is in flight on a channel that is closed, to be sent
// again in its order before what waits.
//
// Where the broker has closed it because of one of these messages, it does not
// say which one: then they are sent one at a time until they have ended, and who
// closes a channel alone is refused.
func (p *Producer) recover(ch *channel) {
	why := awaitClosed(ch)
	p.mu.Lock()
	defer p.unlock()
	p.mu.channel = nil
	p.noteReturns(ch)
	p.mu.strays = nil
	var again []*pending
	for p.mu.flight.len > 0 {
		r := p.mu.flight.pop()
		switch {
		case r == nil:
		case r.ended:
			p.finish(r, nil)
		case r.settled() && r.confirmation.Acked():
			p.confirmed(r)
		default:
			again = append(again, r)
		}
	}
	switch {
	case isRefusal(why) && len(again) == 1:
		p.finish(again[0], why)
		again = nil
	case isRefusal(why) || p.mu.probing > 0:
		p.mu.probing += len(again)
	}
	for i := len(again) - 1; i >= 0; i-- {
		again[i].confirmation = nil
		p.mu.waiting.pushFront(again[i])
	}
	signal(p.sent)
}

// awaitClosed returns why a channel was closed that can't be used any more.
func awaitClosed(ch *channel) error {
	if ch.why != nil {
		return ch.why
	}
	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()
	select {
	case why := <-ch.closed: // nil where it was closed in order
		if why != nil {
			return why
		}
	case <-patience.C:
		_ = ch.Close() // It is not closed as it seems: at least it is now.
	}
	return errLost
}
