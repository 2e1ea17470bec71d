package replicate

import "go.etcd.io/raft/v3/raftpb"

// writeQueue is what was handed to the log and is not durable yet, oldest
// first, with the messages that wait for it.
type writeQueue struct {
	// queue[head:] are the waiting writes; numbers ascend by one.
	queue []write
	head  int
	// next is the number before the next write's: they begin at 1.
	next uint64
	// entries and bytes are sums over the waiting writes.
	entries int
	bytes   uint64
}

type write struct {
	number uint64
	// first is the index of its first entry, 0 without entries.
	first   uint64
	entries int
	bytes   uint64
	// responses are due when this write is durable.
	responses []*raftpb.Message
	// done is set when it became durable out of its turn.
	done bool
}

func (q *writeQueue) len() int { return len(q.queue) - q.head }

func (q *writeQueue) push(entries []Entry, responses []*raftpb.Message) (number uint64) {
	if q.head == len(q.queue) {
		q.queue, q.head = q.queue[:0], 0
	} else if q.head > len(q.queue)/2 && len(q.queue) == cap(q.queue) {
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
	q.next++
	w := write{number: q.next, entries: len(entries), responses: responses}
	for _, e := range entries {
		w.bytes += uint64(len(e.Payload))
	}
	if len(entries) > 0 {
		w.first = entries[0].Index
	}
	q.entries += w.entries
	q.bytes += w.bytes
	q.queue = append(q.queue, w)
	return w.number
}

// behind adds responses to the newest waiting write; false if none waits.
func (q *writeQueue) behind(responses []*raftpb.Message) bool {
	if q.len() == 0 {
		return false
	}
	newest := &q.queue[len(q.queue)-1]
	for _, r := range responses {
		if !attested(newest.responses, r) {
			newest.responses = append(newest.responses, r)
		}
	}
	return true
}

// attested reports whether r tells raft of the very same stable entries that
// another of the responses tells of already. raft makes one for every change of
// the commit index while entries are unstable.
func attested(responses []*raftpb.Message, r *raftpb.Message) bool {
	if r.GetType() != raftpb.MsgStorageAppendResp || r.GetSnapshot() != nil {
		return false
	}
	for _, other := range responses {
		if other.GetType() == raftpb.MsgStorageAppendResp && other.GetTerm() == r.GetTerm() &&
			other.GetIndex() == r.GetIndex() && other.GetLogTerm() == r.GetLogTerm() {
			return true
		}
	}
	return false
}

// oldest is the number of the oldest write that waits, or the next one's.
func (q *writeQueue) oldest() uint64 {
	if q.len() == 0 {
		return q.next + 1
	}
	return q.queue[q.head].number
}

// first is the lowest index that a waiting write has an entry at, 0 if none
// has. O(waiting writes), which are few.
func (q *writeQueue) first() uint64 {
	first := uint64(0)
	for i := range q.queue[q.head:] {
		if w := &q.queue[q.head+i]; w.first != 0 && (first == 0 || w.first < first) {
			first = w.first
		}
	}
	return first
}

// done marks a write that is durable though earlier ones may still wait.
func (q *writeQueue) done(number uint64) {
	for i := range q.queue[q.head:] {
		if w := &q.queue[q.head+i]; w.number == number {
			w.done = true
		}
	}
}

// pop removes the oldest waiting write if its number is at most upto, or if it
// is done.
func (q *writeQueue) pop(upto uint64) (responses []*raftpb.Message, ok bool) {
	if q.len() == 0 || q.queue[q.head].number > upto && !q.queue[q.head].done {
		return nil, false
	}
	w := &q.queue[q.head]
	responses = w.responses
	q.entries -= w.entries
	q.bytes -= w.bytes
	*w = write{}
	q.head++
	return responses, true
}
