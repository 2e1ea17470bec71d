package replicate

import (
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

	// far returns 0, or for an index that only a mirror asks for that is far
	// behind, up to which index it is to be served at the owner's pace.
	far    func(lo uint64) (upto uint64)
	feeder Feeder
	feeds  feeds
	ticks  uint64
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
	if upto := s.far(lo); upto > 0 {
		return s.paced(lo, min(hi, upto+1), maxSize)
	}
	if entries, _ := take(s.ring.entry, lo, hi, maxSize); len(entries) > 0 {
		return entries, nil
	}
	if s.ring.first < s.ring.next && lo < s.ring.first {
		hi = min(hi, s.ring.first)
	}
	read, err := s.log.Read(s.group, lo, hi, maxSize)
	entries, err := s.checked(lo, read, err)
	if err != nil && err != raft.ErrCompacted {
		return nil, unreadable{err}
	}
	return entries, err
}

// take collects entries from lo on, up to but not including hi, for as long as
// there are any: as many as fit into maxSize, at least one.
func take(entry func(uint64) *raftpb.Entry, lo, hi, maxSize uint64) (entries []*raftpb.Entry, size uint64) {
	for index := lo; index < hi; index++ {
		e := entry(index)
		if e == nil {
			break
		}
		size += uint64(entrySize(e))
		if size > maxSize && len(entries) > 0 {
			return entries, size - uint64(entrySize(e))
		}
		entries = append(entries, e)
	}
	return entries, size
}

// checked makes raft's form of what the log returned from index lo on. When that
// failed because a checkpoint was made meanwhile, it follows the floor.
func (s *storage) checked(lo uint64, read []Entry, err error) ([]*raftpb.Entry, error) {
	if err != nil {
		if floor, _ := s.log.Bounds(s.group); floor.Index > s.terms.floor().Index {
			s.terms.raise(floor)
		}
	}
	switch {
	case lo <= s.terms.floor().Index:
		return nil, raft.ErrCompacted
	case err != nil:
		return nil, fmt.Errorf("read entries from %d on: %w", lo, err)
	case len(read) == 0:
		return nil, fmt.Errorf("the log returned no entry at %d", lo)
	}
	entries := make([]*raftpb.Entry, 0, len(read))
	for _, e := range read {
		if e.Index != lo+uint64(len(entries)) || e.Term != s.terms.at(e.Index) {
			return nil, fmt.Errorf("the log returned entry %d/%d where %d/%d belongs",
				e.Term, e.Index, s.terms.at(lo+uint64(len(entries))), lo+uint64(len(entries)))
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
