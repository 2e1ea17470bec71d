package topology

import (
	"cmp"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// Binding says that what Source routes by RoutingKey and Arguments goes to
// Destination, a queue or (ToExchange) an exchange of the same vhost. All of it
// is its identity: the same ends can be bound many times.
type Binding struct {
	Vhost, Source string
	ToExchange    bool
	Destination   string
	RoutingKey    string
	Arguments     amqp.Table
}

// binding is a Binding whose ends are found.
type binding struct {
	source *exchange
	// Invariant: one of queue and exchange is nil.
	queue    *Queue
	exchange *exchange
	key      string
	// arguments is the table as AppendTable encodes it, "" for an empty one:
	// equal tables have equal strings.
	arguments string
	table     amqp.Table
	// at is the place in the destination's list of bindings.
	at int
	// match is what a headers exchange keeps of the binding.
	match *headersMatch
}

// bindingKey tells the bindings from one exchange apart.
type bindingKey struct {
	toExchange                  bool
	destination, key, arguments string
}

func (b *binding) destination() string {
	if b.queue != nil {
		return b.queue.Name
	}
	return b.exchange.Name
}

func (b *binding) identity() bindingKey {
	return bindingKey{b.exchange != nil, b.destination(), b.key, b.arguments}
}

func (b *binding) incoming() *[]*binding {
	if b.queue != nil {
		return b.queue.in
	}
	return &b.exchange.in
}

// arrive enters b in its destination's list, depart takes it out.
func (b *binding) arrive() {
	in := b.incoming()
	b.at = len(*in)
	*in = append(*in, b)
}

func (b *binding) depart() {
	in := b.incoming()
	last := len(*in) - 1
	moved := (*in)[last]
	(*in)[b.at], moved.at = moved, b.at
	(*in)[last] = nil
	*in = (*in)[:last]
}

func (b *binding) view() Binding {
	return Binding{
		Vhost: b.source.Vhost, Source: b.source.Name, ToExchange: b.exchange != nil,
		Destination: b.destination(), RoutingKey: b.key, Arguments: b.table,
	}
}

// compareBindings orders bindings by source, destination, key and arguments.
func compareBindings(a, b *binding) int {
	return cmp.Or(
		cmp.Compare(a.source.Name, b.source.Name),
		cmp.Compare(boolInt(a.exchange != nil), boolInt(b.exchange != nil)),
		cmp.Compare(a.destination(), b.destination()),
		cmp.Compare(a.key, b.key),
		cmp.Compare(a.arguments, b.arguments),
	)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// encodeArguments is what tells tables apart in a binding's identity.
func encodeArguments(t amqp.Table) (string, error) {
	if len(t) == 0 {
		return "", nil
	}
	b, err := amqp.AppendTable(nil, t)
	return string(b), err
}
