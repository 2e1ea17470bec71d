package replicate

import "go.etcd.io/raft/v3/raftpb"

// writeQueue is what was handed to the log and is not durable yet, oldest
// first, with the messages that wait for it.
type writeQueue struct {
	// queue[head:] are the waiting writes; numbers ascend by one.
	queue []write
	head  int
	// next numbers the next write.
	next uint64
	// entries and bytes are sums over the waiting writes.
	entries int
	bytes   uint64
}

type write struct {
	number  uint64
	entries int
	bytes   uint64
	// responses are due when this write is durable.
	responses []*raftpb.Message
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
	w := write{number: q.next, entries: len(entries), responses: responses}
	for _, e := range entries {
		w.bytes += uint64(len(e.Payload))
	}
	q.next++
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
	if r.GetType() != raftpb.MsgStorageAppendResp {
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

// pop removes the oldest waiting write if its number is at most upto.
func (q *writeQueue) pop(upto uint64) (responses []*raftpb.Message, ok bool) {
	if q.len() == 0 || q.queue[q.head].number > upto {
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
