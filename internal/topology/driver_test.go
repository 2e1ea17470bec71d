package topology

import (
	"bytes"
	"cmp"
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// driver plays the broker: it wraps ops in batches and applies them.
type driver struct {
	t        testing.TB
	state    *State
	fx       Effects
	sequence uint64
	lastID   entry.QueueID
}

func newDriver(t testing.TB) *driver { return &driver{t: t, state: New()} }

// apply applies ops as one submission of one entry.
func (d *driver) apply(ops []byte) Result {
	d.t.Helper()
	d.sequence++
	payload := AppendSubmission(AppendBatch(nil, 1), 1, d.sequence, ops)
	d.fx.Reset()
	if err := d.state.Apply(d.state.Applied()+1, payload, &d.fx); err != nil {
		d.t.Fatal(err)
	}
	return d.fx.Results[0]
}

// do applies ops and returns what became of the last of them.
func (d *driver) do(ops []byte) OpResult {
	d.t.Helper()
	all := d.apply(ops).Ops
	return all[len(all)-1]
}

func (d *driver) must(b []byte, err error) []byte {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func (d *driver) bind(b Binding) []byte   { return d.must(AppendBind(nil, &b)) }
func (d *driver) unbind(b Binding) []byte { return d.must(AppendUnbind(nil, &b)) }

func (d *driver) queue(name string) *Queue {
	d.t.Helper()
	return d.declare(Queue{Name: name, Durable: true, Group: 1})
}

func (d *driver) declare(q Queue) *Queue {
	d.t.Helper()
	d.lastID++
	q.ID, q.Vhost = d.lastID, cmp.Or(q.Vhost, "/")
	r := d.do(d.must(AppendDeclareQueue(nil, &q)))
	if r.Code != OK {
		d.t.Fatalf("declare %s: %+v", q.Name, r)
	}
	return r.Queue
}

func (d *driver) exchange(name, kind string, arguments amqp.Table) {
	d.t.Helper()
	d.declareExchange(Exchange{Name: name, Kind: kind, Durable: true, Arguments: arguments})
}

func (d *driver) declareExchange(e Exchange) {
	d.t.Helper()
	e.Vhost = "/"
	if r := d.do(d.must(AppendDeclareExchange(nil, &e))); r.Code != OK {
		d.t.Fatalf("declare %s: %+v", e.Name, r)
	}
}

// route returns the names of the queues that a publish goes to.
func (d *driver) route(exchange, key string, headers amqp.Table) []string {
	d.t.Helper()
	queues, err := d.state.Route("/", []byte(exchange), []byte(key), func() amqp.Table { return headers }, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	names := []string{}
	for _, q := range queues {
		names = append(names, q.Name)
	}
	return names
}

// restart replaces the state by what its checkpoint restores.
func (d *driver) restart() {
	d.t.Helper()
	var b, again bytes.Buffer
	if err := d.state.Checkpoint(&b); err != nil {
		d.t.Fatal(err)
	}
	s, err := Restore(bytes.NewReader(b.Bytes()))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := s.Checkpoint(&again); err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		d.t.Fatal("a restored state's checkpoint differs")
	}
	d.state = s
}
