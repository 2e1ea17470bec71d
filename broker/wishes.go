package broker

import (
	"errors"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/queue"
	"github.com/mirrormq/mirrormq/replicate"
)

// The headers by which a producer makes its publishes idempotent: its name, and
// a number that it gives to one publish only. See queue's documentation.
const (
	producerKey = "x-producer"
	sequenceKey = "x-producer-sequence"
)

// maxProducer is the most bytes of a producer's name.
const maxProducer = 255

// wishes are what a publish's headers ask of the broker.
type wishes struct {
	// least is the ack quorum that is asked for at least.
	least replicate.Quorum
	// producer and sequence say whose publish it is, and which; sequence is 0
	// where nothing says so. producer aliases the headers.
	producer []byte
	sequence uint64
}

// wishes reads them in one pass over the headers. It allocates only for an
// error: 406.
//
// A producer's publish is confirmed at a majority at least, for only what is
// committed tells whether it is too old to be taken.
func (k quorums) wishes(properties amqp.RawProperties) (w wishes, err error) {
	w.least = replicate.QuorumLeader
	if properties.Flags()&amqp.FlagHeaders == 0 {
		return w, nil
	}
	rest, _ := properties.Headers()
	var producer, sequence, quorum amqp.RawField // of type 0 while not found
	for len(rest) > 0 {
		name, field, after, ok := rest.Cut()
		if !ok {
			break
		}
		rest = after
		switch string(name) {
		case ackQuorumKey:
			quorum = firstField(quorum, field)
		case producerKey:
			producer = firstField(producer, field)
		case sequenceKey:
			sequence = firstField(sequence, field)
		}
	}
	if quorum.Type != 0 {
		if w.least, err = k.asked(quorum); err != nil {
			return w, err
		}
	}
	if producer.Type == 0 && sequence.Type == 0 {
		return w, nil
	}
	w.least = k.stronger(w.least, replicate.QuorumMajority)
	w.producer, w.sequence, err = identity(producer, sequence)
	return w, err
}

// firstField is the one that counts of two with the same name.
func firstField(first, second amqp.RawField) amqp.RawField {
	if first.Type != 0 {
		return first
	}
	return second
}

// identity checks the fields that make a publish a producer's.
func identity(producer, sequence amqp.RawField) ([]byte, uint64, error) {
	switch {
	case producer.Type == 0:
		return nil, 0, amqp.PreconditionFailed("%s header without %s", sequenceKey, producerKey)
	case sequence.Type == 0:
		return nil, 0, amqp.PreconditionFailed("%s header without %s", producerKey, sequenceKey)
	}
	name, ok := producer.Text()
	if !ok || len(name) == 0 || len(name) > maxProducer {
		return nil, 0, amqp.PreconditionFailed("invalid %s header: it is a string of 1 to %d bytes", producerKey, maxProducer)
	}
	n, ok := sequence.Integer()
	if !ok || n < 1 {
		return nil, 0, amqp.PreconditionFailed("invalid %s header: it is an integer from 1", sequenceKey)
	}
	return name, uint64(n), nil
}

// appendOnce appends, where the publish is a producer's, that what follows is
// to be enqueued once.
func (w *wishes) appendOnce(ops []byte, vhost string) []byte {
	if w.sequence == 0 {
		return ops
	}
	return queue.AppendOnce(ops, vhost, w.producer, w.sequence)
}

// errTooOld says that a producer's publish was refused.
var errTooOld = errors.New("broker: a publish's sequence is too far below its producer's highest")

// refusals reports whether a group has refused some of a submission's publishes.
func refusals(results []queue.OpResult) bool {
	for i := range results {
		if results[i].Code == queue.TooOld {
			return true
		}
	}
	return false
}

// split parts confirms so that each publish that was refused stands alone and
// says so. Both are in the order of the submission's ops.
func split(confirms []confirmRange, results []queue.OpResult) (parts []confirmRange) {
	for _, r := range confirms {
		for ; len(results) > 0; results = results[1:] {
			at := results[0].Op - r.op // its place in r
			if at > int(r.last-r.first) {
				break
			}
			if at < 0 || results[0].Code != queue.TooOld {
				continue
			}
			before, refused := r, r
			refused.first += uint64(at)
			refused.last, refused.refused = refused.first, true
			if at > 0 {
				before.last = refused.first - 1
				parts = append(parts, before)
			}
			parts = append(parts, refused)
			r.first, r.op = refused.first+1, results[0].Op+1
		}
		if r.first <= r.last {
			parts = append(parts, r)
		}
	}
	return parts
}
