package broker

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/queue"
)

// memoryBroker is a broker whose groups live in memory: what a connection does
// can be tested without a log. Nothing of it is stubbed but the order.
func memoryBroker(t testing.TB, groups int) *Broker {
	t.Helper()
	var out io.Writer = io.Discard
	if os.Getenv("MIRRORMQ_TEST_LOG") != "" {
		out = os.Stderr
	}
	b := &Broker{
		config: Config{Groups: groups}.withDefaults(), session: 1, boot: 1,
		groups: make(map[entry.GroupID]*group), counts: &counters{},
		failedChannel: make(chan struct{}), failed: make(chan error, 1),
		logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	b.context, b.cancel = context.WithCancel(context.Background())
	b.deadLetters = newDeadLetters(b)
	b.background.Go(func() { b.deadLetters.run(b.context) })
	b.gateways, b.elections = make(map[entry.GroupID]*gateway), make(map[entry.GroupID]*election)
	b.members = newMembers(b.config, 1)
	b.openGateways()
	l := newLoop("topology", b.logger, b.fail)
	b.topology = newTopologyGroup(l, topology.New(), b.living)
	b.topology.deleted, b.topology.self, b.topology.gateway = b.unregistered, b.config.Name, b.gateways[entry.Topology]
	b.topology.keep = &keeper{logger: b.logger}
	l.order = newVolatile()
	b.openVolatile()
	for id := range groups {
		order := newVolatile()
		g := b.makeGroup(entry.GroupID(id+1), "queues", queue.NewMachine())
		g.order, g.bodies = order, memoryBodies{order}
	}
	go b.topology.run()
	for _, g := range b.groups {
		go g.run()
	}
	for _, w := range b.gateways {
		if err := w.ready(b.context); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		b.cancel()
		b.background.Wait()
		for _, g := range b.groups {
			g.stop()
		}
		b.topology.stop()
		for _, w := range b.gateways {
			w.stop(errStopping)
		}
	})
	return b
}

// testFrontConfig is a front's configuration with what most tests want.
func testFrontConfig(b *Broker) frontConfig {
	return frontConfig{
		name: "test", version: "0", copies: 1, maxMessageSize: 16 << 20, channelMax: 2047, frameMax: 131072,
		heartbeat: time.Minute, logger: b.logger,
	}
}

// serveFront serves a front over the broker on a port of its own and returns
// it with its address.
func serveFront(t testing.TB, b *Broker, change ...func(*frontConfig)) (*front, string) {
	t.Helper()
	config := testFrontConfig(b)
	for _, f := range change {
		f(&config)
	}
	f := newFront(b, config)
	l := listenLoopback(t)
	served := make(chan error, 1)
	go func() { served <- f.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		f.Stop(ctx, "test is over")
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return f, l.Addr().String()
}

func listenLoopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type groupID = entry.GroupID

// stuckGroup takes submissions and never answers.
type stuckGroup struct{ bytes atomic.Int64 }

// stuckOver is a group whose submissions get stuck.
type stuckOver struct {
	queueGroup
	stuck *stuckGroup
}

func (s stuckOver) submit(sub *submission) { s.stuck.bytes.Add(int64(len(sub.ops))) }

// refusingOver is a group that refuses every submission, as one does whose log
// has failed.
type refusingOver struct{ queueGroup }

func (refusingOver) submit(sub *submission) { go sub.finish(outcome{err: errStopping}) }
