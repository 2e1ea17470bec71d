package topology

import (
	"encoding/binary"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// opCode is an op's first byte. The numbers are in logs: never change one.
type opCode byte

const (
	opEnd              opCode = 0 // only in checkpoints: their end
	opPutVhost         opCode = 1
	opDeleteVhost      opCode = 2
	opPutUser          opCode = 3
	opDeleteUser       opCode = 4
	opPutPermission    opCode = 5
	opDeletePermission opCode = 6
	opDeclareExchange  opCode = 7
	opDeleteExchange   opCode = 8
	opDeclareQueue     opCode = 9
	opDeleteQueue      opCode = 10
	opBind             opCode = 11
	opUnbind           opCode = 12
	opDeleteVolatile   opCode = 13
	opDeleteOwned      opCode = 14
	opEndSession       opCode = 15
	opDeleteTransient  opCode = 16
	opSession          opCode = 17 // only in checkpoints: a session and its last sequence
)

// op is one change, decoded.
type op interface {
	code() opCode
	apply(s *State, fx *Effects) OpResult
}

// parseOp decodes the op whose code has been read. After a failure of r its
// answer means nothing.
func parseOp(code opCode, r *reader) op {
	switch code {
	case opPutVhost:
		v := Vhost{Name: r.string("vhost"), Description: r.string("description"), Tags: r.strings("tags")}
		v.DefaultQueueType = r.string("default queue type")
		return putVhost{v}
	case opDeleteVhost:
		return deleteVhost{r.string("vhost")}
	case opPutUser:
		return putUser{User{Name: r.string("user"), PasswordHash: append([]byte(nil), r.bytes("password hash")...), Tags: r.strings("tags")}}
	case opDeleteUser:
		return deleteUser{r.string("user")}
	case opPutPermission:
		p := Permission{User: r.string("user"), Vhost: r.string("vhost")}
		p.Configure, p.Write, p.Read = r.string("configure"), r.string("write"), r.string("read")
		return putPermission{p}
	case opDeletePermission:
		return deletePermission{r.string("user"), r.string("vhost")}
	case opDeclareExchange:
		e := Exchange{Vhost: r.string("vhost"), Name: r.string("exchange"), Kind: r.string("kind")}
		r.flags("exchange flags", &e.Durable, &e.AutoDelete, &e.Internal)
		e.Arguments = r.table("exchange arguments")
		return declareExchange{e}
	case opDeleteExchange:
		o := deleteExchange{vhost: r.string("vhost"), name: r.string("exchange")}
		r.flags("delete flags", &o.ifUnused)
		return o
	case opDeclareQueue:
		return parseDeclareQueue(r)
	case opDeleteQueue:
		return deleteQueue{r.string("vhost"), r.string("queue"), entry.QueueID(r.fixed64("queue id"))}
	case opBind:
		return bind{parseBinding(r)}
	case opUnbind:
		return unbind{parseBinding(r)}
	case opDeleteVolatile:
		return deleteVolatile{r.string("broker"), r.uvarint("boot")}
	case opDeleteOwned:
		return deleteOwned{r.string("owner")}
	case opEndSession:
		return endSession{entry.SessionID(r.uvarint("session"))}
	case opDeleteTransient:
		return deleteTransient{}
	}
	r.fail("unknown op")
	return nil
}

func parseDeclareQueue(r *reader) op {
	q := &Queue{ID: entry.QueueID(r.fixed64("queue id")), Group: entry.GroupID(r.uvarint("group"))}
	q.Vhost, q.Name = r.string("vhost"), r.string("queue")
	r.flags("queue flags", &q.Durable, &q.Exclusive, &q.AutoDelete)
	q.Owner, q.Broker, q.Boot = r.string("owner"), r.string("broker"), r.uvarint("boot")
	q.Type, q.AckQuorum = r.string("queue type"), r.string("ack quorum")
	q.Arguments = r.table("queue arguments")
	return declareQueue{q}
}

func parseBinding(r *reader) Binding {
	b := Binding{Vhost: r.string("vhost"), Source: r.string("source")}
	r.flags("binding flags", &b.ToExchange)
	b.Destination, b.RoutingKey = r.string("destination"), r.string("routing key")
	b.Arguments = r.table("binding arguments")
	return b
}

// AppendPutVhost makes a vhost, or changes what it says beside its name.
func AppendPutVhost(dst []byte, v Vhost) []byte {
	dst = appendBytes(append(dst, byte(opPutVhost)), v.Name)
	dst = appendStrings(appendBytes(dst, v.Description), v.Tags)
	return appendBytes(dst, v.DefaultQueueType)
}

// AppendDeleteVhost deletes a vhost and all that is in it.
func AppendDeleteVhost(dst []byte, name string) []byte {
	return appendBytes(append(dst, byte(opDeleteVhost)), name)
}

// AppendPutUser makes a user, or changes the password hash and tags of one.
func AppendPutUser(dst []byte, u User) []byte {
	dst = appendBytes(append(dst, byte(opPutUser)), u.Name)
	return appendStrings(appendBytes(dst, u.PasswordHash), u.Tags)
}

// AppendDeleteUser deletes a user with the permissions.
func AppendDeleteUser(dst []byte, name string) []byte {
	return appendBytes(append(dst, byte(opDeleteUser)), name)
}

// AppendPutPermission says what a user may do in a vhost.
func AppendPutPermission(dst []byte, p Permission) []byte {
	dst = append(dst, byte(opPutPermission))
	for _, s := range []string{p.User, p.Vhost, p.Configure, p.Write, p.Read} {
		dst = appendBytes(dst, s)
	}
	return dst
}

// AppendDeletePermission takes all permissions in a vhost from a user.
func AppendDeletePermission(dst []byte, user, vhost string) []byte {
	return appendBytes(appendBytes(append(dst, byte(opDeletePermission)), user), vhost)
}

// AppendDeclareExchange declares an exchange. Predeclared and Alternate are
// not looked at: the latter is read from Arguments. The error is of a table
// that can't be encoded; dst is then returned as it was.
func AppendDeclareExchange(dst []byte, e *Exchange) ([]byte, error) {
	d := appendBytes(append(dst, byte(opDeclareExchange)), e.Vhost)
	d = appendBytes(appendBytes(d, e.Name), e.Kind)
	return appendTable(dst, appendFlags(d, e.Durable, e.AutoDelete, e.Internal), e.Arguments)
}

// AppendDeleteExchange deletes an exchange.
func AppendDeleteExchange(dst []byte, vhost, name string, ifUnused bool) []byte {
	return appendFlags(appendBytes(appendBytes(append(dst, byte(opDeleteExchange)), vhost), name), ifUnused)
}

// AppendDeclareQueue enters a queue into the registry. Its ID is drawn at
// random by the caller and never 0. The error is as AppendDeclareExchange's.
func AppendDeclareQueue(dst []byte, q *Queue) ([]byte, error) {
	d := binary.LittleEndian.AppendUint64(append(dst, byte(opDeclareQueue)), uint64(q.ID))
	d = binary.AppendUvarint(d, uint64(q.Group))
	d = appendBytes(appendBytes(d, q.Vhost), q.Name)
	d = appendFlags(d, q.Durable, q.Exclusive, q.AutoDelete)
	d = binary.AppendUvarint(appendBytes(appendBytes(d, q.Owner), q.Broker), q.Boot)
	d = appendBytes(appendBytes(d, q.Type), q.AckQuorum)
	return appendTable(dst, d, q.Arguments)
}

// AppendDeleteQueue takes a queue out of the registry, with its bindings. An
// id other than 0 must be the queue's: what was declared again under the name
// stays. Whether the queue is unused or empty is for the caller to find out.
func AppendDeleteQueue(dst []byte, vhost, name string, id entry.QueueID) []byte {
	dst = appendBytes(appendBytes(append(dst, byte(opDeleteQueue)), vhost), name)
	return binary.LittleEndian.AppendUint64(dst, uint64(id))
}

// AppendBind adds a binding. The error is as AppendDeclareExchange's.
func AppendBind(dst []byte, b *Binding) ([]byte, error) { return appendBinding(dst, opBind, b) }

// AppendUnbind takes a binding away. The error is as AppendDeclareExchange's.
func AppendUnbind(dst []byte, b *Binding) ([]byte, error) { return appendBinding(dst, opUnbind, b) }

func appendBinding(dst []byte, code opCode, b *Binding) ([]byte, error) {
	d := appendBytes(appendBytes(append(dst, byte(code)), b.Vhost), b.Source)
	d = appendBytes(appendBytes(appendFlags(d, b.ToExchange), b.Destination), b.RoutingKey)
	return appendTable(dst, d, b.Arguments)
}

// AppendDeleteVolatile deletes the volatile queues that a broker declared in
// another boot than this one: all of them if boot is 0, which no boot is.
// O(queues).
func AppendDeleteVolatile(dst []byte, broker string, boot uint64) []byte {
	return binary.AppendUvarint(appendBytes(append(dst, byte(opDeleteVolatile)), broker), boot)
}

// AppendDeleteOwned deletes the exclusive queues of a connection that is gone.
func AppendDeleteOwned(dst []byte, owner string) []byte {
	return appendBytes(append(dst, byte(opDeleteOwned)), owner)
}

// AppendEndSession forgets a session that will submit no more.
func AppendEndSession(dst []byte, session entry.SessionID) []byte {
	return binary.AppendUvarint(append(dst, byte(opEndSession)), uint64(session))
}

// AppendDeleteTransient deletes every exchange that isn't durable, with its
// bindings: what RabbitMQ forgets when the whole cluster restarts. O(exchanges).
func AppendDeleteTransient(dst []byte) []byte { return append(dst, byte(opDeleteTransient)) }

// appendTable finishes an op that ends in a table: d, or dst on an error.
func appendTable(dst, d []byte, t amqp.Table) ([]byte, error) {
	d, err := amqp.AppendTable(d, t)
	if err != nil {
		return dst, err
	}
	return d, nil
}
