package replicate

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// storage is what raft sees of a group's log: raft.Storage. It answers from
// memory (terms, Ring) and goes to the log only for entries that have left the
// Ring. Its view includes what was handed to the log and is not durable yet;
// raft asks only for entries whose write it was told of, and covers the others
// from its own unstable part.
type storage struct {
	group   entry.GroupID
	log     Log
	ring    *Ring
	terms   terms
	state   HardState
	members Members
}

// unreadable wraps an error of the log on its way through raft, which panics
// with it; the Node catches it.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// InitialState implements raft.Storage.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	state := s.state
	return &raftpb.HardState{Term: &state.Term, Vote: &state.Vote, Commit: &state.Commit}, s.members.state(), nil
}

// FirstIndex implements raft.Storage.
func (s *storage) FirstIndex() (uint64, error) { return s.terms.floor().Index + 1, nil }

// LastIndex implements raft.Storage.
func (s *storage) LastIndex() (uint64, error) { return s.terms.last, nil }

// Term implements raft.Storage.
func (s *storage) Term(index uint64) (uint64, error) {
	switch {
	case index < s.terms.floor().Index:
		return 0, raft.ErrCompacted
	case index > s.terms.last:
		return 0, raft.ErrUnavailable
	}
	return s.terms.at(index), nil
}

// Entries implements raft.Storage. Entries of the Ring are shared, not copied.
// It may return fewer than fit into maxSize: raft asks again.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= s.terms.floor().Index {
		return nil, raft.ErrCompacted
	}
	if hi > s.terms.last+1 {
		return nil, raft.ErrUnavailable
	}
	var entries []*raftpb.Entry
	var size uint64
	for index := lo; index < hi; index++ {
		e := s.ring.entry(index)
		if e == nil {
			break
		}
		size += uint64(entrySize(e))
		if size > maxSize && len(entries) > 0 {
			break
		}
		entries = append(entries, e)
	}
	if len(entries) > 0 {
		return entries, nil
	}
	if s.ring.first < s.ring.next && lo < s.ring.first {
		hi = min(hi, s.ring.first)
	}
	return s.read(lo, hi, maxSize)
}

// read gets entries from the log. When that fails because a checkpoint was made
// meanwhile, it follows the floor.
func (s *storage) read(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	read, err := s.log.Read(s.group, lo, hi, maxSize)
	if err != nil {
		if floor, _ := s.log.Bounds(s.group); lo <= floor.Index {
			s.terms.raise(floor)
			return nil, raft.ErrCompacted
		}
		return nil, unreadable{fmt.Errorf("read entries %d to %d: %w", lo, hi-1, err)}
	}
	if len(read) == 0 {
		return nil, unreadable{errors.New("the log returned no entry")}
	}
	entries := make([]*raftpb.Entry, 0, len(read))
	for _, e := range read {
		if e.Index != lo+uint64(len(entries)) || e.Term != s.terms.at(e.Index) {
			return nil, unreadable{fmt.Errorf("the log returned entry %d/%d where %d/%d belongs",
				e.Term, e.Index, s.terms.at(lo+uint64(len(entries))), lo+uint64(len(entries)))}
		}
		entries = append(entries, fromLog(e))
	}
	return entries, nil
}

// Snapshot implements raft.Storage. There never is one: see install.go for how
// a mirror that fell behind the floor gets a checkpoint.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// fromLog builds raft's form of an entry in one allocation.
func fromLog(e Entry) *raftpb.Entry {
	boxed := &struct {
		entry       raftpb.Entry
		term, index uint64
		kind        raftpb.EntryType
	}{term: e.Term, index: e.Index, kind: raftpb.EntryType(e.Kind)}
	boxed.entry.Term, boxed.entry.Index = &boxed.term, &boxed.index
	if e.Kind != 0 {
		boxed.entry.Type = &boxed.kind
	}
	boxed.entry.Data = e.Payload
	return &boxed.entry
}

func toLog(e *raftpb.Entry) Entry {
	return Entry{Term: e.GetTerm(), Index: e.GetIndex(), Kind: uint8(e.GetType()), Payload: e.GetData()}
}
