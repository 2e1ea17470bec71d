package replicate

import (
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func TestResponsesLeaveTheWriteQueueInOrder(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var q writeQueue
	var put, got, completed uint64
	var numbers []uint64
	response := func() []*raftpb.Message {
		put++
		return []*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), Index: new(put)}}
	}
	for range 50000 {
		switch random.IntN(5) {
		case 0, 1:
			numbers = append(numbers, q.push(make([]Entry, random.IntN(3)), response()))
		case 2:
			if r := response(); !q.behind(r) {
				put--
			}
		default:
			if len(numbers) == 0 {
				break
			}
			n := random.IntN(min(len(numbers), 3))
			completed = numbers[n]
			numbers = numbers[n+1:]
			for {
				responses, ok := q.pop(completed)
				if !ok {
					break
				}
				for _, r := range responses {
					if got++; r.GetIndex() != got {
						t.Fatalf("seed %d: response %d after %d", seed, r.GetIndex(), got-1)
					}
				}
			}
		}
		if q.len() != len(numbers) || q.len() == 0 && (got != put || q.entries != 0) {
			t.Fatalf("seed %d: %d writes wait, want %d; %d responses of %d, %d entries", seed, q.len(), len(numbers), got, put, q.entries)
		}
	}
	if cap(q.queue) > 1<<16 {
		t.Errorf("the queue grew to %d", cap(q.queue))
	}
}

func TestTheSameAttestationIsQueuedOnce(t *testing.T) {
	attest := func(term, index, logTerm uint64) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgStorageAppendResp.Enum(), Term: &term, Index: &index, LogTerm: &logTerm}
	}
	ack := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), Term: new(uint64(1)), Index: new(uint64(5))}
	var q writeQueue
	q.push(nil, []*raftpb.Message{attest(1, 5, 1)})
	for _, r := range []*raftpb.Message{attest(1, 5, 1), attest(2, 5, 1), attest(1, 6, 1), attest(1, 5, 2), ack, ack} {
		q.behind([]*raftpb.Message{r})
	}
	if responses, _ := q.pop(1); len(responses) != 6 {
		t.Errorf("%d responses wait, want 6: %v", len(responses), responses)
	}
}
