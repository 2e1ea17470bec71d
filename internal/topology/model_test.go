package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"pgregory.net/rapid"
)

// model is the state machine once more, as lists that are searched from end to
// end, without an index, an order or a thought for speed.
type model struct {
	vhosts      []string
	exchanges   []Exchange // predeclared ones too
	queues      []Queue
	bindings    []Binding
	users       []string
	permissions []Permission
	sessions    map[entry.SessionID]uint64
}

func newModel() *model {
	m := &model{sessions: map[entry.SessionID]uint64{}, users: []string{"guest"}}
	m.putVhost("/")
	m.permissions = []Permission{{"guest", "/", ".*", ".*", ".*"}}
	return m
}

func (m *model) putVhost(name string) Code {
	if !slices.Contains(m.vhosts, name) {
		m.vhosts = append(m.vhosts, name)
		m.exchanges = append(m.exchanges, predeclared(name)...)
	}
	return OK
}

func (m *model) deleteVhost(name string) Code {
	if !slices.Contains(m.vhosts, name) {
		return Missing
	}
	m.vhosts = slices.DeleteFunc(m.vhosts, func(v string) bool { return v == name })
	m.exchanges = slices.DeleteFunc(m.exchanges, func(x Exchange) bool { return x.Vhost == name })
	m.queues = slices.DeleteFunc(m.queues, func(q Queue) bool { return q.Vhost == name })
	m.bindings = slices.DeleteFunc(m.bindings, func(b Binding) bool { return b.Vhost == name })
	m.permissions = slices.DeleteFunc(m.permissions, func(p Permission) bool { return p.Vhost == name })
	return OK
}

func (m *model) exchange(vhost, name string) int {
	return slices.IndexFunc(m.exchanges, func(x Exchange) bool { return x.Vhost == vhost && x.Name == name })
}

func (m *model) queue(vhost, name string) int {
	return slices.IndexFunc(m.queues, func(q Queue) bool { return q.Vhost == vhost && q.Name == name })
}

func (m *model) declareExchange(e Exchange) Code {
	switch {
	case !slices.Contains(m.vhosts, e.Vhost):
		return NoVhost
	case m.exchange(e.Vhost, e.Name) >= 0:
		return Exists
	}
	m.exchanges = append(m.exchanges, e)
	return OK
}

func (m *model) declareQueue(q Queue) Code {
	switch {
	case !slices.Contains(m.vhosts, q.Vhost):
		return NoVhost
	case m.queue(q.Vhost, q.Name) >= 0:
		return Exists
	case slices.ContainsFunc(m.queues, func(o Queue) bool { return o.ID == q.ID }):
		return Invalid
	}
	q.Durable = q.Durable && !q.Exclusive
	m.queues = append(m.queues, q)
	return OK
}

// removeBindings removes those that gone picks, and auto-delete exchanges that
// are left without one, and so on.
func (m *model) removeBindings(gone func(Binding) bool) {
	removed := false
	var emptied []Exchange
	for _, b := range m.bindings {
		if gone(b) {
			removed = true
			if i := m.exchange(b.Vhost, b.Source); i >= 0 && m.exchanges[i].AutoDelete {
				emptied = append(emptied, m.exchanges[i])
			}
		}
	}
	m.bindings = slices.DeleteFunc(m.bindings, gone)
	if !removed {
		return
	}
	for _, x := range emptied {
		if !m.bound(x) && m.exchange(x.Vhost, x.Name) >= 0 {
			m.removeExchange(x)
		}
	}
}

func (m *model) bound(x Exchange) bool {
	return slices.ContainsFunc(m.bindings, func(b Binding) bool { return b.Vhost == x.Vhost && b.Source == x.Name })
}

func (m *model) removeExchange(x Exchange) {
	m.exchanges = slices.DeleteFunc(m.exchanges, func(o Exchange) bool { return o.Vhost == x.Vhost && o.Name == x.Name })
	m.removeBindings(func(b Binding) bool {
		return b.Vhost == x.Vhost && (b.Source == x.Name || b.ToExchange && b.Destination == x.Name)
	})
}

func (m *model) deleteExchange(vhost, name string, ifUnused bool) Code {
	if !slices.Contains(m.vhosts, vhost) {
		return NoVhost
	}
	i := m.exchange(vhost, name)
	switch {
	case i < 0:
		return Missing
	case m.exchanges[i].Predeclared:
		return Refused
	case ifUnused && m.bound(m.exchanges[i]):
		return InUse
	}
	m.removeExchange(m.exchanges[i])
	return OK
}

func (m *model) deleteQueues(gone func(Queue) bool) Code {
	var names [][2]string
	for _, q := range m.queues {
		if gone(q) {
			names = append(names, [2]string{q.Vhost, q.Name})
		}
	}
	m.queues = slices.DeleteFunc(m.queues, gone)
	m.removeBindings(func(b Binding) bool {
		return !b.ToExchange && slices.Contains(names, [2]string{b.Vhost, b.Destination})
	})
	if names == nil {
		return Missing
	}
	return OK
}

func (m *model) findBinding(b Binding) int {
	text := fmt.Sprintf("%#v", b)
	return slices.IndexFunc(m.bindings, func(o Binding) bool { return fmt.Sprintf("%#v", o) == text })
}

func (m *model) bind(b Binding) Code {
	switch {
	case !slices.Contains(m.vhosts, b.Vhost):
		return NoVhost
	case b.Source == "" || b.ToExchange && b.Destination == "":
		return Refused
	case m.exchange(b.Vhost, b.Source) < 0 || b.ToExchange && m.exchange(b.Vhost, b.Destination) < 0:
		return NoExchange
	case !b.ToExchange && m.queue(b.Vhost, b.Destination) < 0:
		return NoQueue
	case m.findBinding(b) >= 0:
		return Exists
	}
	m.bindings = append(m.bindings, b)
	return OK
}

func (m *model) unbind(b Binding) Code {
	switch {
	case !slices.Contains(m.vhosts, b.Vhost):
		return NoVhost
	case b.Source == "" || b.ToExchange && b.Destination == "":
		return Refused
	case m.findBinding(b) < 0:
		return Missing
	}
	text := fmt.Sprintf("%#v", b)
	m.removeBindings(func(o Binding) bool { return fmt.Sprintf("%#v", o) == text })
	return OK
}

func (m *model) deleteTransient() Code {
	code := Missing
	for {
		i := slices.IndexFunc(m.exchanges, func(x Exchange) bool { return !x.Durable })
		if i < 0 {
			return code
		}
		m.removeExchange(m.exchanges[i])
		code = OK
	}
}

func (m *model) putPermission(p Permission) Code {
	switch {
	case !slices.Contains(m.users, p.User):
		return NoUser
	case !slices.Contains(m.vhosts, p.Vhost):
		return NoVhost
	}
	m.deletePermission(p.User, p.Vhost)
	m.permissions = append(m.permissions, p)
	return OK
}

func (m *model) deletePermission(user, vhost string) Code {
	n := len(m.permissions)
	m.permissions = slices.DeleteFunc(m.permissions, func(p Permission) bool { return p.User == user && (vhost == "*" || p.Vhost == vhost) })
	if len(m.permissions) == n {
		return Missing
	}
	return OK
}

// dump prints all that a model and a state have in common.
func (m *model) dump() string {
	var lines []string
	for _, x := range m.exchanges {
		lines = append(lines, fmt.Sprintf("exchange %s %s %s %v %v %v", x.Vhost, x.Name, x.Kind, x.Durable, x.AutoDelete, x.Arguments))
	}
	for _, q := range m.queues {
		lines = append(lines, fmt.Sprintf("queue %s %s %d %v %v %s", q.Vhost, q.Name, q.ID, q.Durable, q.Exclusive, q.Owner))
	}
	for _, b := range m.bindings {
		lines = append(lines, fmt.Sprintf("binding %#v", b))
	}
	for _, p := range m.permissions {
		lines = append(lines, fmt.Sprintf("permission %v", p))
	}
	for _, u := range m.users {
		lines = append(lines, "user "+u)
	}
	for id, n := range m.sessions {
		lines = append(lines, fmt.Sprintf("session %d %d", id, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func dumpState(s *State) string {
	m := model{sessions: s.sessions, permissions: s.Permissions()}
	for _, v := range s.Vhosts() {
		for _, x := range s.Exchanges(v.Name) {
			m.exchanges = append(m.exchanges, *x)
		}
		for _, q := range s.Queues(v.Name) {
			m.queues = append(m.queues, *q)
		}
		m.bindings = append(m.bindings, s.Bindings(v.Name)...)
	}
	for _, u := range s.Users() {
		m.users = append(m.users, u.Name)
	}
	return m.dump()
}

// step is a random op: its bytes, and what it does to a model.
type step struct {
	ops   []byte
	apply func(*model) Code
}

var (
	someVhosts    = rapid.SampledFrom([]string{"/", "/", "/", "v"})
	someExchanges = rapid.SampledFrom([]string{"", "amq.direct", "amq.topic", "amq.headers", "amq.fanout", "x1", "x2", "x3", "x4"})
	someQueues    = rapid.SampledFrom([]string{"q1", "q2", "q3", "q4", "q5"})
	someKeys      = rapid.SampledFrom([]string{"", "a", "b", "a.b", "a.*", "#", "#.b", "*.#"})
	someTables    = rapid.SampledFrom([]amqp.Table{nil, nil, {"a": "1"}, {"x-match": "any", "a": "1", "b": int32(1)}, {"x-match": "all-with-x", "x-a": nil}})
	someConns     = rapid.SampledFrom([]string{"c1", "c2"})
	someBrokers   = rapid.SampledFrom([]string{"b1", "b2"})
	someUsers     = rapid.SampledFrom([]string{"guest", "u"})
)

func drawBinding(t *rapid.T) Binding {
	b := Binding{Vhost: someVhosts.Draw(t, "vhost"), Source: someExchanges.Draw(t, "source"), RoutingKey: someKeys.Draw(t, "key"), Arguments: someTables.Draw(t, "arguments")}
	if b.ToExchange = rapid.IntRange(0, 2).Draw(t, "end") == 0; b.ToExchange {
		b.Destination = someExchanges.Draw(t, "destination")
	} else {
		b.Destination = someQueues.Draw(t, "destination")
	}
	return b
}

func drawDeclare(t *rapid.T) step {
	if rapid.Bool().Draw(t, "exchange") {
		e := Exchange{Vhost: someVhosts.Draw(t, "vhost"), Name: someExchanges.Draw(t, "exchange"), Kind: rapid.SampledFrom([]string{"direct", "fanout", "topic", "headers"}).Draw(t, "kind")}
		e.Durable, e.AutoDelete = rapid.Bool().Draw(t, "durable"), rapid.Bool().Draw(t, "auto-delete")
		if rapid.Bool().Draw(t, "has alternate") {
			e.Arguments = amqp.Table{"alternate-exchange": someExchanges.Draw(t, "alternate")}
		}
		b, _ := AppendDeclareExchange(nil, &e)
		return step{b, func(m *model) Code { return m.declareExchange(e) }}
	}
	q := Queue{ID: entry.QueueID(rapid.IntRange(1, 1000).Draw(t, "id")), Vhost: someVhosts.Draw(t, "vhost"), Name: someQueues.Draw(t, "queue"), Durable: rapid.Bool().Draw(t, "durable")}
	if rapid.Bool().Draw(t, "volatile") {
		q.Group, q.Broker, q.Boot = entry.Volatile, someBrokers.Draw(t, "broker"), rapid.Uint64Range(1, 2).Draw(t, "boot")
		if q.Exclusive = rapid.Bool().Draw(t, "exclusive"); q.Exclusive {
			q.Owner = someConns.Draw(t, "owner")
		}
	}
	b, _ := AppendDeclareQueue(nil, &q)
	return step{b, func(m *model) Code { return m.declareQueue(q) }}
}

func drawDelete(t *rapid.T) step {
	vhost := someVhosts.Draw(t, "vhost")
	switch rapid.IntRange(0, 5).Draw(t, "delete") {
	case 0, 1:
		name := someQueues.Draw(t, "queue")
		id := entry.QueueID(rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "id"))
		return step{AppendDeleteQueue(nil, vhost, name, id), func(m *model) Code {
			if !slices.Contains(m.vhosts, vhost) {
				return NoVhost
			}
			return m.deleteQueues(func(q Queue) bool { return q.Vhost == vhost && q.Name == name && (id == 0 || id == q.ID) })
		}}
	case 2:
		name, ifUnused := someExchanges.Draw(t, "exchange"), rapid.Bool().Draw(t, "if unused")
		return step{AppendDeleteExchange(nil, vhost, name, ifUnused), func(m *model) Code { return m.deleteExchange(vhost, name, ifUnused) }}
	case 3:
		broker, boot := someBrokers.Draw(t, "broker"), rapid.Uint64Range(0, 2).Draw(t, "boot")
		return step{AppendDeleteVolatile(nil, broker, boot), func(m *model) Code {
			return m.deleteQueues(func(q Queue) bool { return q.Volatile() && q.Broker == broker && q.Boot != boot })
		}}
	case 4:
		owner := someConns.Draw(t, "owner")
		return step{AppendDeleteOwned(nil, owner), func(m *model) Code { return m.deleteQueues(func(q Queue) bool { return q.Owner == owner }) }}
	}
	return step{AppendDeleteTransient(nil), (*model).deleteTransient}
}

func drawAccess(t *rapid.T) step {
	user, vhost := someUsers.Draw(t, "user"), someVhosts.Draw(t, "vhost")
	switch rapid.IntRange(0, 9).Draw(t, "access") {
	case 0, 6, 7:
		return step{AppendPutVhost(nil, Vhost{Name: vhost}), func(m *model) Code { return m.putVhost(vhost) }}
	case 1:
		return step{AppendDeleteVhost(nil, vhost), func(m *model) Code { return m.deleteVhost(vhost) }}
	case 2:
		return step{AppendPutUser(nil, User{Name: user}), func(m *model) Code {
			if !slices.Contains(m.users, user) {
				m.users = append(m.users, user)
			}
			return OK
		}}
	case 3:
		return step{AppendDeleteUser(nil, user), func(m *model) Code {
			n := len(m.users)
			m.users = slices.DeleteFunc(m.users, func(u string) bool { return u == user })
			m.deletePermission(user, "*")
			if len(m.users) == n {
				return Missing
			}
			return OK
		}}
	case 4:
		return step{AppendDeletePermission(nil, user, vhost), func(m *model) Code { return m.deletePermission(user, vhost) }}
	}
	p := Permission{user, vhost, rapid.SampledFrom([]string{"", ".*", "^a"}).Draw(t, "configure"), ".*", ""}
	return step{AppendPutPermission(nil, p), func(m *model) Code { return m.putPermission(p) }}
}

func drawStep(t *rapid.T) step {
	switch rapid.IntRange(0, 39).Draw(t, "op") {
	case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
		return drawDeclare(t)
	case 13:
		return drawAccess(t)
	case 14, 15, 16:
		return drawDelete(t)
	case 17, 18, 19, 20:
		b := drawBinding(t)
		ops, _ := AppendUnbind(nil, &b)
		return step{ops, func(m *model) Code { return m.unbind(b) }}
	}
	b := drawBinding(t)
	ops, _ := AppendBind(nil, &b)
	return step{ops, func(m *model) Code { return m.bind(b) }}
}

// twins are a state, one that is restored from its checkpoint now and then, and
// the model.
type twins struct {
	state, restored *State
	model           *model
	added, deleted  map[entry.QueueID]int
}

// furnish declares what random ops would take long to come by: exchanges that
// delete themselves, bound to one another.
func (w *twins) furnish(t *rapid.T) {
	var ops []byte
	for i, x := range []string{"x1", "x2", "x3", "x4"} {
		e := Exchange{Vhost: "/", Name: x, Kind: []string{"fanout", "topic"}[i%2], AutoDelete: i < 3, Durable: i > 0}
		ops, _ = AppendDeclareExchange(ops, &e)
		w.model.declareExchange(e)
		if i > 0 {
			b := Binding{Vhost: "/", Source: fmt.Sprint("x", i), Destination: x, ToExchange: true, RoutingKey: "#"}
			ops, _ = AppendBind(ops, &b)
			w.model.bind(b)
		}
	}
	for _, s := range []*State{w.state, w.restored} {
		if err := s.Apply(1, AppendSubmission(AppendBatch(nil, 1), 9, 1, ops), new(Effects)); err != nil {
			t.Fatal(err)
		}
	}
	w.model.sessions[9] = 1
}

// batch applies a random batch to all three and compares what each says.
func (w *twins) batch(t *rapid.T) {
	payload := AppendBatch(nil, 1)
	type expectation struct {
		session   entry.SessionID
		duplicate bool
		codes     []Code
	}
	var want []expectation
	for range rapid.IntRange(1, 3).Draw(t, "submissions") {
		session := entry.SessionID(rapid.IntRange(1, 3).Draw(t, "session"))
		// Most are new: the next or one further on; a few were heard before.
		sequence := w.model.sessions[session] + rapid.SampledFrom([]uint64{1, 1, 1, 1, 2, 5, 0}).Draw(t, "ahead")
		last, heard := w.model.sessions[session]
		e := expectation{session: session, duplicate: heard && last >= sequence}
		if !e.duplicate {
			w.model.sessions[session] = sequence
		}
		var ops []byte
		for range rapid.IntRange(1, 6).Draw(t, "ops") {
			s := drawStep(t)
			if rapid.IntRange(0, 29).Draw(t, "end session") == 29 {
				s = step{AppendEndSession(nil, session), func(m *model) Code { return m.endSession(session) }}
			}
			ops = append(ops, s.ops...)
			if !e.duplicate {
				e.codes = append(e.codes, s.apply(w.model))
			}
		}
		payload = AppendSubmission(payload, session, sequence, ops)
		want = append(want, e)
	}
	var fx, again Effects
	for s, fx := range map[*State]*Effects{w.state: &fx, w.restored: &again} {
		if err := s.Apply(s.Applied()+1, payload, fx); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range want {
		var codes []Code
		for _, r := range fx.Results[i].Ops {
			codes = append(codes, r.Code)
		}
		if fx.Results[i].Session != e.session || fx.Results[i].Duplicate != e.duplicate || !slices.Equal(codes, e.codes) {
			t.Fatalf("submission %d: got %+v, want %+v", i, fx.Results[i], e)
		}
	}
	if one, two := fx.text(), again.text(); one != two {
		t.Fatalf("a restored state has other effects:\n%s\n%s", two, one)
	}
	for _, q := range fx.QueuesAdded {
		w.added[q.ID]++
	}
	for _, q := range fx.QueuesDeleted {
		w.deleted[q.ID]++
	}
}

func (m *model) endSession(session entry.SessionID) Code {
	if _, heard := m.sessions[session]; !heard {
		return Missing
	}
	delete(m.sessions, session)
	return OK
}

// text prints the effects without pointers.
func (fx *Effects) text() string {
	b := fmt.Sprint(fx.Changed, fx.VhostsDeleted, fx.UsersChanged)
	for _, q := range fx.QueuesAdded {
		b += fmt.Sprint(" +", q.Vhost, q.Name, q.ID)
	}
	for _, q := range fx.QueuesDeleted {
		b += fmt.Sprint(" -", q.Vhost, q.Name, q.ID)
	}
	for _, x := range fx.ExchangesDeleted {
		b += fmt.Sprint(" -", x.Vhost, x.Name)
	}
	for _, r := range fx.Results {
		b += fmt.Sprint(" ", r.Session, r.Sequence, r.Duplicate)
		for _, o := range r.Ops {
			b += fmt.Sprint(" ", o.Code, o.Name)
		}
	}
	return b
}

// compare compares the states, and where random publishes go.
func (w *twins) compare(t *rapid.T) {
	want := w.model.dump()
	for i, s := range []*State{w.state, w.restored} {
		if got := dumpState(s); got != want {
			t.Fatalf("state %d has\n%s\nwant\n%s", i, got, want)
		}
		if len(s.AllQueues()) != len(w.model.queues) {
			t.Fatalf("%d queues in the registry, want %d", len(s.AllQueues()), len(w.model.queues))
		}
		for _, q := range w.model.queues {
			if s.QueueByID(q.ID) == nil || w.added[q.ID]-w.deleted[q.ID] != 1 || q.Owner != "" && !slices.Contains(s.QueuesOwnedBy(q.Owner), s.QueueByID(q.ID)) {
				t.Fatalf("queue %+v: added %d times, deleted %d times", q, w.added[q.ID], w.deleted[q.ID])
			}
		}
	}
	exchanges := map[string]Exchange{}
	for _, x := range w.model.exchanges {
		if x.Vhost == "/" {
			exchanges[x.Name] = x
		}
	}
	var queues []string
	for _, q := range w.model.queues {
		if q.Vhost == "/" {
			queues = append(queues, q.Name)
		}
	}
	bindings := slices.DeleteFunc(slices.Clone(w.model.bindings), func(b Binding) bool { return b.Vhost != "/" })
	exchange, headers := someExchanges.Draw(t, "exchange"), someTables.Draw(t, "headers")
	key := rapid.SampledFrom([]string{"", "a", "b", "a.b", "a.c.b", "q1"}).Draw(t, "key")
	for i, s := range []*State{w.state, w.restored} {
		found, err := s.Route("/", []byte(exchange), []byte(key), func() amqp.Table { return headers }, nil)
		if _, there := exchanges[exchange]; !there {
			if err == nil {
				t.Fatalf("state %d routes through %q, which isn't there", i, exchange)
			}
			continue
		}
		var got []string
		for _, q := range found {
			got = append(got, q.Name)
		}
		if want := naiveRoute(exchanges, bindings, queues, exchange, key, headers); err != nil || !slices.Equal(got, want) {
			t.Fatalf("state %d: %q %q: got %v (%v), want %v", i, exchange, key, got, err, want)
		}
	}
}

func TestStateBehavesAsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &twins{state: New(), restored: New(), model: newModel(), added: map[entry.QueueID]int{}, deleted: map[entry.QueueID]int{}}
		w.furnish(t)
		t.Repeat(map[string]func(*rapid.T){
			"batch": w.batch,
			"again": w.batch,
			"restart": func(t *rapid.T) {
				var one, two strings.Builder
				if err := w.restored.Checkpoint(&one); err != nil {
					t.Fatal(err)
				}
				if err := w.state.Checkpoint(&two); err != nil {
					t.Fatal(err)
				}
				if one.String() != two.String() {
					t.Fatal("equal states have different checkpoints")
				}
				var err error
				if w.restored, err = Restore(strings.NewReader(one.String())); err != nil {
					t.Fatal(err)
				}
			},
			"": w.compare,
		})
	})
}
