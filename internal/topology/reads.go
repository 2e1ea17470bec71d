package topology

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

func compareOrdinals(a, b *Queue) int { return cmp.Compare(a.ordinal, b.ordinal) }

func compareExchanges(a, b *Exchange) int {
	return cmp.Or(strings.Compare(a.Vhost, b.Vhost), strings.Compare(a.Name, b.Name))
}

func sorted[T any](all iter.Seq[T], compare func(a, b T) int) []T {
	return slices.SortedFunc(all, compare)
}

// Vhost is the vhost of that name.
func (s *State) Vhost(name string) (Vhost, bool) {
	if h := s.vhosts[name]; h != nil {
		return h.Vhost, true
	}
	return Vhost{}, false
}

// Vhosts lists all vhosts by name.
func (s *State) Vhosts() []Vhost {
	var list []Vhost
	for _, name := range slices.Sorted(maps.Keys(s.vhosts)) {
		list = append(list, s.vhosts[name].Vhost)
	}
	return list
}

// Queue is the queue of that name, nil where there is none.
func (s *State) Queue(vhost, name string) *Queue {
	if h := s.vhosts[vhost]; h != nil {
		return h.queues[name]
	}
	return nil
}

// QueueByID is the queue with that id, nil where there is none.
func (s *State) QueueByID(id entry.QueueID) *Queue { return s.queues[id] }

// QueueCount is the number of queues in all vhosts.
func (s *State) QueueCount() int { return len(s.queues) }

// QueuesIn is the number of queues in a group.
func (s *State) QueuesIn(g entry.GroupID) int { return s.inGroup[g] }

// Queues lists a vhost's queues by name. O(n log n).
func (s *State) Queues(vhost string) []*Queue {
	h := s.vhosts[vhost]
	if h == nil {
		return nil
	}
	return sorted(maps.Values(h.queues), func(a, b *Queue) int { return strings.Compare(a.Name, b.Name) })
}

// AllQueues lists the queues of all vhosts in the order of their declaration.
// O(n log n).
func (s *State) AllQueues() []*Queue { return sorted(maps.Values(s.queues), compareOrdinals) }

// QueuesOwnedBy lists a connection's exclusive queues.
func (s *State) QueuesOwnedBy(owner string) []*Queue { return slices.Clone(s.owned[owner]) }

// Exchange is the exchange of that name ("" for the default exchange), nil
// where there is none.
func (s *State) Exchange(vhost, name string) *Exchange {
	if h := s.vhosts[vhost]; h != nil {
		if x := h.exchanges[name]; x != nil {
			return &x.Exchange
		}
	}
	return nil
}

// Exchanges lists a vhost's exchanges by name, the default exchange first.
func (s *State) Exchanges(vhost string) []*Exchange {
	h := s.vhosts[vhost]
	if h == nil {
		return nil
	}
	list := make([]*Exchange, 0, len(h.exchanges))
	for _, x := range h.exchanges {
		list = append(list, &x.Exchange)
	}
	slices.SortFunc(list, compareExchanges)
	return list
}

// Bindings lists a vhost's bindings by source, destination, key and arguments.
// The default exchange's are implied and not listed. O(n log n).
func (s *State) Bindings(vhost string) []Binding {
	h := s.vhosts[vhost]
	if h == nil {
		return nil
	}
	var list []*binding
	for _, x := range h.exchanges {
		list = slices.AppendSeq(list, maps.Values(x.out))
	}
	return views(list)
}

// BindingsFrom lists the bindings whose source is an exchange.
func (s *State) BindingsFrom(vhost, exchange string) []Binding {
	h := s.vhosts[vhost]
	if h == nil || h.exchanges[exchange] == nil {
		return nil
	}
	return views(slices.Collect(maps.Values(h.exchanges[exchange].out)))
}

// BindingsToQueue lists the bindings to a queue.
func (s *State) BindingsToQueue(vhost, queue string) []Binding {
	if q := s.Queue(vhost, queue); q != nil {
		return views(slices.Clone(*q.in))
	}
	return nil
}

// BindingsToExchange lists the bindings to an exchange.
func (s *State) BindingsToExchange(vhost, exchange string) []Binding {
	h := s.vhosts[vhost]
	if h == nil || h.exchanges[exchange] == nil {
		return nil
	}
	return views(slices.Clone(h.exchanges[exchange].in))
}

func views(list []*binding) []Binding {
	slices.SortFunc(list, compareBindings)
	out := make([]Binding, len(list))
	for i, b := range list {
		out[i] = b.view()
	}
	return out
}

// User is the user of that name, nil where there is none.
func (s *State) User(name string) *User {
	if u := s.users[name]; u != nil {
		return &u.User
	}
	return nil
}

// Users lists all users by name.
func (s *State) Users() []*User {
	var list []*User
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		list = append(list, &s.users[name].User)
	}
	return list
}

// Permissions lists all permissions by user and vhost.
func (s *State) Permissions() []Permission {
	var list []Permission
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		u := s.users[name]
		for _, vhost := range slices.Sorted(maps.Keys(u.permissions)) {
			list = append(list, u.permissions[vhost].Permission)
		}
	}
	return list
}

// AccessVersion changes whenever a user, a permission or a vhost does: while it
// is the same, an answer of CheckAccess still holds and may be kept.
func (s *State) AccessVersion() uint64 { return s.access }

// CheckVhost says whether a user may open a vhost: nil, or the 530 that
// connection.open is answered with.
func (s *State) CheckVhost(user, vhost string) *amqp.Error {
	if s.vhosts[vhost] == nil {
		return NoSuchVhost(vhost)
	}
	if u := s.users[user]; u == nil || u.permissions[vhost] == nil {
		return VhostRefused(vhost, user)
	}
	return nil
}

// CheckAccess says whether a user may do something to a resource: nil, or the
// 403 that the channel is closed with. It runs a regular expression; keep the
// answer while AccessVersion is the same.
func (s *State) CheckAccess(user, vhost string, action Action, kind ResourceKind, name string) *amqp.Error {
	asked := name
	if kind == ExchangeKind && name == "" {
		asked = "amq.default"
	}
	if u := s.users[user]; u != nil {
		if p := u.permissions[vhost]; p != nil && p.patterns[action].matches(asked) {
			return nil
		}
	}
	return AccessRefused(action, kind, asked, vhost, user)
}
