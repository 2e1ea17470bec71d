package broker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// deathWindow is how many messages the dead-letter worker looks up at a time.
// Of all others that wait it knows only the ranges of their ids.
const deathWindow = 256

// deadLetterExchange returns the exchange that q's dead letters go to, and
// their routing key; keyed is false where they keep their own. ok is false for
// a queue that has no dead-letter exchange.
func deadLetterExchange(q *topology.Queue) (exchange, key string, keyed, ok bool) {
	exchange, ok = q.Arguments["x-dead-letter-exchange"].(string)
	key, keyed = q.Arguments["x-dead-letter-routing-key"].(string)
	return exchange, key, keyed, ok
}

// mayDeadLetter is a check that the user may let a new queue dead-letter, which
// is to read from it and to write to the exchange (RabbitMQ's access control).
func (c *conn) mayDeadLetter(m *amqp.QueueDeclare) func(*topology.State) *amqp.Error {
	return func(s *topology.State) *amqp.Error {
		exchange, ok := m.Arguments["x-dead-letter-exchange"].(string)
		if !ok || s.Queue(c.vhost, m.Queue) != nil {
			return nil
		}
		if refusal := c.permitted(s, topology.Read, topology.QueueKind, m.Queue); refusal != nil {
			return refusal
		}
		return c.permitted(s, topology.Write, topology.ExchangeKind, exchange)
	}
}

// deaths are messages of one queue that are to be dead-lettered. They stay in
// their queue, given out to nobody, until their dead letters are where they go.
type deaths struct {
	source *group
	queue  *topology.Queue
	reason deathReason
	ranges []entry.Range
	// done is called once, in the order in which deaths were taken, when that
	// is so or the broker stops.
	done func()
	// after is the source's: what waits for the end of these.
	after []func()
	// open counts the submissions on their way, and the worker while it has
	// these in hand. Guarded by deadLetters.mu.
	open int
}

// deadLetters is the broker's dead-letter worker: one goroutine that reads
// dead messages, routes them on and settles them.
//
// Every message goes on at least once: its settling is in the same entry as
// its dead letters where they go to queues of its own group, and is submitted
// after they are committed where not. What a crash or a stop cuts short is
// found in the source again and given out as redelivered. What no queue takes,
// or whose exchange is missing, is settled and so dropped (as in RabbitMQ).
type deadLetters struct {
	view     func(func(*topology.State))
	group    func(entry.GroupID) *gateway
	contents *contentReader // the worker's
	logger   *slog.Logger
	now      func() time.Time

	mu struct {
		sync.Mutex
		taken    []*deaths // not done, in order
		next     int       // taken[next:] wait for the worker
		inFlight inFlight
		stopped  bool
	}
	changed sync.Cond
}

func newDeadLetters(b *Broker) *deadLetters {
	d := &deadLetters{view: b.view, group: b.group, contents: b.contents(b.context), logger: b.logger, now: time.Now}
	d.changed.L = &d.mu
	return d
}

// take hands deaths to the worker. It never blocks; who causes deaths bounds
// how many are taken and not done.
func (d *deadLetters) take(x *deaths) {
	d.mu.Lock()
	if d.mu.stopped {
		d.mu.Unlock()
		x.done()
		return
	}
	x.open = 1
	d.mu.taken = append(d.mu.taken, x)
	d.changed.Broadcast()
	d.mu.Unlock()
}

// run is the worker's goroutine. It ends with ctx; what it has not come to then
// stays in its queue.
func (d *deadLetters) run(ctx context.Context) {
	unhook := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		d.mu.stopped = true
		d.changed.Broadcast()
		d.mu.Unlock()
	})
	defer unhook()
	for {
		x, stopped := d.pick()
		if x == nil {
			return
		}
		if !stopped {
			if err := d.handle(ctx, x); err != nil && ctx.Err() == nil {
				d.logger.Warn("dead messages stay in their queue", "queue", x.queue.Name, "vhost", x.queue.Vhost, "err", err)
			}
		}
		d.close(x)
	}
}

// pick waits for deaths, and returns nil when there are none and the worker
// has stopped.
func (d *deadLetters) pick() (x *deaths, stopped bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.mu.next == len(d.mu.taken) {
		if d.mu.stopped {
			return nil, true
		}
		d.contents.rest()
		d.changed.Wait()
	}
	x = d.mu.taken[d.mu.next]
	d.mu.next++
	return x, d.mu.stopped
}

// close counts down what is open of x, and tells those whose turn it is that
// they are done.
func (d *deadLetters) close(x *deaths) {
	d.mu.Lock()
	x.open--
	n := 0
	for n < d.mu.next && d.mu.taken[n].open == 0 {
		n++
	}
	done := slices.Clone(d.mu.taken[:n])
	d.mu.taken = slices.Delete(d.mu.taken, 0, n)
	d.mu.next -= n
	d.changed.Broadcast()
	d.mu.Unlock()
	for _, x := range done {
		x.done()
	}
}

// drain waits until nothing is left to do, or ctx ends.
func (d *deadLetters) drain(ctx context.Context) {
	unhook := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		d.changed.Broadcast()
		d.mu.Unlock()
	})
	defer unhook()
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.mu.taken) > 0 && !d.mu.stopped && ctx.Err() == nil {
		d.changed.Wait()
	}
}

// handle submits the dead letters of x.
func (d *deadLetters) handle(ctx context.Context, x *deaths) error {
	batch := &letters{of: x}
	for rest := x.ranges; len(rest) > 0; {
		var window []entry.Range
		window, rest = cutRanges(rest, deathWindow)
		messages, err := x.source.messages(ctx, x.queue.ID, window)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := d.letter(batch, m); err != nil {
				if d.deleted(x.queue) {
					return nil
				}
				d.logger.Error("a dead message stays in its queue", "queue", x.queue.Name, "vhost", x.queue.Vhost,
					"message", uint64(m.ID), "err", err)
				continue
			}
			if batch.size >= flushBytes {
				if err := d.submit(batch); err != nil {
					return err
				}
				batch = &letters{of: x}
			}
		}
	}
	return d.submit(batch)
}

// cutRanges cuts off ranges with at most n ids.
func cutRanges(ranges []entry.Range, n uint64) (head, rest []entry.Range) {
	for i, r := range ranges {
		if r.Len() > n {
			if n > 0 {
				head = append(head, entry.Range{First: r.First, Last: r.First + entry.MessageID(n) - 1})
			}
			rest = append(rest, entry.Range{First: r.First + entry.MessageID(n), Last: r.Last})
			return head, append(rest, ranges[i+1:]...)
		}
		head = append(head, r)
		n -= r.Len()
	}
	return head, nil
}

func (d *deadLetters) deleted(q *topology.Queue) (deleted bool) {
	d.view(func(s *topology.State) { deleted = s.QueueByID(q.ID) == nil })
	return deleted
}

// letters are dead letters that are submitted together.
type letters struct {
	of    *deaths
	parts []letterPart
	// settled are the messages that go to no other group than their own, and
	// later those that do: they are settled when their dead letters are there.
	settled, later []entry.Range
	size           int // bytes of all ops, about
}

// letterPart is what goes to one group. queues is of the message at hand.
type letterPart struct {
	group  *gateway
	ops    []byte
	queues []entry.QueueID
}

// part returns the part of a group; nil if the group is not on this broker.
func (b *letters) part(g *gateway) *letterPart {
	if g == nil {
		return nil
	}
	for i := range b.parts {
		if b.parts[i].group == g {
			return &b.parts[i]
		}
	}
	b.parts = append(b.parts, letterPart{group: g, ops: takeOps()})
	return &b.parts[len(b.parts)-1]
}

// letter adds the dead letters of one message.
func (d *deadLetters) letter(b *letters, m queue.Message) error {
	x := b.of
	exchange, key, keyed, ok := deadLetterExchange(x.queue)
	if !ok {
		b.settled = entry.AppendID(b.settled, m.ID)
		return nil
	}
	content, err := d.contents.content(x.source.id, m.Ref)
	if err != nil {
		return err
	}
	var p amqp.Properties
	if err := p.Parse(content.Properties); err != nil {
		return err
	}
	keys := []string{key}
	if !keyed {
		key = string(content.RoutingKey)
		keys = routingKeys(key, p.Headers)
	}
	died := death{
		queue: x.queue.Name, exchange: string(content.Exchange), reason: x.reason, key: string(content.RoutingKey), at: d.now(),
	}
	died.deadLettered(&p, keyed)
	foreign := false
	for _, q := range d.route(x.queue.Vhost, exchange, keys, p.Headers) {
		if x.reason != deathRejected && goesRound(q.Name, p.Headers) {
			continue
		}
		part := b.part(d.group(q.Group))
		if part == nil {
			for i := range b.parts {
				b.parts[i].queues = b.parts[i].queues[:0]
			}
			return notHere(q)
		}
		part.queues = append(part.queues, q.ID)
		foreign = foreign || q.Group != x.source.id
	}
	properties := p.Append(nil)
	for i := range b.parts {
		part := &b.parts[i]
		if len(part.queues) == 0 {
			continue
		}
		part.ops = appendPublish(part.ops, part.queues, []byte(exchange), []byte(key), properties, len(content.Body))
		part.ops = append(part.ops, content.Body...)
		part.queues = part.queues[:0]
		b.size += len(content.Body) + len(properties) + 64
	}
	if foreign {
		b.later = entry.AppendID(b.later, m.ID)
	} else {
		b.settled = entry.AppendID(b.settled, m.ID)
	}
	b.size += 16
	return nil
}

// route returns the queues that a dead letter goes to, each once; none where
// its exchange is missing. Nobody's permissions are asked: those of who
// declared the queue were.
func (d *deadLetters) route(vhost, exchange string, keys []string, headers amqp.Table) (queues []*topology.Queue) {
	d.view(func(s *topology.State) {
		for _, key := range keys {
			before := len(queues)
			queues, _ = s.Route(vhost, []byte(exchange), []byte(key), func() amqp.Table { return headers }, queues)
			seen := queues[:before]
			added := slices.DeleteFunc(queues[before:], func(q *topology.Queue) bool { return slices.Contains(seen, q) })
			queues = queues[:before+len(added)]
		}
	})
	return queues
}

// submit hands the letters to their groups; b must not change after. It waits
// while too many are on their way, and returns an error when the broker stops.
func (d *deadLetters) submit(b *letters) error {
	x := b.of
	if len(b.settled) > 0 {
		part := b.part(d.group(x.source.id))
		part.ops = queue.AppendSettle(part.ops, x.queue.ID, b.settled)
	}
	if len(b.parts) == 0 {
		return nil
	}
	if !d.depart(x, b.size) {
		return errStopping
	}
	var refused atomic.Bool
	landed := newCountdown(len(b.parts), func() {
		if len(b.later) == 0 || refused.Load() {
			d.arrived(x, b.size)
			return
		}
		ops := queue.AppendSettle(takeOps(), x.queue.ID, b.later)
		d.group(x.source.id).submit(&submission{ops: ops, done: func(outcome) { d.arrived(x, b.size) }})
	})
	for _, part := range b.parts {
		part.group.submit(&submission{ops: part.ops, done: func(o outcome) {
			if o.err != nil {
				// The broker stops: the messages are there at its next start.
				refused.Store(true)
			}
			landed.arrive()
		}})
	}
	return nil
}

// depart waits for room among what is on its way; false when the worker stops.
func (d *deadLetters) depart(x *deaths, size int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.mu.inFlight.fits(size) && !d.mu.stopped {
		d.changed.Wait()
	}
	if d.mu.stopped {
		return false
	}
	x.open++
	d.mu.inFlight.count++
	d.mu.inFlight.bytes += size
	return true
}

func (d *deadLetters) arrived(x *deaths, size int) {
	d.mu.Lock()
	d.mu.inFlight.count--
	d.mu.inFlight.bytes -= size
	d.mu.Unlock()
	d.close(x)
}
