package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/log"
	"github.com/mirrormq/mirrormq/queue"
)

// stopGrace is how long a stop waits for clients to answer connection.close.
const stopGrace = 2 * time.Second

// Broker is one running MirrorMQ broker.
type Broker struct {
	config  Config
	logger  *slog.Logger
	started time.Time
	session entry.SessionID
	boot    uint64

	log *log.Log
	// pending is since when the log's oldest write waits for its fsync.
	pending  func() (oldest time.Time, ok bool)
	topology *topologyGroup
	// groups are the queue groups and the volatile one; fixed from Start on.
	groups map[entry.GroupID]*group
	// gateways are the ways to all groups; fixed from Start on.
	gateways map[entry.GroupID]*gateway
	members  *members
	// doubt is nil for a broker alone.
	doubt *doubt
	// cluster is nil for a broker alone; elections are of the durable groups.
	cluster   *cluster
	elections map[entry.GroupID]*election
	// keeps bounds what the groups keep of their logs for mirrors: see
	// replicate.Config. Zero for the usual.
	keeps   struct{ live, absent, tail uint64 }
	metrics *admin.Metrics
	web     *admin.Server
	front   *front
	alarms  *alarms
	// deadLetters is the worker that dead-letters messages of all groups.
	deadLetters *deadLetters
	counts      *counters
	ready       atomic.Bool

	amqpListener, amqpsListener, httpListener net.Listener

	placing            placing
	holders, consumers atomic.Uint64
	coldReads          atomic.Uint64

	// context ends when the broker stops; background joins its goroutines.
	// joining keeps spawn from adding one while they are waited for.
	context    context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	joining    sync.RWMutex

	failOnce      sync.Once
	failure       error // set before failedChannel is closed
	failedChannel chan struct{}
	failed        chan error
	stopOnce      sync.Once
	stopError     error
}

// Start opens the data directory, applies its log, and serves. It returns when
// clients can connect. Errors name what is wrong and where; nothing is left
// running then.
func Start(ctx context.Context, c Config) (*Broker, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	b := &Broker{
		config: c, logger: c.Logger, started: time.Now(),
		session: entry.SessionID(randomID()), boot: randomID(),
		groups: make(map[entry.GroupID]*group), counts: &counters{},
		gateways: make(map[entry.GroupID]*gateway), elections: make(map[entry.GroupID]*election),
		metrics:       admin.NewMetrics(admin.MetricsConfig{}),
		failedChannel: make(chan struct{}), failed: make(chan error, 1),
	}
	b.context, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.deadLetters = newDeadLetters(b)
	if err := b.start(ctx); err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		return nil, errors.Join(err, b.Stop(stopping))
	}
	return b, nil
}

func (b *Broker) start(ctx context.Context) error {
	// Addresses first: that one is taken is the most common mistake.
	if err := b.listen(); err != nil {
		return err
	}
	if err := b.openLog(); err != nil {
		return err
	}
	b.alarms = &alarms{
		data: b.config.Data, memoryLimit: b.config.MemoryLimit, minFree: b.config.DiskFreeLimit,
		changed: b.alarmed, urge: b.urgeCheckpoints,
	}
	b.startWeb()
	if err := b.openGroups(); err != nil {
		return err
	}
	if b.cluster != nil {
		b.waitsOutside()
		// Before the loops, which speak through it.
		if err := b.cluster.start(); err != nil {
			return err
		}
		b.background.Go(b.cluster.run)
	}
	go b.topology.run()
	for _, g := range b.groups {
		go g.run()
	}
	b.background.Go(b.tend)
	b.background.Go(func() { b.deadLetters.run(b.context) })
	if err := b.settle(ctx); err != nil {
		return err
	}
	b.startFront()
	b.background.Go(func() { b.alarms.watch(b.context) })
	b.background.Go(b.watchLog)
	b.background.Go(b.sweep)
	b.ready.Store(true)
	b.logger.Info("broker is ready", "name", b.config.Name, "data", b.config.Data,
		"amqp", listensOn(b.amqpListener), "amqps", listensOn(b.amqpsListener), "http", listensOn(b.httpListener),
		"took", time.Since(b.started).Round(time.Millisecond))
	return nil
}

// openGroups restores all groups from the log. Nothing runs yet.
func (b *Broker) openGroups() (err error) {
	logged := -1
	if have := b.log.Groups(); len(have) > 0 {
		logged = int(have[len(have)-1])
	}
	if b.members, err = openMembers(b.config, b.log.Identity(), logged); err != nil {
		return err
	}
	if n, _ := strconv.Atoi(b.config.AckQuorum); n > b.members.copies {
		return fmt.Errorf("ack quorum %d: above the %d copies that there are", n, b.members.copies)
	}
	if len(b.config.Cluster) > 0 {
		if err := b.openCluster(); err != nil {
			return err
		}
	}
	b.openGateways()
	if err := b.openTopology(); err != nil {
		return err
	}
	for id := range b.members.queueGroups() {
		if !b.members.has(b.config.Name, id) {
			continue
		}
		if err := b.openGroup(id); err != nil {
			return err
		}
	}
	b.openVolatile()
	for id, e := range b.elections {
		_, t := b.attendance(id)
		t.transfer = e.transferTo
	}
	return nil
}

func (b *Broker) openLog() error {
	policy, err := fsyncPolicy(b.config.Fsync)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.config.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	b.log, err = log.Open(filepath.Join(b.config.Data, "log"), log.Options{
		Fsync: policy, FsyncInterval: b.config.FsyncInterval, Logger: b.logger, Observe: b.metrics.ObserveFsync,
	})
	if err != nil {
		return err
	}
	b.pending = b.log.Pending
	return nil
}

// watchLog ends the broker when its log has failed: what is on disk is no
// longer what was promised.
func (b *Broker) watchLog() {
	select {
	case <-b.log.Failed():
		b.fail(b.log.Err())
	case <-b.context.Done():
	}
}

// fail is told of an error that the broker cannot go on after. It stops
// confirming at once; Failed tells the owner, who stops it.
func (b *Broker) fail(err error) {
	b.failOnce.Do(func() {
		b.failure = err
		b.ready.Store(false)
		close(b.failedChannel)
		b.failed <- err
	})
}

// unreadable is told of an error of reading what is in the log. In a cluster, a
// log that is damaged ends the broker: the others have what it lacks, and it must
// neither serve nor lead with what is left. A broker alone has nobody to leave
// its messages to, and goes on with those that it can read.
func (b *Broker) unreadable(err error) {
	if b.cluster != nil && errors.Is(err, log.ErrDamaged) {
		b.fail(err)
	}
}

// Failed receives the error that the broker cannot go on after: the owner is to
// call Stop.
func (b *Broker) Failed() <-chan error { return b.failed }

// AMQPAddr is the address of the AMQP listener, nil for none.
func (b *Broker) AMQPAddr() net.Addr { return address(b.amqpListener) }

// AMQPSAddr is the address of the AMQP listener with TLS, nil for none.
func (b *Broker) AMQPSAddr() net.Addr { return address(b.amqpsListener) }

// HTTPAddr is the address of the HTTP listener, nil for none.
func (b *Broker) HTTPAddr() net.Addr { return address(b.httpListener) }

// listensOn is a listener's address for the log, "-" for none.
func listensOn(l net.Listener) string {
	if l == nil {
		return "-"
	}
	return l.Addr().String()
}

func address(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Stop closes all connections with 320 CONNECTION_FORCED, writes checkpoints
// and syncs the log. Idempotent; later calls return the first one's error.
func (b *Broker) Stop(ctx context.Context) error {
	b.stopOnce.Do(func() { b.stopError = b.stop(ctx) })
	return b.stopError
}

// spawn runs f beside the broker, which waits for it when it stops; false when it
// does already. It is for those who do not know whether the broker runs.
func (b *Broker) spawn(f func()) bool {
	b.joining.RLock()
	defer b.joining.RUnlock()
	if b.context.Err() != nil {
		return false
	}
	b.background.Go(f)
	return true
}

func (b *Broker) stop(ctx context.Context) error {
	b.ready.Store(false)
	var errs []error
	const reason = "broker forced connection closure with reason 'shutdown'"
	if isClosed(b.failedChannel) {
		// Its groups hear nothing more, not even who leads them now: nobody is
		// to wait for an answer, and clients are to go elsewhere at once.
		if b.front != nil {
			b.front.connections.closeAll(reason)
		}
		b.stopGateways()
		if b.front != nil {
			b.front.Stop(ctx, reason)
		}
	} else {
		b.handOver(ctx)
		if b.front != nil {
			b.front.Stop(ctx, reason)
		}
		b.drain(ctx)
		committing, enough := b.untilMinority(ctx, slices.Sorted(maps.Keys(b.gateways))...)
		b.deadLetters.drain(committing)
		enough()
	}
	b.joining.Lock()
	b.cancel()
	b.joining.Unlock()
	if b.cluster != nil && b.cluster.catchup != nil {
		b.cluster.catchup.stop()
	}
	b.background.Wait()
	for _, g := range inOrder(b.groups) {
		g.stop()
		if g.keep != nil && g.state != nil && b.failure == nil {
			errs = append(errs, g.keep.last())
		}
	}
	if b.topology != nil {
		b.topology.stop()
		if b.failure == nil {
			errs = append(errs, b.topology.keep.last())
		}
	}
	b.stopGateways()
	if b.cluster != nil && b.cluster.backbone != nil {
		_ = b.cluster.backbone.Leave(ctx) // Those who don't hear of it notice.
		errs = append(errs, b.cluster.backbone.Close())
	}
	if b.web != nil {
		errs = append(errs, b.web.Close(ctx))
	}
	for _, l := range []net.Listener{b.amqpListener, b.amqpsListener, b.httpListener} {
		if l != nil {
			l.Close()
		}
	}
	if b.log != nil {
		if err := b.log.Close(); b.failure == nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stopGateways ends all that waits for a group's leader.
func (b *Broker) stopGateways() {
	for _, w := range b.gateways {
		w.stop(errStopping)
	}
}

// drain waits until what the groups were handed before is committed, where it can
// be.
func (b *Broker) drain(ctx context.Context) {
	for id, w := range inOrder(b.gateways) {
		if id >= entry.Volatile && b.groups[id] == nil {
			continue
		}
		ctx, enough := b.untilMinority(ctx, id)
		if _, err := w.do(ctx, takeOps()); err != nil {
			b.logger.Warn("stopping with work undone", "group", id, "err", err)
		}
		enough()
	}
}

// inOrder goes through groups, or other things, by their ids: what is done to
// several, and waited for, is done in one order, so that a simulation can be
// repeated.
func inOrder[K cmp.Ordered, V any](of map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, id := range slices.Sorted(maps.Keys(of)) {
			if !yield(id, of[id]) {
				return
			}
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (b *Broker) view(f func(*topology.State)) { b.topology.view(f) }

func (b *Broker) topologyVersion() uint64 { return b.topology.version.Load() }

func (b *Broker) changeTopology(ctx context.Context, ops []byte) ([]topology.OpResult, error) {
	return b.topology.change(ctx, ops)
}

func (b *Broker) group(id entry.GroupID) *gateway { return b.gateways[id] }

func (b *Broker) newHolder() queue.HolderID {
	return queue.HolderID(b.members.unique(b.holders.Add(1)))
}

func (b *Broker) newConsumer() queue.ConsumerID {
	return queue.ConsumerID(b.members.unique(b.consumers.Add(1)))
}

// contents reads messages. ctx ends what waits for another broker.
func (b *Broker) contents(ctx context.Context) *contentReader {
	return &contentReader{broker: b, ended: ctx, cold: &b.coldReads}
}

func randomID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails (crypto/rand since Go 1.24).
	return binary.LittleEndian.Uint64(b[:]) | 1
}
