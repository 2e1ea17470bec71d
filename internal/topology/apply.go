package topology

import (
	"crypto/sha256"
	"maps"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// maxName is the length of AMQP's short strings, which names are.
const maxName = 255

// maxPattern bounds a permission's regular expression.
const maxPattern = 4096

func named(names ...string) bool {
	for _, name := range names {
		if name == "" || len(name) > maxName {
			return false
		}
	}
	return true
}

type putVhost struct{ vhost Vhost }

func (putVhost) code() opCode { return opPutVhost }

func (o putVhost) apply(s *State, _ *Effects) OpResult {
	if !named(o.vhost.Name) {
		return OpResult{Code: Invalid, Name: o.vhost.Name}
	}
	s.access++
	if h := s.vhosts[o.vhost.Name]; h != nil {
		h.Vhost = o.vhost
		return OpResult{}
	}
	s.vhosts[o.vhost.Name] = newVhost(o.vhost)
	return OpResult{}
}

type deleteVhost struct{ name string }

func (deleteVhost) code() opCode { return opDeleteVhost }

func (o deleteVhost) apply(s *State, fx *Effects) OpResult {
	h := s.vhosts[o.name]
	if h == nil {
		return OpResult{Code: Missing, Name: o.name}
	}
	s.access++
	for _, x := range h.exchanges {
		if !x.Predeclared {
			fx.ExchangesDeleted = append(fx.ExchangesDeleted, &x.Exchange)
		}
	}
	for _, q := range h.queues {
		fx.QueuesDeleted = append(fx.QueuesDeleted, q)
	}
	for _, u := range s.users {
		delete(u.permissions, o.name)
	}
	delete(s.vhosts, o.name)
	fx.VhostsDeleted = append(fx.VhostsDeleted, o.name)
	return OpResult{}
}

type putUser struct{ user User }

func (putUser) code() opCode { return opPutUser }

func (o putUser) apply(s *State, fx *Effects) OpResult {
	if n := len(o.user.PasswordHash); !named(o.user.Name) || n > 0 && n < sha256.Size || n > 2*maxName {
		return OpResult{Code: Invalid, Name: o.user.Name}
	}
	s.access++
	fx.UsersChanged = append(fx.UsersChanged, o.user.Name)
	// What reads have handed out stays as it is: a new one takes its place.
	u := &user{User: o.user, permissions: make(map[string]*permission)}
	if old := s.users[o.user.Name]; old != nil {
		u.permissions = old.permissions
	}
	s.users[o.user.Name] = u
	return OpResult{}
}

type deleteUser struct{ name string }

func (deleteUser) code() opCode { return opDeleteUser }

func (o deleteUser) apply(s *State, fx *Effects) OpResult {
	if s.users[o.name] == nil {
		return OpResult{Code: Missing, Name: o.name}
	}
	s.access++
	delete(s.users, o.name)
	fx.UsersChanged = append(fx.UsersChanged, o.name)
	return OpResult{}
}

type putPermission struct{ permission Permission }

func (putPermission) code() opCode { return opPutPermission }

func (o putPermission) apply(s *State, fx *Effects) OpResult {
	p := o.permission
	u := s.users[p.User]
	if u == nil {
		return OpResult{Code: NoUser, Name: p.User}
	}
	if s.vhosts[p.Vhost] == nil {
		return OpResult{Code: NoVhost, Name: p.Vhost}
	}
	if max(len(p.Configure), len(p.Write), len(p.Read)) > maxPattern {
		return OpResult{Code: Invalid, Name: p.User}
	}
	compiled, err := newPermission(p)
	if err != nil {
		return OpResult{Code: Invalid, Name: p.User}
	}
	s.access++
	u.permissions[p.Vhost] = compiled
	fx.UsersChanged = append(fx.UsersChanged, p.User)
	return OpResult{}
}

type deletePermission struct{ user, vhost string }

func (deletePermission) code() opCode { return opDeletePermission }

func (o deletePermission) apply(s *State, fx *Effects) OpResult {
	u := s.users[o.user]
	if u == nil || u.permissions[o.vhost] == nil {
		return OpResult{Code: Missing, Name: o.user}
	}
	s.access++
	delete(u.permissions, o.vhost)
	fx.UsersChanged = append(fx.UsersChanged, o.user)
	return OpResult{}
}

type declareExchange struct{ exchange Exchange }

func (declareExchange) code() opCode { return opDeclareExchange }

func (o declareExchange) apply(s *State, _ *Effects) OpResult {
	e := o.exchange
	h := s.vhosts[e.Vhost]
	if h == nil {
		return OpResult{Code: NoVhost, Name: e.Vhost}
	}
	if old := h.exchanges[e.Name]; old != nil {
		return OpResult{Code: Exists, Exchange: &old.Exchange}
	}
	if !named(e.Name) || kindOf(e.Kind) == noKind {
		return OpResult{Code: Invalid, Name: e.Name}
	}
	e.Alternate = alternate(e.Arguments)
	x := newExchange(e)
	h.exchanges[e.Name] = x
	return OpResult{Exchange: &x.Exchange}
}

type deleteExchange struct {
	vhost, name string
	ifUnused    bool
}

func (deleteExchange) code() opCode { return opDeleteExchange }

func (o deleteExchange) apply(s *State, fx *Effects) OpResult {
	h := s.vhosts[o.vhost]
	if h == nil {
		return OpResult{Code: NoVhost, Name: o.vhost}
	}
	x := h.exchanges[o.name]
	switch {
	case x == nil:
		return OpResult{Code: Missing, Name: o.name}
	case x.Predeclared:
		return OpResult{Code: Refused, Name: o.name}
	case o.ifUnused && len(x.out) > 0:
		return OpResult{Code: InUse, Name: o.name}
	}
	h.removeExchange(x, fx)
	return OpResult{Exchange: &x.Exchange}
}

type declareQueue struct{ queue *Queue }

func (declareQueue) code() opCode { return opDeclareQueue }

func (o declareQueue) apply(s *State, fx *Effects) OpResult {
	q := o.queue
	h := s.vhosts[q.Vhost]
	if h == nil {
		return OpResult{Code: NoVhost, Name: q.Vhost}
	}
	if old := h.queues[q.Name]; old != nil {
		return OpResult{Code: Exists, Queue: old}
	}
	if !named(q.Name) || q.ID == 0 || s.queues[q.ID] != nil || q.Exclusive != (q.Owner != "") {
		return OpResult{Code: Invalid, Name: q.Name}
	}
	if q.Exclusive {
		q.Durable = false
		s.owned[q.Owner] = append(s.owned[q.Owner], q)
	}
	s.ordinal++
	q.ordinal = s.ordinal
	q.in = new([]*binding)
	h.queues[q.Name] = q
	s.queues[q.ID] = q
	s.inGroup[q.Group]++
	fx.QueuesAdded = append(fx.QueuesAdded, q)
	return OpResult{Queue: q}
}

type deleteQueue struct {
	vhost, name string
	id          entry.QueueID
}

func (deleteQueue) code() opCode { return opDeleteQueue }

func (o deleteQueue) apply(s *State, fx *Effects) OpResult {
	h := s.vhosts[o.vhost]
	if h == nil {
		return OpResult{Code: NoVhost, Name: o.vhost}
	}
	q := h.queues[o.name]
	if q == nil || o.id != 0 && o.id != q.ID {
		return OpResult{Code: Missing, Name: o.name}
	}
	h.removeQueue(q, fx)
	return OpResult{Queue: q}
}

type bind struct{ binding Binding }

func (bind) code() opCode { return opBind }

func (o bind) apply(s *State, _ *Effects) OpResult {
	h := s.vhosts[o.binding.Vhost]
	if h == nil {
		return OpResult{Code: NoVhost, Name: o.binding.Vhost}
	}
	b, r := h.resolve(&o.binding)
	if r.Code != OK {
		return r
	}
	if len(b.key) > maxName || CheckBinding(b.source.Kind, b.table) != nil {
		return OpResult{Code: Invalid, Name: b.source.Name}
	}
	if !h.bind(b) {
		return OpResult{Code: Exists}
	}
	return OpResult{}
}

type unbind struct{ binding Binding }

func (unbind) code() opCode { return opUnbind }

// apply answers Missing wherever there is nothing to unbind, missing ends
// included, as RabbitMQ does.
func (o unbind) apply(s *State, fx *Effects) OpResult {
	h := s.vhosts[o.binding.Vhost]
	if h == nil {
		return OpResult{Code: NoVhost, Name: o.binding.Vhost}
	}
	wanted, r := h.resolve(&o.binding)
	if r.Code == Refused {
		return r
	}
	if r.Code != OK {
		return OpResult{Code: Missing, Name: r.Name}
	}
	b := wanted.source.out[wanted.identity()]
	if b == nil {
		return OpResult{Code: Missing}
	}
	h.unbind(b, fx)
	return OpResult{}
}

type deleteVolatile struct {
	broker string
	boot   uint64
}

func (deleteVolatile) code() opCode { return opDeleteVolatile }

func (o deleteVolatile) apply(s *State, fx *Effects) OpResult {
	return s.removeWhere(func(q *Queue) bool {
		return q.Volatile() && q.Broker == o.broker && q.Boot != o.boot
	}, fx)
}

type deleteOwned struct{ owner string }

func (deleteOwned) code() opCode { return opDeleteOwned }

func (o deleteOwned) apply(s *State, fx *Effects) OpResult {
	if len(s.owned[o.owner]) == 0 {
		return OpResult{Code: Missing, Name: o.owner}
	}
	for _, q := range s.owned[o.owner] { // changed only afterwards, by forget
		s.vhosts[q.Vhost].removeQueue(q, fx)
	}
	return OpResult{}
}

type endSession struct{ session entry.SessionID }

func (endSession) code() opCode { return opEndSession }

func (o endSession) apply(s *State, _ *Effects) OpResult {
	if _, heard := s.sessions[o.session]; !heard {
		return OpResult{Code: Missing}
	}
	delete(s.sessions, o.session)
	return OpResult{}
}

type deleteTransient struct{}

func (deleteTransient) code() opCode { return opDeleteTransient }

func (deleteTransient) apply(s *State, fx *Effects) OpResult {
	result := OpResult{Code: Missing}
	for _, h := range s.vhosts {
		for x := range maps.Values(h.exchanges) {
			if !x.Durable {
				h.removeExchange(x, fx)
				result.Code = OK
			}
		}
	}
	return result
}
