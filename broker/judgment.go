package broker

import (
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// verdict is what is known of a delivery that came before this broker was stopped.
type verdict uint8

const (
	doubtful verdict = iota // the leader was not yet asked, or has not answered
	ours
	others // another has it, or nobody
)

// maxStops bounds what is remembered of earlier stops, for deliveries to clients
// that read nothing meanwhile.
const maxStops = 16

// judgment is what a group's leaders said of what the gateway told them that its
// consumers have. Guarded by the gateway's mutex.
type judgment struct {
	round uint32 // up to which a leader has answered
	// taking is what has been denied since: what a greeting that was not judged to
	// its end has denied already is not told in the next one.
	taking map[claim]*heldSet
	stops  []denied // ascending
}

// claim is a holder's to messages of a queue.
type claim struct {
	holder queue.HolderID
	queue  entry.QueueID
}

// denied is what was denied when a leader was asked in a round.
type denied struct {
	round uint32
	taken map[claim]*heldSet
}

func (j *judgment) knows(round uint32) bool { return j.round >= round }

// take notes what a leader has denied.
func (j *judgment) take(c claim, ranges []entry.Range) {
	if j.taking == nil {
		j.taking = make(map[claim]*heldSet)
	}
	s := j.taking[c]
	if s == nil {
		s = &heldSet{}
		j.taking[c] = s
	}
	for _, r := range ranges {
		s.addAll(r)
	}
}

// end says that a leader has judged all it was told in a round.
func (j *judgment) end(round uint32) {
	taken := j.taking
	if j.taking = nil; j.knows(round) {
		return // Deliveries before that are known already.
	}
	j.round = round
	if len(taken) == 0 {
		return
	}
	if j.stops = append(j.stops, denied{round, taken}); len(j.stops) > maxStops {
		j.stops = j.stops[1:]
	}
}

// of judges a delivery that came in a round, in a later one.
func (j *judgment) of(c claim, message entry.MessageID, came, round uint32) verdict {
	if !j.knows(round) {
		return doubtful
	}
	for _, d := range j.stops {
		if s := d.taken[c]; d.round > came && s != nil && s.has(message) {
			return others
		}
	}
	return ours
}

// judge says whether a delivery is still its holder's, that came in a round of
// doubt and has not been written in this one.
func (w *gateway) judge(c claim, message entry.MessageID, came, round uint32) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.judgment.of(c, message, came, round)
}

// taken forgets what a holder has no more, as the leader says. Called with mu held.
func (w *gateway) taken(m *wireMessage) {
	w.mu.judgment.take(claim{m.holder, m.queue}, m.ranges)
	if v := w.mu.holders[m.holder]; v != nil {
		for _, r := range m.ranges {
			v.remove(m.queue, r)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.mu.consumers)) {
		f := w.mu.consumers[id]
		if f.Holder != m.holder || f.Queue != m.queue || !f.NoAck {
			continue
		}
		n := 0
		for _, r := range m.ranges {
			for id := r.First; id <= r.Last; id++ {
				if f.unwritten.has(id) {
					f.unwritten.remove(entry.Range{First: id, Last: id})
					n++
				}
			}
		}
		// The writer, which may have written it, gives no credit for it any more.
		if n = min(n, f.given); n > 0 {
			f.given -= n
			w.toLeader(&wireMessage{kind: wireCredit, consumer: queue.Consumer{ID: f.ID}, n: uint64(n)})
		}
	}
}
