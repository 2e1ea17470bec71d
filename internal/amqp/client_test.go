package amqp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// The other implementation: an amqp091-go client talks over a pipe with a
// peer that is made of this package. The client says and hears random things
// of every kind, and both sides must have understood the same.

func TestAMQP091AndThisCodecUnderstandEachOther(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(10) {
		converse(t, seed+i)
	}
}

func FuzzConversationWithAMQP091(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { converse(t, seed) })
}

func converse(t *testing.T, seed uint64) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	r := rand.New(rand.NewPCG(seed, 0))
	clientEnd, serverEnd := net.Pipe()
	defer clientEnd.Close()
	p := &peer{
		conn: serverEnd, reader: NewReader(serverEnd, 131072),
		frameMax: []uint32{4096, 5000, 131072}[r.IntN(3)], properties: smallTable(r),
		heard: make(chan Method, 16), published: make(chan content, 16),
	}
	done := make(chan error, 1)
	go func() { done <- p.serve() }()

	clientProperties := smallTable(r)
	conn, err := amqp091.Open(clientEnd, amqp091.Config{
		SASL:  []amqp091.Authentication{&amqp091.PlainAuth{Username: "u", Password: "p"}},
		Vhost: "v", Properties: toAMQP091(clientProperties).(amqp091.Table), FrameSize: 131072,
	})
	if err != nil {
		t.Fatal(err)
	}
	// The client adds capabilities of its own to what it was given.
	startOk := (<-p.heard).(*ConnectionStartOk)
	for key, value := range clientProperties {
		if !reflect.DeepEqual(startOk.ClientProperties[key], value) {
			t.Errorf("client property %q: heard %v, said %v", key, startOk.ClientProperties[key], value)
		}
	}
	if got := fromAMQP091(conn.Properties); !reflect.DeepEqual(got, p.properties) {
		t.Errorf("server properties: heard %v, said %v", got, p.properties)
	}
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	declare(t, r, p, channel)
	exchangeMessages(t, r, p, channel)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the peer: %v", err)
	}
}

// declare sends random arguments with each method that has some.
func declare(t *testing.T, r *rand.Rand, p *peer, channel *amqp091.Channel) {
	t.Helper()
	arguments := smallTable(r)
	theirs := toAMQP091(arguments).(amqp091.Table)
	name := shortText(r)
	durable, autoDelete, other := r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
	queue, err := channel.QueueDeclare(name, durable, autoDelete, other, false, theirs)
	if err != nil {
		t.Fatal(err)
	}
	heard(t, p, &QueueDeclare{Queue: name, Durable: durable, AutoDelete: autoDelete, Exclusive: other, Arguments: arguments})
	if queue.Name != name || queue.Messages != 7 || queue.Consumers != 8 {
		t.Errorf("declare-ok: %+v", queue)
	}
	if err := channel.ExchangeDeclare(name, "topic", durable, autoDelete, other, false, theirs); err != nil {
		t.Fatal(err)
	}
	heard(t, p, &ExchangeDeclare{Exchange: name, Type: "topic", Durable: durable, AutoDelete: autoDelete, Internal: other, Arguments: arguments})
	if err := channel.QueueBind(name, "key", "exchange", false, theirs); err != nil {
		t.Fatal(err)
	}
	heard(t, p, &QueueBind{Queue: name, Exchange: "exchange", RoutingKey: "key", Arguments: arguments})
	if err := channel.ExchangeBind("to", "key", "from", false, theirs); err != nil {
		t.Fatal(err)
	}
	heard(t, p, &ExchangeBind{Destination: "to", Source: "from", RoutingKey: "key", Arguments: arguments})
	if err := channel.Qos(r.IntN(1<<16), 0, other); err != nil {
		t.Fatal(err)
	}
	if qos := (<-p.heard).(*BasicQos); qos.Global != other {
		t.Errorf("qos: %+v", qos)
	}
}

func heard(t *testing.T, p *peer, want Method) {
	t.Helper()
	if got := <-p.heard; !reflect.DeepEqual(got, want) {
		t.Errorf("heard %+v, want %+v", got, want)
	}
}

// exchangeMessages publishes random messages, which the peer delivers back,
// returns or keeps for a get.
func exchangeMessages(t *testing.T, r *rand.Rand, p *peer, channel *amqp091.Channel) {
	t.Helper()
	deliveries, err := channel.Consume("q", "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	heard(t, p, &BasicConsume{Queue: "q", ConsumerTag: "tag", Arguments: Table{}})
	if err := channel.Confirm(false); err != nil {
		t.Fatal(err)
	}
	heard(t, p, &ConfirmSelect{})
	confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, 1))
	returns := channel.NotifyReturn(make(chan amqp091.Return, 1))
	for tag := uint64(1); tag <= 12; tag++ {
		said := randomPublishing(r)
		key := []string{"deliver", "return", "get"}[r.IntN(3)]
		if err := channel.Publish("exchange", key, key == "return", false, said); err != nil {
			t.Fatal(err)
		}
		got := <-p.published
		if want := asProperties(said); !reflect.DeepEqual(got.properties, want) || !bytes.Equal(got.body, said.Body) {
			t.Errorf("published: heard %+v with %d bytes, said %+v with %d", got.properties, len(got.body), want, len(said.Body))
		}
		if got.mandatory != (key == "return") || got.exchange != "exchange" || got.key != key {
			t.Errorf("published: heard %+v", got)
		}
		switch key {
		case "deliver":
			d := <-deliveries
			compareMessage(t, said, d)
			if d.ConsumerTag != "tag" || d.DeliveryTag != tag || d.Redelivered != (tag%2 == 0) || d.Exchange != "exchange" || d.RoutingKey != key {
				t.Errorf("delivered: %+v", d)
			}
			settle(t, r, p, d)
		case "return":
			back := <-returns
			if back.ReplyCode != 312 || back.ReplyText != "NO_ROUTE" || !bytes.Equal(back.Body, said.Body) || !reflect.DeepEqual(fromAMQP091(back.Headers), fromAMQP091(said.Headers)) {
				t.Errorf("returned: %+v", back)
			}
		case "get":
			d, ok, err := channel.Get("q", true)
			if err != nil || !ok || d.MessageCount != 9 || d.DeliveryTag != tag {
				t.Fatalf("got: %+v, %t, %v", d, ok, err)
			}
			heard(t, p, &BasicGet{Queue: "q", NoAck: true})
			compareMessage(t, said, d)
		}
		if c := <-confirms; c.DeliveryTag != tag || c.Ack != (tag%3 != 0) {
			t.Errorf("confirmed: %+v", c)
		}
	}
}

// settle answers a delivery in one of the three ways.
func settle(t *testing.T, r *rand.Rand, p *peer, d amqp091.Delivery) {
	t.Helper()
	a, b := r.IntN(2) == 0, r.IntN(2) == 0
	switch r.IntN(3) {
	case 0:
		d.Ack(a)
		heard(t, p, &BasicAck{DeliveryTag: d.DeliveryTag, Multiple: a})
	case 1:
		d.Nack(a, b)
		heard(t, p, &BasicNack{DeliveryTag: d.DeliveryTag, Multiple: a, Requeue: b})
	case 2:
		d.Reject(a)
		heard(t, p, &BasicReject{DeliveryTag: d.DeliveryTag, Requeue: a})
	}
}

func compareMessage(t *testing.T, said amqp091.Publishing, got amqp091.Delivery) {
	t.Helper()
	back := amqp091.Publishing{
		Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding, DeliveryMode: got.DeliveryMode,
		Priority: got.Priority, CorrelationId: got.CorrelationId, ReplyTo: got.ReplyTo, Expiration: got.Expiration,
		MessageId: got.MessageId, Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId,
	}
	if a, b := asProperties(back), asProperties(said); !reflect.DeepEqual(a, b) || !bytes.Equal(got.Body, said.Body) {
		t.Errorf("heard %+v with %d bytes, said %+v with %d", a, len(got.Body), b, len(said.Body))
	}
}

// asProperties is what the client's message has for properties here.
func asProperties(m amqp091.Publishing) Properties {
	p := Properties{
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, DeliveryMode: m.DeliveryMode, Priority: m.Priority,
		CorrelationID: m.CorrelationId, ReplyTo: m.ReplyTo, Expiration: m.Expiration, MessageID: m.MessageId,
		Type: m.Type, UserID: m.UserId, AppID: m.AppId,
	}
	if len(m.Headers) > 0 {
		p.Headers = fromAMQP091(m.Headers).(Table)
	}
	if !m.Timestamp.IsZero() {
		p.Timestamp = m.Timestamp.UTC()
	}
	p.Present = p.flags()
	return p
}

func randomPublishing(r *rand.Rand) amqp091.Publishing {
	p := randomProperties(r)
	m := amqp091.Publishing{
		ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationId: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageID,
		Timestamp: p.Timestamp, Type: p.Type, UserId: p.UserID, AppId: p.AppID,
		Headers: toAMQP091(smallTable(r)).(amqp091.Table),
		Body:    bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN([]int{1, 100, 10_000, 300_000}[r.IntN(4)])),
	}
	return m
}

// smallTable fits a frame of 4096 octets, which nothing can be split over.
func smallTable(r *rand.Rand) Table {
	for {
		t := randomTable(r, 3)
		if b, err := AppendTable(nil, t); err == nil && len(b) < 1500 {
			return t
		}
	}
}

func shortText(r *rand.Rand) string { return fmt.Sprintf("name-%d", r.Uint32()) }

// toAMQP091 and fromAMQP091 change the types that the packages have of their
// own.
func toAMQP091(v any) any {
	switch v := v.(type) {
	case Table:
		t := amqp091.Table{}
		for key, value := range v {
			t[key] = toAMQP091(value)
		}
		return t
	case []any:
		a := make([]any, len(v))
		for i := range v {
			a[i] = toAMQP091(v[i])
		}
		return a
	case Decimal:
		return amqp091.Decimal(v)
	}
	return v
}

func fromAMQP091(v any) any {
	switch v := v.(type) {
	case amqp091.Table:
		t := Table{}
		for key, value := range v {
			t[key] = fromAMQP091(value)
		}
		return t
	case []any:
		a := make([]any, len(v))
		for i := range v {
			a[i] = fromAMQP091(v[i])
		}
		return a
	case amqp091.Decimal:
		return Decimal(v)
	case time.Time:
		return v.UTC()
	}
	return v
}
