package broker

import "github.com/mirrormq/mirrormq/internal/amqp"

// What a broker that was stopped still has for its clients, others may have got
// since. The writer withholds it until the group's leader has said whose it is.
// What the socket had taken by then is beyond it.

// ours reports whether a delivery that came before a stop, or one behind such, is
// to be written now. Else it is withheld, or dropped.
func (w *writer) ours(d *delivery) bool {
	to := d.to
	if to.waiting > 0 {
		w.wait(d)
		return false
	}
	c := claim{to.channel.holder, to.queue.ID}
	switch to.held.lane.group.judge(c, d.message, d.round, w.round) {
	case ours:
		return true
	case others:
		w.drop(d)
	default:
		w.wait(d)
	}
	return false
}

func (w *writer) wait(d *delivery) {
	w.withheld = append(w.withheld, *d)
	d.to.waiting++
}

// drop passes over a delivery that is another's by now.
func (w *writer) drop(d *delivery) {
	to := d.to
	w.conn.log.Debug("a delivery from before a stop is another's by now", "queue", to.queue.Name, "message", uint64(d.message))
	if to.get { // The client waits for an answer.
		w.buffer = amqp.AppendMethod(w.buffer, to.channel.number, &amqp.BasicGetEmpty{})
		return
	}
	if !to.noAck { // Else the gateway gave credit for it.
		w.passed(to)
	}
}

// passed makes room for the next in the place of a delivery that was not written.
func (w *writer) passed(to *subscriber) {
	w.creditOne(to)
	if channel := to.channel; !to.noAck && channel.shared.Load() > 0 {
		w.conn.out.mu.Lock()
		channel.window.settled(1, &w.conn.out)
		w.conn.out.mu.Unlock()
	}
}

// release writes what was withheld and has been judged since, in order.
func (w *writer) release() error {
	withheld := w.withheld
	w.withheld = nil
	w.contents.expect(withheld)
	for i := range withheld {
		withheld[i].to.waiting = 0
	}
	for i := range withheld {
		if err := w.delivery(&withheld[i]); err != nil {
			return err
		}
		if err := w.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// withhold takes the deliveries out of the buffer, which were encoded before the
// broker was stopped.
func (w *writer) withhold() {
	kept, at := w.buffer[:0], 0
	for i := range w.encoded {
		e := &w.encoded[i]
		if e.from == e.to {
			w.wrote(e)
			continue
		}
		kept = append(kept, w.buffer[at:e.from]...)
		at = e.to
		// A client may have acked all there is before it had this.
		if _, has := e.delivery.to.channel.unacked.take(e.tag); has || e.delivery.to.noAck {
			w.wait(e.delivery)
		}
	}
	w.buffer = append(kept, w.buffer[at:]...)
	clear(w.encoded)
	w.encoded = w.encoded[:0]
}
