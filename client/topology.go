package client

import (
	"crypto/rand"
	"fmt"
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Headers are the headers of a message and the arguments of a declaration.
// Values are those that AMQP tables can hold: bool, integers, floats, string,
// []byte, time.Time, nil, []any and Headers.
type Headers = amqp.Table

// Declaration is a Queue, an Exchange or a Binding.
type Declaration interface {
	// declare makes it, if it is not there, over a channel.
	declare(*amqp.Channel) error
	// remove deletes it; nil if it is not there.
	remove(*amqp.Channel) error
	// id tells it from all others of its client.
	id() declarationID
	validate() error
}

// declarationID names a declaration: what kind it is and which one.
type declarationID struct{ kind, name string }

// Kinds of queues, as Queue.Type.
const (
	// ClassicQueue and QuorumQueue are RabbitMQ's types. In MirrorMQ both are the
	// same replicated queue.
	ClassicQueue = "classic"
	QuorumQueue  = "quorum"
)

// Overflow says what becomes of messages that are too many for a queue.
type Overflow string

const (
	// DropHead drops the oldest ones, or dead-letters them.
	DropHead Overflow = "drop-head"
	// RejectPublish nacks the new ones.
	RejectPublish Overflow = "reject-publish"
	// RejectPublishDLX nacks and dead-letters the new ones.
	RejectPublishDLX Overflow = "reject-publish-dlx"
)

// DeadLetter says where messages go that were rejected, that have expired, or
// that were too many.
type DeadLetter struct {
	// Exchange, and the queue by RoutingKey for the default exchange "".
	Exchange string
	// RoutingKey replaces that of the message, unless it is "".
	RoutingKey string
}

// Queue declares a queue. The zero value of a field leaves the matter to the
// broker. MirrorMQ takes Expires, MaxLength, MaxBytes, Overflow, MaxPriority,
// DeliveryLimit and SingleActive, and does not act on them yet; RabbitMQ does.
type Queue struct {
	// Name is required; UniqueName makes one up.
	Name string
	// Type is ClassicQueue, QuorumQueue or "".
	Type string
	// Transient queues need not survive their broker; Exclusive ones are for this
	// client only and end with its connection; AutoDelete ones end with their last
	// consumer. Declared again after a reconnect, they are empty.
	Transient, Exclusive, AutoDelete bool
	// AckQuorum is when a publish is confirmed: "leader", "majority", "all" or a
	// number of copies on disk. MirrorMQ only.
	AckQuorum string
	// TTL is how long a message may wait; a message's own may be shorter.
	TTL time.Duration
	// Expires is how long the queue stays without use.
	Expires time.Duration
	// MaxLength and MaxBytes bound what waits; Overflow says what happens then.
	MaxLength, MaxBytes int64
	Overflow            Overflow
	// DeadLetter is where messages go that end otherwise than by an ack.
	DeadLetter *DeadLetter
	// MaxPriority is the highest priority that counts.
	MaxPriority uint8
	// DeliveryLimit is how often a message is redelivered before it is
	// dead-lettered.
	DeliveryLimit int
	// SingleActive has only one of the queue's consumers served at a time.
	SingleActive bool
	// Arguments are further ones; they replace those that the fields above stand
	// for.
	Arguments Headers
}

// UniqueName makes up the name of a queue that no other client has, prefix and
// 26 letters and digits.
func UniqueName(prefix string) string { return prefix + rand.Text() }

func (q Queue) id() declarationID { return declarationID{"queue", q.Name} }

func (q Queue) validate() error {
	switch {
	case q.Name == "":
		return fmt.Errorf("client: a queue needs a name; UniqueName makes one up")
	case q.TTL < 0 || q.Expires < 0 || q.MaxLength < 0 || q.MaxBytes < 0 || q.DeliveryLimit < 0:
		return fmt.Errorf("client: queue %q: times and limits are not below 0", q.Name)
	}
	return nil
}

// arguments are the x-arguments that the fields stand for.
func (q Queue) arguments() amqp.Table {
	table := amqp.Table{}
	add := func(name string, value any, given bool) {
		if given {
			table[name] = value
		}
	}
	add("x-queue-type", q.Type, q.Type != "")
	add("x-ack-quorum", q.AckQuorum, q.AckQuorum != "")
	add("x-message-ttl", q.TTL.Milliseconds(), q.TTL > 0)
	add("x-expires", q.Expires.Milliseconds(), q.Expires > 0)
	add("x-max-length", q.MaxLength, q.MaxLength > 0)
	add("x-max-length-bytes", q.MaxBytes, q.MaxBytes > 0)
	add("x-overflow", string(q.Overflow), q.Overflow != "")
	if d := q.DeadLetter; d != nil {
		add("x-dead-letter-exchange", d.Exchange, true)
		add("x-dead-letter-routing-key", d.RoutingKey, d.RoutingKey != "")
	}
	add("x-max-priority", int64(q.MaxPriority), q.MaxPriority > 0)
	add("x-delivery-limit", int64(q.DeliveryLimit), q.DeliveryLimit > 0)
	add("x-single-active-consumer", true, q.SingleActive)
	maps.Copy(table, q.Arguments)
	return table
}

func (q Queue) declare(ch *amqp.Channel) error {
	_, err := ch.QueueDeclare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, q.arguments())
	return err
}

func (q Queue) remove(ch *amqp.Channel) error {
	_, err := ch.QueueDelete(q.Name, false, false, false)
	return err
}

// Exchange declares an exchange.
type Exchange struct {
	Name string
	// Kind is direct, fanout, topic, headers, or one that the broker has besides.
	Kind string
	// Transient exchanges need not survive a restart; AutoDelete ones end with
	// their last binding; Internal ones can't be published to.
	Transient, AutoDelete, Internal bool
	// Alternate is the exchange that takes what this one can't route.
	Alternate string
	// Arguments are further ones.
	Arguments Headers
}

func (e Exchange) id() declarationID { return declarationID{"exchange", e.Name} }

func (e Exchange) validate() error {
	if e.Name == "" || e.Kind == "" {
		return fmt.Errorf("client: exchange %q of kind %q: it needs a name and a kind", e.Name, e.Kind)
	}
	return nil
}

func (e Exchange) declare(ch *amqp.Channel) error {
	arguments := amqp.Table{}
	if e.Alternate != "" {
		arguments["alternate-exchange"] = e.Alternate
	}
	maps.Copy(arguments, e.Arguments)
	return ch.ExchangeDeclare(e.Name, e.Kind, !e.Transient, e.AutoDelete, e.Internal, false, arguments)
}

func (e Exchange) remove(ch *amqp.Channel) error { return ch.ExchangeDelete(e.Name, false, false) }

// Binding has an exchange route to a queue or to another exchange.
type Binding struct {
	Exchange string
	// Queue or ToExchange is where messages go.
	Queue, ToExchange string
	RoutingKey        string
	// Arguments are what a headers exchange matches by.
	Arguments Headers
}

func (b Binding) id() declarationID {
	return declarationID{"binding", fmt.Sprintf("%q %q %q %q %v", b.Exchange, b.Queue, b.ToExchange, b.RoutingKey, b.Arguments)}
}

func (b Binding) validate() error {
	if b.Exchange == "" || (b.Queue == "") == (b.ToExchange == "") {
		return fmt.Errorf("client: a binding needs an exchange, and a queue or another exchange to route to")
	}
	return nil
}

func (b Binding) declare(ch *amqp.Channel) error {
	if b.Queue != "" {
		return ch.QueueBind(b.Queue, b.RoutingKey, b.Exchange, false, b.Arguments)
	}
	return ch.ExchangeBind(b.ToExchange, b.RoutingKey, b.Exchange, false, b.Arguments)
}

func (b Binding) remove(ch *amqp.Channel) error {
	if b.Queue != "" {
		return ch.QueueUnbind(b.Queue, b.RoutingKey, b.Exchange, b.Arguments)
	}
	return ch.ExchangeUnbind(b.ToExchange, b.RoutingKey, b.Exchange, false, b.Arguments)
}
