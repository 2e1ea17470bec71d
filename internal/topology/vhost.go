package topology

import "github.com/mirrormq/mirrormq/internal/amqp"

// Vhost is a virtual host: a name space of exchanges and queues.
type Vhost struct {
	Name, Description string
	Tags              []string
	// DefaultQueueType is the type of queues declared without x-queue-type;
	// "" means classic.
	DefaultQueueType string
}

type vhost struct {
	Vhost
	exchanges map[string]*exchange
	queues    map[string]*Queue
}

func newVhost(v Vhost) *vhost {
	h := &vhost{Vhost: v, exchanges: make(map[string]*exchange), queues: make(map[string]*Queue)}
	for _, e := range predeclared(v.Name) {
		h.exchanges[e.Name] = newExchange(e)
	}
	return h
}

// bind adds a binding between ends of h. It reports false where it is there
// already. What it takes for granted: the ends are there, the source isn't the
// default exchange.
func (h *vhost) bind(b *binding) bool {
	if _, found := b.source.out[b.identity()]; found {
		return false
	}
	b.source.attach(b)
	b.arrive()
	return true
}

// unbind takes a binding away, and its source if that deletes itself with its
// last binding.
func (h *vhost) unbind(b *binding, fx *Effects) {
	b.depart()
	b.source.detach(b)
	if x := b.source; x.AutoDelete && len(x.out) == 0 {
		h.removeExchange(x, fx)
	}
}

// removeExchange takes x away with its bindings, and then every auto-delete
// exchange that has lost its last binding by that. A list, not recursion: a
// client can chain any number of them.
func (h *vhost) removeExchange(x *exchange, fx *Effects) {
	for work := []*exchange{x}; len(work) > 0; {
		x := work[len(work)-1]
		work = work[:len(work)-1]
		if h.exchanges[x.Name] != x {
			continue
		}
		delete(h.exchanges, x.Name)
		fx.ExchangesDeleted = append(fx.ExchangesDeleted, &x.Exchange)
		for _, b := range x.out {
			b.depart()
		}
		x.out = nil
		for _, b := range x.in {
			source := b.source
			source.detach(b)
			if source.AutoDelete && len(source.out) == 0 {
				work = append(work, source)
			}
		}
		x.in = nil
	}
}

// removeQueue takes q away with its bindings.
func (h *vhost) removeQueue(q *Queue, fx *Effects) {
	delete(h.queues, q.Name)
	fx.QueuesDeleted = append(fx.QueuesDeleted, q)
	for len(*q.in) > 0 {
		h.unbind((*q.in)[len(*q.in)-1], fx)
	}
}

// resolve finds the ends of a binding. Where that fails the result says why,
// source first, as RabbitMQ looks.
func (h *vhost) resolve(b *Binding) (*binding, OpResult) {
	if b.Source == "" || b.ToExchange && b.Destination == "" {
		return nil, OpResult{Code: Refused}
	}
	r := &binding{source: h.exchanges[b.Source], key: b.RoutingKey, table: b.Arguments}
	if r.source == nil {
		return nil, OpResult{Code: NoExchange, Name: b.Source}
	}
	if b.ToExchange {
		if r.exchange = h.exchanges[b.Destination]; r.exchange == nil {
			return nil, OpResult{Code: NoExchange, Name: b.Destination}
		}
	} else if r.queue = h.queues[b.Destination]; r.queue == nil {
		return nil, OpResult{Code: NoQueue, Name: b.Destination}
	}
	var err error
	if r.arguments, err = encodeArguments(b.Arguments); err != nil {
		return nil, OpResult{Code: Invalid, Name: b.Source}
	}
	return r, OpResult{}
}

// alternate is the alternate-exchange argument, "" where there is none.
func alternate(arguments amqp.Table) string {
	name, _ := arguments["alternate-exchange"].(string)
	return name
}
