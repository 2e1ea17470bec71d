package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// frontConfig is what the AMQP front has to be told.
type frontConfig struct {
	doubt            *doubt // nil for a broker alone
	name, version    string
	copies           int    // of a queue, this broker's included
	ackQuorum        string // of queues without one; "" for the majority
	maxMessageSize   int64  // bytes of a body
	channelMax       uint16 // channels of a connection
	frameMax         uint32 // bytes of a frame
	heartbeat        time.Duration
	handshakeTimeout time.Duration // default 10 s
	maxConnections   int           // 0 for no limit
	logger           *slog.Logger
}

// traffic is what the connections count since the broker's start.
type traffic struct {
	published, confirmed      atomic.Uint64
	returned, dropped         atomic.Uint64 // unroutable: mandatory, and not
	opened, closed            atomic.Uint64 // connections
	channelsOpened            atomic.Uint64
	channelsClosed            atomic.Uint64
	got, gotNoAck, gotNothing atomic.Uint64 // basic.get
	delivered, deliveredNoAck atomic.Uint64 // to consumers
	redelivered               atomic.Uint64
	queuesDeclared            atomic.Uint64
}

// front is the AMQP side of a broker: it accepts connections and serves them
// until it is stopped.
type front struct {
	core        core
	config      frontConfig
	log         *slog.Logger
	quorums     quorums
	properties  amqp.Table // what connection.start says
	connections *registry
	counts      traffic
	// group and contents are core's, as interfaces, so that the front can be
	// tested against others.
	group    func(entry.GroupID) queueGroup
	contents func(context.Context) contents

	mu struct {
		sync.Mutex
		stopping  bool
		listeners map[net.Listener]struct{}
		sockets   map[net.Conn]struct{}
	}
	serving sync.WaitGroup // listeners and connections
}

func newFront(core core, config frontConfig) *front {
	if config.handshakeTimeout == 0 {
		config.handshakeTimeout = 10 * time.Second
	}
	f := &front{
		core: core, config: config, log: config.logger,
		quorums: newQuorums(config.copies, config.ackQuorum), properties: serverProperties(config), connections: newRegistry(config.maxConnections),
	}
	f.group = func(id entry.GroupID) queueGroup {
		if g := core.group(id); g != nil {
			return g
		}
		return nil
	}
	f.contents = func(ctx context.Context) contents { return core.contents(ctx) }
	f.mu.listeners = make(map[net.Listener]struct{})
	f.mu.sockets = make(map[net.Conn]struct{})
	return f
}

// Serve accepts connections on l until l fails or the front stops, and then
// closes l. It returns nil after Stop.
func (f *front) Serve(l net.Listener) error {
	f.mu.Lock()
	if f.mu.stopping {
		f.mu.Unlock()
		return l.Close()
	}
	f.mu.listeners[l] = struct{}{}
	f.serving.Add(1)
	f.mu.Unlock()
	defer f.serving.Done()
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pause := time.Duration(0)
	for {
		socket, err := l.Accept()
		if err == nil {
			pause = 0
			f.start(ctx, socket)
			continue
		}
		if f.stopping() {
			return nil
		}
		var temporary net.Error
		if errors.Is(err, net.ErrClosed) || !errors.As(err, &temporary) {
			return fmt.Errorf("accept: %w", err)
		}
		// Most likely there are no file descriptors left: wait for some.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		f.log.Warn("accept failed", "err", err, "again in", pause)
		timer := time.NewTimer(pause)
		<-timer.C
	}
}

func (f *front) stopping() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.stopping
}

// start serves a new connection on a goroutine of its own.
func (f *front) start(ctx context.Context, socket net.Conn) {
	f.mu.Lock()
	if f.mu.stopping {
		f.mu.Unlock()
		socket.Close()
		return
	}
	f.mu.sockets[socket] = struct{}{}
	f.serving.Add(1)
	f.mu.Unlock()
	go func() {
		defer f.serving.Done()
		f.counts.opened.Add(1)
		f.newConn(socket).serve(ctx)
		f.counts.closed.Add(1)
		f.mu.Lock()
		delete(f.mu.sockets, socket)
		f.mu.Unlock()
	}()
}

// newConn makes the connection of a socket.
func (f *front) newConn(socket net.Conn) *conn {
	name := connName(socket)
	c := &conn{
		front: f, socket: socket, name: name, id: generatedName(""), started: time.Now(),
		log: f.log.With("connection", name), reader: amqp.NewReader(socket, handshakeFrameMax),
		writerDone: make(chan struct{}),
	}
	c.out.init()
	return c
}

// Stop closes the listeners, tells every client that it is closed with 320
// CONNECTION_FORCED and text, and waits until all connections have ended. When
// ctx ends first their sockets are closed.
func (f *front) Stop(ctx context.Context, text string) {
	f.mu.Lock()
	f.mu.stopping = true
	for l := range f.mu.listeners {
		l.Close()
	}
	f.mu.Unlock()
	f.connections.closeAll(text)
	f.closeStrangers()
	done := make(chan struct{})
	go func() {
		f.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	for _, c := range f.connections.list() {
		c.abort(context.Cause(ctx))
	}
	f.closeStrangers()
	// What a connection still waits for is a group's loop, which answers unless
	// the disk hangs. A broker that can't stop is worse than one that leaves a
	// goroutine behind.
	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
		f.log.Error("connections did not end in time", "count", f.connections.count())
	}
}

// closeStrangers closes the sockets whose handshake is under way.
func (f *front) closeStrangers() {
	known := make(map[net.Conn]bool)
	for _, c := range f.connections.list() {
		known[c.socket] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for socket := range f.mu.sockets {
		if !known[socket] {
			socket.Close()
		}
	}
}

// block stops reading from publishers for the reason, and lets them go on when
// it is empty.
func (f *front) block(reason string) { f.connections.block(reason) }

// deleteOwned deletes the exclusive queues of a connection.
func (f *front) deleteOwned(ctx context.Context, owner string) error {
	_, err := f.core.changeTopology(ctx, topology.AppendDeleteOwned(takeOps(), owner))
	return err
}
