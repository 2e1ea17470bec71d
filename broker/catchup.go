package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/backbone"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// maxSendings bounds the transfers that a broker makes at a time, besides
	// those of the topology, which is small and which all else waits for.
	maxSendings = 2
	// transferRetry is how long a mirror waits after a transfer, well or not, until
	// it may get another.
	transferRetry = time.Second
	// stagedPattern names the files in the data directory that hold the
	// checkpoints on their way here.
	stagedPattern = "transfer-*.tmp"
)

var (
	errTransferLost    = errors.New("broker: messages of the transfer are lost, or the other broker is")
	errTransferAborted = errors.New("broker: the transfer was given up by the other broker")
	errNotLeading      = errors.New("broker: the group is led elsewhere now")
	errSuperseded      = errors.New("broker: another transfer of the group has begun")
)

// catchup is how mirrors that need more than the kept log get there: a
// checkpoint of the group, the live bodies below it that they lack, and then
// raft goes on behind it. See replicate/install.go for the raft side.
type catchup struct {
	cluster *cluster
	context context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	pace    *pace

	mu struct {
		sync.Mutex
		stopped bool
		// sendings by id: from here. stagings by group: to here.
		sendings map[uint64]*sending
		stagings map[entry.GroupID]*staging
	}
}

// newCatchup removes what a crash left of transfers.
func newCatchup(c *cluster) (*catchup, error) {
	left, err := filepath.Glob(filepath.Join(c.broker.config.Data, stagedPattern))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	u := &catchup{cluster: c, pace: newPace(c.now)}
	u.context, u.cancel = context.WithCancel(c.broker.context)
	u.mu.sendings = make(map[uint64]*sending)
	u.mu.stagings = make(map[entry.GroupID]*staging)
	return u, err
}

// stop ends all transfers and waits for them. The groups' loops still run.
func (u *catchup) stop() {
	u.mu.Lock()
	u.mu.stopped = true
	u.mu.Unlock()
	u.cancel()
	u.running.Wait()
}

// tick begins transfers to mirrors that need them, and ends those that this
// broker has no say in any more. Called on the group's loop.
func (u *catchup) tick(e *election, now time.Time) {
	e.behind = e.node.Behind(e.behind[:0])
	for _, id := range e.behind {
		name := u.cluster.broker.members.name(id)
		if name == "" || now.Before(e.retry[id]) || !u.cluster.speaks(name) {
			continue
		}
		if s := u.begin(e, id, name); s != nil {
			e.node.Sending(id, s.at)
		}
	}
	leads := e.node.Status().Role == replicate.Leader
	u.end(func(s *sending) bool { return s.keep.group == e.group && (!leads || s.term != e.term) }, errNotLeading)
}

// begin starts a transfer; nil when there are enough.
func (u *catchup) begin(e *election, id uint64, name string) *sending {
	small := e.group == entry.Topology
	u.mu.Lock()
	defer u.mu.Unlock()
	others := 0
	for _, s := range u.mu.sendings {
		if (s.keep.group == entry.Topology) != small {
			continue
		}
		if others++; s.name == name {
			return nil
		}
	}
	if u.mu.stopped || !small && others >= maxSendings {
		return nil
	}
	s := newSending(u, e, id, name)
	u.mu.sendings[s.id] = s
	u.running.Go(s.run)
	return s
}

// end ends the transfers from here that pick chooses.
func (u *catchup) end(pick func(*sending) bool, why error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range inOrder(u.mu.sendings) {
		if pick(s) {
			s.cancel(why)
		}
	}
}

func (u *catchup) ended(s *sending) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.mu.sendings, s.id)
}

// lost ends all transfers with a broker.
func (u *catchup) lost(name string) {
	u.end(func(s *sending) bool { return s.name == name }, errTransferLost)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range inOrder(u.mu.stagings) {
		if s.from == name {
			s.cancel(errTransferLost)
		}
	}
}

// writable tells transfers to a broker that there is room on the way.
func (u *catchup) writable(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range inOrder(u.mu.sendings) {
		if s.name == name {
			select {
			case s.room <- struct{}{}:
			default:
			}
		}
	}
}

// receive takes a message of the Transfer class. It only enqueues.
func (u *catchup) receive(from string, payload []byte) error {
	m, err := parseTransfer(payload)
	if err != nil {
		return err
	}
	if !u.take(from, m) {
		u.consumed(from, m)
	}
	return nil
}

// take hands a message to its transfer, and reports whether that gives the
// credit back.
func (u *catchup) take(from string, m transferMessage) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch m.kind {
	case transferAnswer, transferResult:
		if s := u.mu.sendings[m.id]; s != nil && s.name == from {
			select {
			case s.answers <- m:
			default: // It is not waiting for one.
			}
		}
		return false
	case transferOffer:
		return u.stage(from, m)
	default:
		s := u.mu.stagings[m.group]
		if s == nil || s.id != m.id || s.from != from {
			return false
		}
		return s.push(m)
	}
}

// stage begins to take a checkpoint. An earlier transfer of the group ends.
// REQUIRES: mu held.
func (u *catchup) stage(from string, m transferMessage) bool {
	e := u.cluster.broker.elections[m.group]
	at, _, err := parsePosition(m.rest)
	if e == nil || err != nil || u.mu.stopped || !u.cluster.speaks(from) {
		return false
	}
	before := u.mu.stagings[m.group]
	if before != nil {
		before.cancel(errSuperseded)
	}
	s := newStaging(u, e, from, m.id, at)
	s.push(m)
	u.mu.stagings[m.group] = s
	u.running.Go(func() { s.run(before) })
	return true
}

func (u *catchup) staged(s *staging) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mu.stagings[s.keep.group] == s {
		delete(u.mu.stagings, s.keep.group)
	}
}

// arriving reports whether a checkpoint of the group is on its way here.
func (u *catchup) arriving(g entry.GroupID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mu.stagings[g] != nil
}

func (u *catchup) consumed(from string, m transferMessage) {
	u.cluster.backbone.Consumed(backbone.Transfer, from, m.size)
}

// onLoop runs f on a loop and waits for what it says.
func onLoop[T any](ctx context.Context, l *loop, f func() T) (T, error) {
	answer := make(chan T, 1)
	var none T
	if !l.call(func() { answer <- f() }) {
		return none, fmt.Errorf("%s: %w", l.name, errStopping)
	}
	select {
	case v := <-answer:
		return v, nil
	case <-l.done:
		return none, fmt.Errorf("%s: %w", l.name, errStopping)
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}
