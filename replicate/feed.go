package replicate

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// How a mirror that is far behind gets what the log still keeps. raft's leader
// asks its Storage for the entries after those that the mirror has, whenever
// the mirror answers, whenever something is proposed, and at each heartbeat. To
// read them from the disk then would hold up the owner's loop, and with it
// everybody else; to send them as fast as the mirror takes them would take
// disks, processors and the way to the other mirrors from what is published. So
// entries that are no longer in the Ring are read by the owner elsewhere, some
// of them ahead, and the owner says when they may go out (Feeder). Until then
// raft is told that there are none: it takes that for a mirror that needs a
// snapshot, of which there is none just now, changes nothing, and asks again.
//
// A mirror that commits need is not held up by that for long: what is committed
// is all that is paced, and with commits ends the traffic to which it yields.

const (
	// feedNear is how much of the log's end a mirror gets as fast as it can.
	feedNear = 4 << 20
	// feedPiece is the bytes of one paced message, but for a single larger
	// entry: an append that all mirrors wait for may be behind it.
	feedPiece = 256 << 10
	// feedAhead is how much is read ahead for one mirror, feedRead of that at a
	// time: more than may go out between two questions of raft.
	feedAhead = 8 << 20
	feedRead  = 2 << 20
	// maxFeeds bounds for how many mirrors it is.
	maxFeeds = 4
)

// Feeder is how an owner serves mirrors that are far behind. Both are called from
// within other calls of the Node, which they must not call.
type Feeder interface {
	// Fetch has entries read on another goroutine, from lo on, up to but not
	// including hi: as many as fit into maxBytes of payload, at least one. What
	// came of it is to be handed to Node.Fetched.
	Fetch(lo, hi, maxBytes uint64)
	// Spend reports whether so many bytes may go to such a mirror now. If not it
	// is asked again, at the latest at a tick's heartbeat.
	Spend(bytes uint64) bool
}

// errLater is what raft is told while there is nothing for a mirror yet.
var errLater = raft.ErrCompacted

// feed is entries that were read for one mirror and not asked for yet.
type feed struct {
	// next is the index after those in entries: they adjoin.
	next    uint64
	entries []*raftpb.Entry
	bytes   uint64
	reading bool   // from next on
	upto    uint64 // before which entries may be read
	asked   uint64 // the tick in which it was used last
}

// first is the index that it was read for.
func (f *feed) first() uint64 { return f.next - uint64(len(f.entries)) }

// drop forgets the oldest n entries.
func (f *feed) drop(n int) {
	for _, e := range f.entries[:n] {
		f.bytes -= uint64(entrySize(e))
	}
	clear(f.entries[:n])
	f.entries = f.entries[n:]
}

// feeds are those of all mirrors, the one that was used last at the end.
type feeds []*feed

// at returns the feed that begins at index, a new one in the place of the one
// that was used least if there is none. A mirror whose answer got lost asks again
// for what its feed has no more, and gets a new one too.
func (fs *feeds) at(index uint64, tick uint64) *feed {
	list := *fs
	f := &feed{next: index}
	if at := slices.IndexFunc(list, func(f *feed) bool { return f.first() == index }); at >= 0 {
		f = list[at]
		list = slices.Delete(list, at, at+1)
	} else if len(list) == maxFeeds {
		list = slices.Delete(list, 0, 1)
	}
	f.asked = tick
	*fs = append(list, f)
	return f
}

// paced returns entries for a mirror that is far behind, from lo on, or
// errLater.
func (s *storage) paced(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	maxSize = min(maxSize, feedPiece)
	if entries, size := take(s.ring.entry, lo, hi, maxSize); size > 0 {
		if !s.feeder.Spend(size) {
			return nil, errLater
		}
		return entries, nil
	}
	f := s.feeds.at(lo, s.ticks)
	f.upto = hi
	s.readAhead(f)
	entries, size := take(func(i uint64) *raftpb.Entry { return f.entries[i-lo] }, lo, min(hi, f.next), maxSize)
	if size == 0 || !s.feeder.Spend(size) {
		return nil, errLater
	}
	f.drop(len(entries))
	return entries, nil
}

// readAhead has the owner read what a feed lacks, up to what is in the Ring.
func (s *storage) readAhead(f *feed) {
	hi := f.upto
	if s.ring.first < s.ring.next {
		hi = min(hi, s.ring.first)
	}
	if !f.reading && f.bytes < feedAhead && f.next < hi {
		f.reading = true
		s.feeder.Fetch(f.next, hi, feedRead)
	}
}

// tick forgets feeds that are not asked for any more.
func (s *storage) tick(now uint64) {
	s.ticks = now
	s.feeds = slices.DeleteFunc(s.feeds, func(f *feed) bool { return now-f.asked > electionTick })
}

// Fetched takes what Feeder.Fetch was asked to read from index lo on.
func (n *Node) Fetched(lo uint64, read []Entry, err error) {
	if n.err != nil {
		return
	}
	at := slices.IndexFunc(n.storage.feeds, func(f *feed) bool { return f.reading && f.next == lo })
	if at < 0 {
		return // It was for an earlier leadership, or for too many mirrors.
	}
	f := n.storage.feeds[at]
	f.reading = false
	entries, err := n.storage.checked(lo, read, err)
	switch {
	case err == raft.ErrCompacted:
		n.storage.feeds = slices.Delete(n.storage.feeds, at, at+1)
	case err != nil:
		_ = n.fail(err)
	default:
		for _, e := range entries {
			f.bytes += uint64(entrySize(e))
		}
		f.entries, f.next = append(f.entries, entries...), f.next+uint64(len(entries))
		n.storage.readAhead(f)
	}
}

// far says up to which index what raft asks for from lo on is paced: what is
// applied here, if lo is, and not recent. For itself raft never asks for what is
// applied.
func (n *Node) far(lo uint64) (upto uint64) {
	if n.config.Feeder == nil || lo > n.applied.Index || n.ring.entry(lo) != nil && lo >= n.sizes.back(feedNear) {
		return 0
	}
	return n.applied.Index
}
