package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/mirrormq/mirrormq/internal/backbone"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
)

const (
	// transferPiece is how large a message of a transfer becomes, but for a
	// single larger entry.
	transferPiece = 256 << 10
	// answerPatience is how long a mirror may take to answer an offer, and to
	// take what was sent before; installPatience to install what is complete.
	answerPatience  = 30 * time.Second
	installPatience = 5 * time.Minute
	// paceRetry is how soon it is asked again whether something may be sent.
	paceRetry = 2 * time.Millisecond
)

// castagnoli is the polynomial of the sum over a checkpoint.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sending is a checkpoint with its live bodies on its way to a mirror.
type sending struct {
	catchup *catchup
	loop    *loop
	keep    *keeper
	retry   map[uint64]time.Time // the election's; for its loop
	id      uint64
	term    uint64
	to      uint64 // the mirror's raft id
	name    string
	at      entry.Position
	state   func(io.Writer) error

	context context.Context
	cancel  context.CancelCauseFunc
	answers chan transferMessage
	room    chan struct{}

	started time.Time
	bodies  uint64 // bytes sent
}

// newSending takes the group's state as it is. Called on the group's loop.
func newSending(u *catchup, e *election, to uint64, name string) *sending {
	s := &sending{
		catchup: u, loop: e.loop, keep: e.keep, retry: e.retry, id: randomID(), term: e.term, to: to, name: name,
		at: e.keep.applied, state: withMembers(e.node.Members(), e.keep.snapshot()),
		answers: make(chan transferMessage, 1), room: make(chan struct{}, 1), started: time.Now(),
	}
	s.context, s.cancel = context.WithCancelCause(u.context)
	return s
}

func (s *sending) run() {
	logger := s.catchup.cluster.logger.With("group", s.keep.group, "to", s.name, "at", s.at.String())
	logger.Info("a mirror gets a checkpoint")
	err := s.send()
	s.catchup.ended(s)
	s.cancel(nil)
	s.state = nil
	s.loop.call(func() {
		s.keep.node.Sent(s.to)
		// Not at once even if all went well: raft's own answer may be on its way.
		s.retry[s.to] = s.loop.now().Add(transferRetry)
	})
	if err != nil {
		logger.Warn("a mirror did not get its checkpoint", "err", err)
		_ = s.post(transferAbort) // If it is lost, the mirror's patience ends.
		return
	}
	logger.Info("a mirror has its checkpoint", "bodies", s.bodies, "took", time.Since(s.started).Round(time.Millisecond))
}

// send makes the whole transfer.
func (s *sending) send() error {
	if err := s.put(transferOffer, appendPosition(nil, s.at)); err != nil {
		return err
	}
	answer, err := s.await(transferAnswer, answerPatience)
	if err != nil {
		return err
	}
	needed, commit, err := parseAnswer(answer.rest)
	if err != nil || !needed {
		return err
	}
	state := &stateWriter{sending: s}
	if err := s.state(state); err != nil {
		return err
	}
	if err := state.flush(); err != nil {
		return err
	}
	s.state = nil // The state machine copies no more for its sake.
	if err := s.sendBodies(commit); err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(binary.AppendUvarint(nil, state.size), state.sum)
	if err := s.put(transferEnd, end); err != nil {
		return err
	}
	result, err := s.await(transferResult, installPatience)
	if err == nil && len(result.rest) > 0 {
		err = fmt.Errorf("%w: %s", errTransferAborted, result.rest)
	}
	return err
}

// sendBodies sends the live entries above an index and up to the checkpoint.
// What is released meanwhile may be left out: the entry that released it lies
// behind the checkpoint and is committed, so that the mirror applies it before
// it could be asked for the body.
func (s *sending) sendBodies(after uint64) (err error) {
	var batch []byte
	var body []byte
	s.keep.log.LiveEntries(s.keep.group, after, s.at.Index, func(index uint64) bool {
		var e log.Entry
		if e, err = s.keep.log.ReadEntry(s.keep.group, index, body); errors.Is(err, log.ErrNotFound) {
			err = nil
			return true
		} else if err != nil {
			s.catchup.cluster.broker.unreadable(err)
			return false
		}
		body = e.Payload
		if len(batch) > 0 && len(batch)+len(e.Payload) > transferPiece {
			err = s.put(transferEntries, batch)
			batch = batch[:0]
		}
		batch = append(appendTransferEntry(batch, &e), e.Payload...)
		s.bodies += uint64(len(e.Payload))
		return err == nil
	})
	if err == nil && len(batch) > 0 {
		err = s.put(transferEntries, batch)
	}
	return err
}

// put sends a message as soon as it may and there is room for it.
func (s *sending) put(kind transferKind, payload []byte) error {
	if err := s.pace(len(payload)); err != nil {
		return err
	}
	patience := time.NewTimer(answerPatience)
	defer patience.Stop()
	for {
		err := s.post(kind, payload)
		if !errors.Is(err, backbone.ErrFull) {
			return err
		}
		select {
		case <-s.room:
		case <-patience.C:
			return fmt.Errorf("%w: it took nothing for %v", errTransferLost, answerPatience)
		case <-s.context.Done():
			return context.Cause(s.context)
		}
	}
}

func (s *sending) post(kind transferKind, payload ...[]byte) error {
	head := appendTransferHead(nil, kind, s.id, s.keep.group)
	return s.catchup.cluster.backbone.SendLink(backbone.Transfer, []string{s.name}, append([][]byte{head}, payload...)...)
}

// pace waits until so many bytes may be sent.
func (s *sending) pace(size int) error {
	retry := time.NewTicker(paceRetry)
	defer retry.Stop()
	for !s.catchup.pace.spend(uint64(size)) {
		select {
		case <-retry.C:
		case <-s.context.Done():
			return context.Cause(s.context)
		}
	}
	return nil
}

// await waits for the mirror.
func (s *sending) await(kind transferKind, patience time.Duration) (transferMessage, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case m := <-s.answers:
			if m.kind == transferResult && kind != m.kind {
				return m, fmt.Errorf("%w: %s", errTransferAborted, m.rest)
			}
			if m.kind == kind {
				return m, nil
			}
		case <-timer.C:
			return transferMessage{}, fmt.Errorf("%w: no answer for %v", errTransferLost, patience)
		case <-s.context.Done():
			return transferMessage{}, context.Cause(s.context)
		}
	}
}

// stateWriter sends what is written to it, in pieces.
type stateWriter struct {
	sending *sending
	piece   []byte
	size    uint64
	sum     uint32
}

func (w *stateWriter) Write(b []byte) (int, error) {
	w.size += uint64(len(b))
	w.sum = crc32.Update(w.sum, castagnoli, b)
	w.piece = append(w.piece, b...)
	if len(w.piece) < transferPiece {
		return len(b), nil
	}
	return len(b), w.flush()
}

func (w *stateWriter) flush() error {
	err := w.sending.put(transferState, w.piece)
	w.piece = w.piece[:0]
	return err
}
