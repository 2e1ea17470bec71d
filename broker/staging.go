package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/backbone"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// stagingPatience is how long a leader may say nothing in the midst of a
	// transfer.
	stagingPatience = time.Minute
	// maxRefills bounds the pieces that wait for the disk: what the log's other
	// users wait behind.
	maxRefills = 4
)

// staging is a checkpoint with its live bodies on its way here. The bodies go
// to the log as they come, where they are nothing until the checkpoint takes
// effect; the checkpoint gathers in a file. Whatever ends it before leaves the
// group as it was.
type staging struct {
	catchup *catchup
	loop    *loop
	keep    *keeper
	from    string
	id      uint64
	at      entry.Position

	context context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{}
	wake    chan struct{}
	mu      struct {
		sync.Mutex
		inbox []transferMessage // its bytes are bounded by the link's window
		ended bool
	}

	file    *os.File
	size    uint64
	sum     uint32
	refills chan struct{} // has one for each that waits for the disk
}

func newStaging(u *catchup, e *election, from string, id uint64, at entry.Position) *staging {
	s := &staging{
		catchup: u, loop: e.loop, keep: e.keep, from: from, id: id, at: at,
		done: make(chan struct{}), wake: make(chan struct{}, 1), refills: make(chan struct{}, maxRefills),
	}
	s.context, s.cancel = context.WithCancelCause(u.context)
	return s
}

// push enqueues a message, false when it comes too late.
func (s *staging) push(m transferMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended {
		return false
	}
	s.mu.inbox = append(s.mu.inbox, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// next waits for the next messages.
func (s *staging) next() ([]transferMessage, error) {
	timer := time.NewTimer(stagingPatience)
	defer timer.Stop()
	for {
		if err := context.Cause(s.context); err != nil {
			return nil, err
		}
		s.mu.Lock()
		inbox := s.mu.inbox
		s.mu.inbox = nil
		s.mu.Unlock()
		if len(inbox) > 0 {
			return inbox, nil
		}
		select {
		case <-s.wake:
		case <-timer.C:
			return nil, fmt.Errorf("%w: nothing came for %v", errTransferLost, stagingPatience)
		case <-s.context.Done():
		}
	}
}

// run takes the transfer, after an earlier one of the group has ended.
func (s *staging) run(before *staging) {
	defer close(s.done)
	if before != nil {
		<-before.done
	}
	logger := s.catchup.cluster.logger.With("group", s.keep.group, "from", s.from, "at", s.at.String())
	started := time.Now()
	installed, err := s.take()
	s.finish()
	var result []byte
	if err != nil {
		logger.Warn("a checkpoint did not get here", "err", err)
		result = append(result, err.Error()...)
	} else if installed {
		logger.Info("caught up to a checkpoint", "state", s.size, "took", time.Since(started).Round(time.Millisecond))
	}
	s.reply(transferResult, result)
}

// finish gives back what the transfer holds here.
func (s *staging) finish() {
	s.catchup.staged(s)
	s.cancel(nil)
	s.mu.Lock()
	inbox := s.mu.inbox
	s.mu.inbox, s.mu.ended = nil, true
	s.mu.Unlock()
	for _, m := range inbox {
		s.catchup.consumed(s.from, m)
	}
	for range maxRefills {
		s.refills <- struct{}{} // Each that waited for the disk is over.
	}
	if s.file != nil {
		_ = s.file.Close() // It is not needed any more.
		_ = os.Remove(s.file.Name())
	}
}

// take follows the transfer to its end.
func (s *staging) take() (installed bool, err error) {
	for {
		inbox, err := s.next()
		if err != nil {
			return false, err
		}
		for i, m := range inbox {
			over, err := s.handle(m)
			if err != nil || over {
				for _, left := range inbox[i+1:] {
					s.catchup.consumed(s.from, left)
				}
				return over && m.kind == transferEnd, err
			}
		}
	}
}

// handle takes one message and gives its credit back.
func (s *staging) handle(m transferMessage) (over bool, err error) {
	if m.kind == transferEntries {
		return false, s.refill(m)
	}
	defer s.catchup.consumed(s.from, m)
	switch m.kind {
	case transferOffer:
		needed, err := s.offered()
		return !needed, err
	case transferState:
		return false, s.write(m.rest)
	case transferEnd:
		return true, s.complete(m.rest)
	default:
		return true, errTransferAborted
	}
}

// offered asks raft whether the checkpoint brings this mirror further, and
// tells the leader, and which bodies it has already: those of what its log
// knows to be committed, which it has applied and not seen released.
func (s *staging) offered() (needed bool, err error) {
	type verdict struct {
		needed bool
		err    error
	}
	v, err := onLoop(s.context, s.loop, func() verdict {
		needed, err := s.keep.node.Offer(s.at)
		s.loop.rouse()
		return verdict{needed, err}
	})
	if err = errors.Join(err, v.err); err != nil {
		return false, err
	}
	answer := []byte{0}
	if v.needed {
		answer[0] = 1
		if s.file, err = os.CreateTemp(s.catchup.cluster.broker.config.Data, stagedPattern); err != nil {
			return false, err
		}
	}
	state, _ := s.keep.log.HardState(s.keep.group)
	_, last, _ := s.keep.log.Bounds(s.keep.group)
	s.reply(transferAnswer, binary.AppendUvarint(answer, min(max(state.Commit, s.keep.log.Floor(s.keep.group).Index), last.Index)))
	return v.needed, nil
}

func (s *staging) write(b []byte) error {
	if s.file == nil {
		return fmt.Errorf("%w: state before the offer", errWire)
	}
	s.size += uint64(len(b))
	s.sum = crc32.Update(s.sum, castagnoli, b)
	_, err := s.file.Write(b)
	return err
}

// refill hands entries to the log. The credit is given back when they are on
// the disk, so that the leader sends no faster than that.
func (s *staging) refill(m transferMessage) error {
	entries, err := parseTransferEntries(m.rest)
	if err != nil {
		s.catchup.consumed(s.from, m)
		return err
	}
	s.refills <- struct{}{}
	s.keep.log.Refill(s.keep.group, entries, func(err error) {
		<-s.refills
		if err != nil {
			s.cancel(err)
		}
		s.catchup.consumed(s.from, m)
	})
	return nil
}

// complete installs the checkpoint once all of it is here.
func (s *staging) complete(end []byte) error {
	size, sum, err := parseEnd(end)
	if err != nil {
		return err
	}
	if s.file == nil || size != s.size || sum != s.sum {
		return fmt.Errorf("%w: the checkpoint has %d bytes, sum %x; %d, %x came", errWire, size, sum, s.size, s.sum)
	}
	for range maxRefills { // Every body is on the disk.
		s.refills <- struct{}{}
	}
	for range maxRefills {
		<-s.refills
	}
	if err := context.Cause(s.context); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	members, state, err := readMembers(s.file)
	if err != nil {
		return err
	}
	adopt, err := s.keep.restore(s.at, state)
	if err != nil {
		return err
	}
	return s.install(members, adopt)
}

// install makes the checkpoint the group's: in memory, and then in the log.
func (s *staging) install(members replicate.Members, adopt func()) error {
	type verdict struct {
		adopted bool
		err     error
	}
	written := make(chan struct{})
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		// Not given up once it is asked: it may be done.
		v, err := onLoop(context.WithoutCancel(s.context), s.loop, func() verdict {
			adopted, err := s.keep.adopt(s.loop, s.at, members, adopt, written)
			return verdict{adopted, err}
		})
		switch {
		case err != nil:
			return err
		case errors.Is(v.err, replicate.ErrInstalling):
		case v.err != nil || !v.adopted:
			return v.err
		default:
			return s.persist(written)
		}
		select {
		case <-ticker.C:
		case <-s.context.Done():
			return context.Cause(s.context)
		}
	}
}

// persist has the log take the checkpoint. Until it has, a crash brings back
// the group as it was before the transfer.
func (s *staging) persist(written chan struct{}) error {
	k := s.keep
	_, err := s.file.Seek(0, io.SeekStart)
	if err == nil {
		err = k.log.Checkpoint(k.group, s.at, func(w io.Writer) error {
			_, err := io.Copy(w, s.file)
			return err
		})
	}
	close(written)
	s.loop.call(func() {
		k.node.Installed(err)
		if err == nil {
			k.size, k.at = int64(s.size), s.at
			k.installed()
		}
		s.loop.rouse()
	})
	return err
}

// reply tells the leader. If it can't be told its patience ends.
func (s *staging) reply(kind transferKind, payload []byte) {
	head := appendTransferHead(nil, kind, s.id, s.keep.group)
	_ = s.catchup.cluster.backbone.SendLink(backbone.Transfer, []string{s.from}, head, payload)
}
