package broker

import (
	"context"
	"sync"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/replicate"
)

// maxTxBytes bounds what one transaction may hold until its commit.
const maxTxBytes = 128 << 20

// transaction buffers a channel's publishes and acks until tx.commit: then
// each group gets its part as one submission, which is applied as a whole.
// Owned like the channel.
type transaction struct {
	parts   []txPart
	acks    []txAck
	returns []byte // encoded basic.return of mandatory publishes without a queue
	bytes   int
	err     error // the transaction grew too large; told at commit
}

// txPart is the publishes to one group, encoded.
type txPart struct {
	lane *lane
	ops  []byte
	// quorum is the strongest of its publishes: the leader's alone is none.
	quorum  replicate.Quorum
	settled []settledNote
}

// txAck is an ack, nack or reject.
type txAck struct {
	tag   uint64
	entry unackedEntry
	to    fate
}

func (ch *channel) txSelect() error {
	if ch.mode.Load() == modeConfirm {
		return amqp.PreconditionFailed("cannot switch from confirm to tx mode")
	}
	if ch.tx == nil {
		ch.tx = new(transaction)
	}
	ch.mode.Store(modeTx)
	ch.reply(&amqp.TxSelectOk{})
	return nil
}

// publish buffers a publish.
func (tx *transaction) publish(ch *channel, r *route, mandatory bool, w *wishes, properties, body []byte) {
	if tx.bytes += len(body) + len(properties) + 64; tx.bytes > maxTxBytes+int(ch.conn.front.config.maxMessageSize) {
		tx.err = amqp.ResourceError("transaction of more than %d bytes", maxTxBytes)
		return
	}
	if len(r.targets) == 0 && mandatory {
		tx.returns = ch.conn.appendReturn(tx.returns, ch.number, r, properties, body)
	}
	for i := range r.targets {
		t := &r.targets[i]
		p := tx.part(t.lane)
		p.quorum = ch.conn.front.quorums.stronger(p.quorum, t.required(w.least))
		p.ops = w.appendOnce(p.ops, ch.conn.vhost)
		p.ops = append(appendPublish(p.ops, t.queues, r.exchange, r.key, properties, len(body)), body...)
	}
}

func (tx *transaction) part(l *lane) *txPart {
	for i := range tx.parts {
		if tx.parts[i].lane == l {
			return &tx.parts[i]
		}
	}
	tx.parts = append(tx.parts, txPart{lane: l, quorum: replicate.QuorumLeader})
	return &tx.parts[len(tx.parts)-1]
}

// settle buffers an ack, nack or reject.
func (tx *transaction) settle(ch *channel, tag uint64, multiple bool, to fate) error {
	if multiple {
		ok := ch.unacked.takeUpTo(tag, func(tag uint64, e unackedEntry) {
			tx.acks = append(tx.acks, txAck{tag, e, to})
		})
		if !ok {
			return unknownTag(tag)
		}
		return nil
	}
	e, ok := ch.unacked.take(tag)
	if !ok {
		return unknownTag(tag)
	}
	tx.acks = append(tx.acks, txAck{tag, e, to})
	return nil
}

// txCommit submits the transaction and answers when every group has it.
func (ch *channel) txCommit(ctx context.Context) error {
	if ch.mode.Load() != modeTx {
		return amqp.PreconditionFailed("channel is not transactional")
	}
	tx := ch.tx
	ch.tx = new(transaction)
	if tx.err != nil {
		return tx.err
	}
	ch.conn.flush()
	tx.settleAll()
	ch.makeRoom()
	ch.run(ctx, amqp.IDTxCommit, func(ctx context.Context) error {
		switch err := tx.commit(ctx); {
		case err == errTooOld:
			return amqp.PreconditionFailed("partial tx completion") // RabbitMQ's text.
		case err != nil:
			return amqp.InternalError("transaction not committed: %v", err)
		}
		if len(tx.returns) > 0 {
			ch.conn.out.frames(tx.returns)
		}
		ch.reply(&amqp.TxCommitOk{})
		return nil
	})
	return nil
}

// settleAll appends the acks to the parts of their groups.
func (tx *transaction) settleAll() {
	var touched []*held
	for _, a := range tx.acks {
		h := a.entry.held
		if h.empty() {
			touched = append(touched, h)
		}
		h.note(a.entry.message, a.to)
	}
	for _, h := range touched {
		p := tx.part(h.lane)
		p.quorum = h.lane.conn.front.quorums.stronger(p.quorum, replicate.QuorumMajority)
		p.ops, p.settled = h.appendSettled(p.ops, p.settled)
	}
}

// commit submits every part and waits for all.
func (tx *transaction) commit(ctx context.Context) error {
	var mu sync.Mutex
	var failure error
	done := make(chan struct{})
	wait := newCountdown(len(tx.parts)+1, func() { close(done) })
	for _, p := range tx.parts {
		p.lane.submitSettling(p.ops, p.settled, p.quorum, func(err error) {
			if err != nil {
				mu.Lock()
				failure = err
				mu.Unlock()
			}
			wait.arrive()
		})
	}
	wait.arrive()
	select {
	case <-done:
		mu.Lock()
		defer mu.Unlock()
		return failure
	case <-ctx.Done():
		return ctx.Err()
	}
}

// txRollback forgets the publishes; what was acked is unacked again.
func (ch *channel) txRollback() error {
	if ch.mode.Load() != modeTx {
		return amqp.PreconditionFailed("channel is not transactional")
	}
	tx := ch.tx
	ch.tx = new(transaction)
	for _, a := range tx.acks {
		ch.unacked.restore(a.tag, a.entry)
	}
	ch.reply(&amqp.TxRollbackOk{})
	return nil
}
