package backbone

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// Backbone is one broker's connection to all others. Its methods may be called
// from any goroutine.
type Backbone struct {
	config  Config
	names   []string // all brokers, sorted: the index is a broker's number
	numbers map[string]uint8
	self    uint8
	epoch   uint64 // of this start
	*subjects

	embedded *server.Server // nil with external NATS
	conns    [classes]*conn
	members  *membership
	epochs   []atomic.Uint64 // by broker number: the epoch of a peer that is up, else 0

	serverPayload atomic.Int64 // what the NATS server takes; 0 while unknown
	counters      counters

	closing atomic.Bool // Leave or Close was called
	once    sync.Once
	gate    struct {
		sync.RWMutex // held for reading by what NATS calls
		closed       bool
	}
}

// Start brings up the embedded server, or connects to the external ones, and
// returns; peers come up in their own time (Handler.PeerUp). It may be called
// by the brokers in any order. Handlers may run before it has returned.
// Errors wrap ErrConfig, or tell why the address can't be listened on.
func Start(config Config) (*Backbone, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	b := newBackbone(config)
	if err := b.start(); err != nil {
		return nil, err
	}
	return b, nil
}

// start brings up the server, the connections and the goroutines, in this
// order; on an error nothing is left.
func (b *Backbone) start() error {
	var options *server.Options
	if b.config.NATS == "" {
		var err error
		logger := newServerLogger(b.config.Logger, func() { b.members.post(event{kind: eventRouteLost}) })
		if b.embedded, options, err = startServer(b.config, logger); err != nil {
			return err
		}
	}
	for _, c := range b.conns {
		if err := c.connect(b.embedded, options); err != nil {
			b.stopNATS()
			return err
		}
	}
	for _, c := range b.conns {
		go c.w.run()
	}
	go b.members.run()
	return nil
}

// newBackbone makes all that needs no network.
func newBackbone(config Config) *Backbone {
	b := &Backbone{config: config, names: config.names(), numbers: map[string]uint8{}, epoch: randomNonZero()}
	for n, name := range b.names {
		b.numbers[name] = uint8(n)
	}
	b.self = b.numbers[config.Name]
	b.subjects = newSubjects(config.Cluster, b.names, b.self, b.epoch)
	b.epochs = make([]atomic.Uint64, len(b.names))
	b.members = newMembership(b)
	for c := range b.conns {
		b.conns[c] = newConn(b, Class(c))
	}
	return b
}

// Addr is the address that the embedded server listens on for routes, "" with
// external NATS.
func (b *Backbone) Addr() string {
	if b.embedded == nil {
		return ""
	}
	return b.embedded.ClusterAddr().String()
}

// Send hands a datagram to the peer's backbone, or loses it. It never blocks;
// the payload is copied. Errors: ErrUnknownPeer, ErrDown, ErrTooLarge, ErrFull
// (dropped: too much waits), ErrClosed.
func (b *Backbone) Send(c Class, to string, payload []byte) error {
	n, ok := b.numbers[to]
	if !ok || n == b.self {
		return ErrUnknownPeer
	}
	if b.epochs[n].Load() == 0 {
		return ErrDown
	}
	return b.gram(c, 1<<n, payload)
}

// Broadcast is Send to every peer that is up, with one publish.
func (b *Backbone) Broadcast(c Class, payload []byte) error {
	var set uint64
	for n := range b.epochs {
		if b.epochs[n].Load() != 0 {
			set |= 1 << n
		}
	}
	if set == 0 {
		return ErrDown
	}
	return b.gram(c, set, payload)
}

func (b *Backbone) gram(c Class, set uint64, payload []byte) error {
	if b.closing.Load() {
		return ErrClosed
	}
	if len(payload) > b.frameSize(headSize) {
		return ErrTooLarge
	}
	bytes := append(appendHead(make([]byte, 0, headSize+len(payload)), b.head(kindGram)), payload...)
	if !b.conns[c].w.datagram(item{subject: b.subject(c, set), bytes: bytes}) {
		b.counters.dropped.Add(1)
		return ErrFull
	}
	return nil
}

// SendLink appends one message, the payload's pieces joined, to the links of
// several peers, and publishes it once for all that can take it now. It never
// blocks. The pieces are copied before it returns: O(bytes), into a pooled
// buffer. A *SendError names the peers that did not get it, with ErrDown,
// ErrFull or ErrHeld; ErrUnknownPeer, ErrTooLarge and ErrClosed concern all.
func (b *Backbone) SendLink(c Class, to []string, payload ...[]byte) error {
	if b.closing.Load() {
		return ErrClosed
	}
	var numbers [maxBrokers]uint8
	recipients := numbers[:0]
	for _, name := range to {
		n, ok := b.numbers[name]
		if !ok || n == b.self {
			return ErrUnknownPeer
		}
		if !slices.Contains(recipients, n) {
			recipients = append(recipients, n)
		}
	}
	total := 0
	for _, piece := range payload {
		total += len(piece)
	}
	if total > b.config.MaxMessage {
		return ErrTooLarge
	}
	if len(recipients) == 0 {
		return nil
	}
	return b.conns[c].out.send(recipients, total, payload)
}

// Writable is true when SendLink would take a message of that size in bytes
// now. When it is false, LinkWritable will follow.
func (b *Backbone) Writable(c Class, to string, size int) bool {
	n, ok := b.numbers[to]
	return ok && n != b.self && !b.closing.Load() &&
		b.conns[c].out.refusals([]uint8{n}, int64(size+messageCost)) == nil
}

// Consumed gives credit back: the owner has taken that many bytes of the
// messages from a peer, counted by their payloads. Every message must be given
// back, those too that the owner drops or that came before a LinkReset.
func (b *Backbone) Consumed(c Class, from string, bytes int) {
	if n, ok := b.numbers[from]; ok {
		b.conns[c].in.consumed(n, bytes)
	}
}

// Reopen lets a held link take messages again (Config.HoldBroken). The owner
// calls it once it has heard LinkBroken, and then sends in order what must be
// sent again.
func (b *Backbone) Reopen(c Class, to string) {
	if n, ok := b.numbers[to]; ok && n != b.self {
		b.conns[c].out.reopen(n)
	}
}

// Leave announces a planned stop and waits until the peers that are up know,
// or the context ends; its error is then returned. Nothing is sent or received
// on links afterwards; Close is still to be called.
func (b *Backbone) Leave(ctx context.Context) error {
	if b.closing.Swap(true) {
		return ErrClosed
	}
	known := make(chan struct{})
	select {
	case b.members.leave <- known:
	case <-b.members.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-known:
		return nil
	case <-b.members.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops everything, without an announcement, and waits. No handler runs
// after it has returned. Closing again does nothing.
func (b *Backbone) Close() error {
	b.once.Do(func() {
		b.closing.Store(true)
		close(b.members.stop)
		<-b.members.done
		for _, c := range b.conns {
			c.w.close()
		}
		b.stopNATS()
	})
	return nil
}

// stopNATS ends what NATS may call, then the connections, then the server.
func (b *Backbone) stopNATS() {
	b.gate.Lock()
	b.gate.closed = true
	b.gate.Unlock()
	for _, c := range b.conns {
		if c.nc != nil {
			c.nc.Close()
		}
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
		b.embedded.WaitForShutdown()
	}
}

// enter is false when the backbone is closed; else exit must follow.
func (b *Backbone) enter() bool {
	b.gate.RLock()
	if b.gate.closed {
		b.gate.RUnlock()
		return false
	}
	return true
}

func (b *Backbone) exit() { b.gate.RUnlock() }

func (b *Backbone) head(k kind) head { return head{kind: k, sender: b.self, epoch: b.epoch} }

// frameSize is how many payload bytes fit behind a header of that size.
func (b *Backbone) frameSize(header int) int {
	size := int64(b.config.MaxPayload)
	if limit := b.serverPayload.Load(); limit > 0 {
		size = min(size, limit)
	}
	return max(int(size)-header, 1)
}

// control sends a small frame to one broker.
func (b *Backbone) control(c Class, to uint8, k kind, v control) {
	b.conns[c].w.control(item{subject: b.subject(c, 1<<to), bytes: appendControl(nil, b.head(k), v)})
}

// errMalformed is logged only: the frame is from a broker of our own cluster,
// so it is a bug or another version.
var errMalformed = errors.New("malformed frame")

func (b *Backbone) malformed(c Class, from uint8) {
	b.counters.malformed.Add(1)
	b.config.Logger.Warn("ignored what a broker sent", "class", c.String(), "from", b.names[from], "err", errMalformed)
}
