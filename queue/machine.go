package queue

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Machine is the replicated state of a queue group: its queues, which messages
// wait in them and where their bodies lie, and which submissions were seen.
// Equal entries give equal states, whatever broker applies them.
//
// A waiting message costs 20 bytes and its entry 8 more (shared by all the
// messages of the entry), plus less than a byte for the chunks they lie in.
// One with an expiration of its own costs 12 more, and an entry with messages
// of a queue with a TTL 12 more.
//
// It belongs to one goroutine, readers included: looking something up moves
// the places that its tables remember.
type Machine struct {
	applied  uint64
	now      int64
	queues   map[entry.QueueID]*state
	sessions map[entry.SessionID]*session
	entries  table[uint32] // references to each entry's messages; key: its index
	current  uint32        // references to the entry that is being applied
	stamps   table[int64]  // times of entries with messages that expire by a queue's TTL; key: the index
	stamped  bool          // the entry that is being applied has such messages
	// producers are those who number what they publish.
	producers producers
	records   pool[record]
	counts    pool[uint32]
	times     pool[int64]
	batch     Batch
	op        Op
	lastUsed  *state // the queue looked up last
}

// state is one queue.
type state struct {
	id       entry.QueueID
	settings Settings
	last     entry.MessageID // newest id given out
	mark     entry.MessageID
	bytes    uint64
	waiting  table[record] // key: the message's id
	touched  uint64        // index of the entry that touched it last
	limited  uint64        // index of the last entry with a message that expires
	// expirations has when messages expire that do so earlier than by the
	// queue's TTL, by their ids; nil until there is one.
	expirations *table[int64]
}

// session is what a machine remembers of a gateway's life.
type session struct {
	seq  uint64 // of its last submission
	seen int64  // the batch time of that
}

// record is a waiting message. Its id is its key in the table.
type record struct {
	place  uint64 // the entry's index << 16 | deliveries
	offset uint32
	size   uint32
}

// maxIndex is the highest index that a record can hold: at 100,000 entries a
// second it is reached in 89 years.
const maxIndex = 1<<48 - 1

// maxMessage is the highest message id that a checkpoint may have. No queue
// comes near it.
const maxMessage = 1 << 62

// maxDeliveries is where a delivery count stays.
const maxDeliveries = 1<<16 - 1

func (r record) index() uint64      { return r.place >> 16 }
func (r record) deliveries() uint32 { return uint32(r.place & maxDeliveries) }

func (r record) message(id uint64) Message {
	return Message{
		ID:         entry.MessageID(id),
		Ref:        entry.Ref{Index: r.index(), Offset: r.offset, Size: r.size},
		Deliveries: r.deliveries(),
	}
}

// Info is what a machine knows of one queue.
type Info struct {
	ID       entry.QueueID
	Settings Settings
	Messages uint64          // waiting, delivered ones included
	Bytes    uint64          // of their contents
	Last     entry.MessageID // the newest id given out, 0 if none
	Mark     entry.MessageID // ids up to it may have been delivered
}

// Message is one waiting message.
type Message struct {
	ID         entry.MessageID
	Ref        entry.Ref
	Deliveries uint32 // how often it was returned; stays at 65535
}

// NewMachine returns the state before the first entry.
func NewMachine() *Machine {
	m := &Machine{queues: map[entry.QueueID]*state{}, sessions: map[entry.SessionID]*session{}}
	m.entries.pool, m.stamps.pool = &m.counts, &m.times
	m.producers = newProducers()
	return m
}

func (m *Machine) newState(id entry.QueueID, s Settings) *state {
	q := &state{id: id, settings: s}
	q.waiting.pool = &m.records
	m.queues[id] = q
	return q
}

// find returns a queue's state, nil if there is none. Most ops of an entry are
// of the same queue, so the last one is kept at hand.
func (m *Machine) find(id entry.QueueID) *state {
	if q := m.lastUsed; q != nil && q.id == id {
		return q
	}
	q := m.queues[id]
	if q != nil {
		m.lastUsed = q
	}
	return q
}

// Applied is the index of the last entry applied.
func (m *Machine) Applied() uint64 { return m.applied }

// Now is the leader's time of the last batch, in nanoseconds of the Unix
// epoch. It never goes back.
func (m *Machine) Now() int64 { return m.now }

// Queue describes a queue; false if there is none.
func (m *Machine) Queue(id entry.QueueID) (Info, bool) {
	q := m.find(id)
	if q == nil {
		return Info{}, false
	}
	return Info{ID: q.id, Settings: q.settings, Messages: uint64(q.waiting.live), Bytes: q.bytes, Last: q.last, Mark: q.mark}, true
}

// Queues returns the ids of all queues, ascending. O(queues log queues).
func (m *Machine) Queues() []entry.QueueID { return slices.Sorted(maps.Keys(m.queues)) }

// Sessions returns the sessions that are remembered, ascending.
func (m *Machine) Sessions() []entry.SessionID { return slices.Sorted(maps.Keys(m.sessions)) }

// Session returns the sequence of a session's last submission, and the time of
// its batch; false if the session is not known.
func (m *Machine) Session(id entry.SessionID) (seq uint64, seen int64, ok bool) {
	s := m.sessions[id]
	if s == nil {
		return 0, 0, false
	}
	return s.seq, s.seen, true
}

// Message looks up a waiting message; false if it or its queue is gone.
func (m *Machine) Message(q entry.QueueID, id entry.MessageID) (Message, bool) {
	if s := m.find(q); s != nil {
		if r, ok := s.waiting.get(uint64(id)); ok {
			return r.message(uint64(id)), true
		}
	}
	return Message{}, false
}

// Each calls fn with the queue's messages from id from on, ascending, until it
// returns false.
func (m *Machine) Each(q entry.QueueID, from entry.MessageID, fn func(Message) bool) {
	if s := m.find(q); s != nil {
		s.waiting.each(uint64(from), func(id uint64, r record) bool { return fn(r.message(id)) })
	}
}

// Live tells whether a message waits whose body lies in that entry.
func (m *Machine) Live(index uint64) bool {
	_, ok := m.entries.get(index)
	return ok
}

// retain counts n more references to an entry.
func (m *Machine) retain(index uint64, n uint32) {
	if p := m.entries.ref(index); p != nil {
		*p += n
	} else {
		m.entries.put(index, n)
	}
}

// release counts n fewer references to an entry, and tells when it has none.
func (m *Machine) release(index uint64, n uint32, fx *Effects) {
	if index == m.applied {
		m.current -= n
		return
	}
	p := m.entries.ref(index)
	if p == nil || *p < n {
		panic(fmt.Sprintf("queue: entry %d released %d times too often", index, n))
	}
	if *p > n {
		*p -= n
		return
	}
	m.entries.delete(index)
	if m.stamps.live > 0 {
		m.stamps.delete(index)
	}
	fx.Released = append(fx.Released, index)
}
