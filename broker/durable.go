package broker

import (
	"errors"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/replicate"
)

// durable is the orderer of a replicated group: raft over the broker's log.
type durable struct{ node *replicate.Node }

func (d durable) propose(payload []byte) (uint64, error) { return d.node.Propose(payload) }
func (d durable) completed(c replicate.Completion)       { d.node.Completed(c) }
func (d durable) tick()                                  { d.node.Tick() }
func (d durable) paused()                                { d.node.Paused() }
func (d durable) inFlight() int                          { return d.node.InFlight() }
func (d durable) ordering() bool                         { return d.node.Status().Role == replicate.Leader }

func (d durable) leads() uint64 {
	s := d.node.Status()
	if s.Role == replicate.Leader && s.Applied.Term == s.Term {
		return s.Term
	}
	return 0
}

func (d durable) confirmed(q replicate.Quorum) uint64 { return d.node.Confirmed(q) }

func (d durable) advance(apply func(term, index uint64, payload []byte) error) (more bool, err error) {
	return d.node.Advance(apply)
}

// groupLog gives replicate the part of the log that it needs.
type groupLog struct{ log *log.Log }

func (g groupLog) Append(group entry.GroupID, entries []replicate.Entry, state *replicate.HardState, done func(error)) {
	a := log.Append{Group: group, Done: done}
	if len(entries) > 0 {
		a.Entries = make([]log.Entry, len(entries))
		for i, e := range entries {
			a.Entries[i] = log.Entry{Term: e.Term, Index: e.Index, Kind: e.Kind, Payload: e.Payload}
		}
	}
	if state != nil {
		a.HardState = &log.HardState{Term: state.Term, Vote: state.Vote, Commit: state.Commit}
	}
	g.log.Append(a)
}

func (g groupLog) Bounds(group entry.GroupID) (floor, last entry.Position) {
	if _, last, ok := g.log.Bounds(group); ok {
		return g.log.Floor(group), last
	}
	return entry.Position{}, entry.Position{}
}

func (g groupLog) Term(group entry.GroupID, index uint64) (uint64, error) {
	return g.log.Term(group, index)
}

// errEnough ends a range read that has as many bytes as were asked for.
var errEnough = errors.New("enough")

func (g groupLog) Read(group entry.GroupID, lo, hi, maxBytes uint64) ([]replicate.Entry, error) {
	var entries []replicate.Entry
	var size uint64
	err := g.log.ReadRange(group, lo, hi-1, func(e log.Entry) error {
		size += uint64(len(e.Payload))
		if len(entries) > 0 && size > maxBytes {
			return errEnough
		}
		entries = append(entries, replicate.Entry{
			Term: e.Term, Index: e.Index, Kind: e.Kind, Payload: append([]byte(nil), e.Payload...),
		})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return entries, nil
}

func (g groupLog) HardState(group entry.GroupID) (replicate.HardState, bool) {
	state, ok := g.log.HardState(group)
	return replicate.HardState{Term: state.Term, Vote: state.Vote, Commit: state.Commit}, ok
}
