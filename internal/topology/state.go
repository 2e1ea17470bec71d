package topology

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// State is the topology group's state.
type State struct {
	applied  uint64
	vhosts   map[string]*vhost
	users    map[string]*user
	sessions map[entry.SessionID]uint64 // the last sequence heard of each

	// queues has all queues; owned has the exclusive ones by their owner, and
	// inGroup the number of those of each group.
	queues  map[entry.QueueID]*Queue
	owned   map[string][]*Queue
	inGroup map[entry.GroupID]int
	// ordinal is that of the last queue declared.
	ordinal uint64
	// access counts changes of users, permissions and vhosts.
	access uint64
}

// New returns the state that every cluster begins with: vhost "/" with the
// predeclared exchanges, and the user guest, password guest, an administrator
// who may do everything in it.
func New() *State {
	s := empty()
	s.vhosts["/"] = newVhost(Vhost{Name: "/", Description: "Default virtual host"})
	guest := &user{
		User:        User{Name: "guest", PasswordHash: HashPassword([]byte(guestSalt), "guest"), Tags: []string{"administrator"}},
		permissions: make(map[string]*permission),
	}
	p, err := newPermission(Permission{User: "guest", Vhost: "/", Configure: ".*", Write: ".*", Read: ".*"})
	if err != nil {
		panic(fmt.Sprintf("topology: the permissions of guest: %v", err))
	}
	guest.permissions["/"] = p
	s.users["guest"] = guest
	return s
}

func empty() *State {
	return &State{
		vhosts:   make(map[string]*vhost),
		users:    make(map[string]*user),
		sessions: make(map[entry.SessionID]uint64),
		queues:   make(map[entry.QueueID]*Queue),
		owned:    make(map[string][]*Queue),
		inGroup:  make(map[entry.GroupID]int),
	}
}

// Applied is the index of the last entry applied.
func (s *State) Applied() uint64 { return s.applied }

// Apply carries out the payload of the entry at index, and adds to fx what came
// of it. The error wraps ErrMalformed; the payload has then changed nothing.
// REQUIRES: index > Applied().
func (s *State) Apply(index uint64, payload []byte, fx *Effects) error {
	if index <= s.applied {
		panic(fmt.Sprintf("topology: entry %d applied after %d", index, s.applied))
	}
	submissions, err := parseBatch(payload)
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	s.applied = index
	for i := range submissions {
		s.submit(&submissions[i], fx)
	}
	return nil
}

// submission is one of a batch, decoded.
type submission struct {
	session  entry.SessionID
	sequence uint64
	ops      []op
}

func parseBatch(payload []byte) ([]submission, error) {
	if len(payload) == 0 {
		return nil, nil
	}
	r := reader{b: payload}
	if v := r.byte("batch version"); v != batchVersion {
		r.fail(fmt.Sprintf("batch version %d", v))
	}
	r.fixed64("time")
	var list []submission
	for r.more() {
		sub := submission{session: entry.SessionID(r.uvarint("session")), sequence: r.uvarint("sequence")}
		ops := reader{b: r.bytes("ops")}
		for ops.more() {
			sub.ops = append(sub.ops, parseOp(opCode(ops.byte("op")), &ops))
		}
		if err := ops.err(); err != nil {
			return nil, err
		}
		list = append(list, sub)
	}
	return list, r.err()
}

func (s *State) submit(sub *submission, fx *Effects) {
	result := Result{Session: sub.session, Sequence: sub.sequence}
	if last, heard := s.sessions[sub.session]; heard && sub.sequence <= last {
		result.Duplicate = true
		fx.Results = append(fx.Results, result)
		return
	}
	s.sessions[sub.session] = sub.sequence
	result.Ops = make([]OpResult, 0, len(sub.ops))
	for _, o := range sub.ops {
		result.Ops = append(result.Ops, s.carryOut(o, fx))
	}
	fx.Results = append(fx.Results, result)
}

// carryOut applies one op. Its deletions come in an order that depends on the
// state alone: what collects them walks maps and lists whose order depends on
// the past, which a replica that was restored has forgotten.
func (s *State) carryOut(o op, fx *Effects) OpResult {
	queues, exchanges, added := len(fx.QueuesDeleted), len(fx.ExchangesDeleted), len(fx.QueuesAdded)
	access := s.access
	r := o.apply(s, fx)
	slices.SortFunc(fx.QueuesDeleted[queues:], compareOrdinals)
	slices.SortFunc(fx.ExchangesDeleted[exchanges:], compareExchanges)
	for _, q := range fx.QueuesDeleted[queues:] {
		s.forget(q)
	}
	if r.Code == OK && o.code() != opEndSession || len(fx.QueuesDeleted) > queues ||
		len(fx.ExchangesDeleted) > exchanges || len(fx.QueuesAdded) > added || s.access != access {
		fx.Changed = true
	}
	return r
}

// forget takes a queue that its vhost has let go out of the registry.
func (s *State) forget(q *Queue) {
	delete(s.queues, q.ID)
	if s.inGroup[q.Group]--; s.inGroup[q.Group] == 0 {
		delete(s.inGroup, q.Group)
	}
	if q.Owner == "" {
		return
	}
	left := slices.DeleteFunc(s.owned[q.Owner], func(other *Queue) bool { return other == q })
	if len(left) == 0 {
		delete(s.owned, q.Owner)
	} else {
		s.owned[q.Owner] = left
	}
}

// removeWhere deletes every queue that pick picks. O(queues).
func (s *State) removeWhere(pick func(*Queue) bool, fx *Effects) OpResult {
	result := OpResult{Code: Missing}
	for _, q := range sorted(maps.Values(s.queues), compareOrdinals) {
		if pick(q) {
			s.vhosts[q.Vhost].removeQueue(q, fx)
			result.Code = OK
		}
	}
	return result
}
