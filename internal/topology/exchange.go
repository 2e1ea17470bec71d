package topology

import "github.com/mirrormq/mirrormq/internal/amqp"

// Exchange is an exchange as it was declared.
type Exchange struct {
	Vhost, Name string
	// Kind is "direct", "fanout", "topic" or "headers".
	Kind                          string
	Durable, AutoDelete, Internal bool
	Arguments                     amqp.Table
	// Alternate is the alternate-exchange argument.
	Alternate string
	// Predeclared exchanges come with their vhost and can't be deleted.
	Predeclared bool
}

// kind is an exchange's way of routing.
type kind uint8

const (
	noKind kind = iota
	direct
	fanout
	topic
	headers
)

func kindOf(name string) kind {
	switch name {
	case "direct":
		return direct
	case "fanout":
		return fanout
	case "topic":
		return topic
	case "headers":
		return headers
	}
	return noKind
}

// exchange is an Exchange with its bindings.
type exchange struct {
	Exchange
	kind kind
	// out has the bindings from this exchange, in the index that its kind
	// routes by as well; in has those to it.
	out map[bindingKey]*binding
	in  []*binding

	direct  map[string]*leaf
	fanout  leaf
	topic   topicNode
	headers headersTable
}

func newExchange(e Exchange) *exchange {
	return &exchange{Exchange: e, kind: kindOf(e.Kind)}
}

// predeclared are the exchanges of every vhost (RABBITMQ.md 9). The first is
// the default exchange: it has no bindings of its own, the router knows it.
func predeclared(vhost string) []Exchange {
	list := []Exchange{
		{Name: "", Kind: "direct"},
		{Name: "amq.direct", Kind: "direct"},
		{Name: "amq.fanout", Kind: "fanout"},
		{Name: "amq.headers", Kind: "headers"},
		{Name: "amq.match", Kind: "headers"},
		{Name: "amq.rabbitmq.trace", Kind: "topic", Internal: true},
		{Name: "amq.topic", Kind: "topic"},
	}
	for i := range list {
		list[i].Vhost, list[i].Durable, list[i].Predeclared = vhost, true, true
	}
	return list
}

// attach puts b into the index.
func (x *exchange) attach(b *binding) {
	if x.out == nil {
		x.out = make(map[bindingKey]*binding)
	}
	x.out[b.identity()] = b
	switch x.kind {
	case direct:
		if x.direct == nil {
			x.direct = make(map[string]*leaf)
		}
		l := x.direct[b.key]
		if l == nil {
			l = new(leaf)
			x.direct[b.key] = l
		}
		l.add(b)
	case fanout:
		x.fanout.add(b)
	case topic:
		x.topic.insert(b)
	case headers:
		x.headers.insert(b)
	}
}

// detach takes b out of the index.
// REQUIRES: b is attached to x.
func (x *exchange) detach(b *binding) {
	delete(x.out, b.identity())
	switch x.kind {
	case direct:
		if l := x.direct[b.key]; l.remove(b) {
			delete(x.direct, b.key)
		}
	case fanout:
		x.fanout.remove(b)
	case topic:
		x.topic.remove(b)
	case headers:
		x.headers.remove(b)
	}
}
