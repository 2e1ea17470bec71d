package broker

import (
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// deathReason says in x-death why a message was dead-lettered.
type deathReason string

// The reasons yet; RabbitMQ's others are maxlen and delivery_limit. For all but
// the first see goesRound.
const (
	deathRejected deathReason = "rejected" // by a consumer
	deathExpired  deathReason = "expired"
)

// death is what a message's headers tell of one death.
type death struct {
	queue, exchange string // where it died, and what it was published to
	reason          deathReason
	key             string // it was published with
	at              time.Time
}

// The headers of RabbitMQ that say where a message was published to as well.
const (
	headerCC  = "CC"
	headerBCC = "BCC"
)

// deadLettered changes a message's properties for its way on. When it gets a
// new routing key, CC and BCC are forgotten: they were for the first way.
//
// As RabbitMQ, an expiration is told in x-death and removed, so that the
// message doesn't expire once more where it comes to.
func (d *death) deadLettered(p *amqp.Properties, rekeyed bool) {
	if p.Headers == nil {
		p.Headers = amqp.Table{}
	}
	d.record(p.Headers, p.Expiration, p.Present&amqp.FlagExpiration != 0)
	p.Expiration = ""
	p.Present &^= amqp.FlagExpiration
	if rekeyed {
		delete(p.Headers, headerCC)
		delete(p.Headers, headerBCC)
	}
}

// record enters the death into the headers: x-death has one table for each
// queue and reason, the newest death first, with how often it happened. What
// else the table says is of the first time. The rules are RabbitMQ 3.10's, as
// it answered them (see the test), but for two: it turns the order of the older
// deaths round each time, which later versions don't; and the x-last-death-…
// headers are of 3.13.
func (d *death) record(headers amqp.Table, expiration string, expires bool) {
	before, known := headers["x-death"]
	if !known {
		headers["x-first-death-reason"] = string(d.reason)
		headers["x-first-death-queue"] = d.queue
		headers["x-first-death-exchange"] = d.exchange
	}
	headers["x-last-death-reason"] = string(d.reason)
	headers["x-last-death-queue"] = d.queue
	headers["x-last-death-exchange"] = d.exchange

	var entry amqp.Table
	var others []any
	// A client may have put anything there: what is no death is left out.
	events, _ := before.([]any)
	for _, event := range events {
		table, ok := event.(amqp.Table)
		switch {
		case !ok:
		case table["queue"] != d.queue || table["reason"] != string(d.reason):
			others = append(others, table)
		case entry == nil:
			count, _ := integer(table["count"])
			table["count"] = count + 1
			entry = table
		}
	}
	if entry == nil {
		entry = d.table(headers)
		if expires {
			entry["original-expiration"] = expiration
		}
	}
	headers["x-death"] = append([]any{entry}, others...)
}

// table is the death as a table of x-death.
func (d *death) table(headers amqp.Table) amqp.Table {
	keys := []any{d.key}
	for _, key := range moreKeys(headers, headerCC) {
		keys = append(keys, key)
	}
	return amqp.Table{
		"count": int64(1), "reason": string(d.reason), "queue": d.queue, "exchange": d.exchange,
		"routing-keys": keys, "time": d.at,
	}
}

// goesRound reports whether a dead letter with these headers, its latest death
// among them, died before in the queue that it is to go to and was not rejected
// since. It would go round for ever: nobody has a say in it (RabbitMQ's
// documentation, "Dead-Lettered Message Loops").
func goesRound(queue string, headers amqp.Table) bool {
	events, _ := headers["x-death"].([]any)
	for _, event := range events {
		table, _ := event.(amqp.Table)
		if table["reason"] == string(deathRejected) {
			return false
		}
		if table["queue"] == queue {
			return true
		}
	}
	return false
}

// moreKeys are the routing keys that a header names (sender-selected
// distribution).
func moreKeys(headers amqp.Table, name string) (keys []string) {
	list, _ := headers[name].([]any)
	for _, v := range list {
		if key, ok := v.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// routingKeys are all keys that a message with this one and these headers is
// routed by.
func routingKeys(key string, headers amqp.Table) []string {
	return slices.Concat([]string{key}, moreKeys(headers, headerCC), moreKeys(headers, headerBCC))
}
