package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/internal/freeport"
)

const (
	maxLocalBrokers = 9
	// readyPoll is how often a broker that starts is asked whether it is ready.
	readyPoll = 50 * time.Millisecond
)

func clusterCommand() *cli.Command {
	return &cli.Command{
		Name:      "cluster",
		Usage:     "run a cluster of brokers on this machine",
		ArgsUsage: "[-- FLAGS OF serve]",
		Description: `Starts brokers b1, b2, … as processes of their own, on ports that follow one
another, and stops them all on SIGTERM or Ctrl-C; a second signal kills them,
which loses nothing that was confirmed. Their output comes with their names in
front. It is for trying out and for tests: on one machine the brokers share
what can fail.

Examples:
   mirrormq cluster --data ./data
   mirrormq cluster --data ./data --brokers 5 --restart
   mirrormq cluster --data ./data -- --ack-quorum all --log-level debug`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "brokers", Value: 3, Usage: "`N` brokers, up to 9; an odd number loses less"},
			&cli.IntFlag{Name: "groups", Usage: "spread queues over `N` groups", DefaultText: "as serve's"},
			&cli.IntFlag{Name: "copies", Usage: "keep each queue on `N` of the brokers", DefaultText: "as serve's"},
			&cli.StringFlag{Name: "data", Value: "mirrormq-data", Usage: "`DIR` of the brokers' data, a directory for each in it; made if missing"},
			&cli.IntFlag{Name: "amqp-port", Value: 5672, Usage: "first `PORT` for AMQP; 0 for free ones"},
			&cli.IntFlag{Name: "http-port", Value: 15672, Usage: "first `PORT` for the management API; 0 for free ones"},
			&cli.IntFlag{Name: "backbone-port", Value: 6222, Usage: "first `PORT` for what the brokers tell one another; 0 for free ones"},
			&cli.BoolFlag{Name: "restart", Usage: "start a broker again when it dies"},
		},
		Action: runCluster,
	}
}

// runCluster runs a cluster until a signal, or until no broker is left.
func runCluster(c *cli.Context) error {
	out := newPrefixes(c.App.ErrWriter)
	brokers, err := planCluster(c, out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(c.Context)
	defer cancel(nil)
	l := &localCluster{
		brokers: brokers, restart: c.Bool("restart"), fail: cancel, kill: make(chan struct{}), say: out.say,
	}
	stopListening := l.killOnSignal(ctx)
	defer stopListening()
	l.run(ctx)
	switch cause := context.Cause(ctx); {
	case c.Context.Err() == nil:
		return cause
	case l.killed():
		return context.Canceled
	}
	return l.unclean()
}

// planCluster makes the brokers' command lines. Nothing is started yet.
func planCluster(c *cli.Context, out *prefixes) ([]*localBroker, error) {
	n := c.Int("brokers")
	if n < 1 || n > maxLocalBrokers {
		return nil, usage("--brokers %d: from 1 to %d", n, maxLocalBrokers)
	}
	if c.String("data") == "" {
		return nil, usage("--data is empty")
	}
	var ports [3][]string
	for i, flag := range []string{"amqp-port", "http-port", "backbone-port"} {
		first := c.Int(flag)
		if first < 0 || first+n-1 > 65535 {
			return nil, usage("--%s %d: from 0 to %d", flag, first, 65536-n)
		}
		var err error
		if ports[i], err = portsFrom(first, n); err != nil {
			return nil, err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var members []string
	for i, backbone := range ports[2] {
		members = append(members, fmt.Sprintf("b%d=%s", i+1, backbone))
	}
	var shape []string
	for _, flag := range []string{"groups", "copies"} {
		if c.IsSet(flag) {
			shape = append(shape, "--"+flag, strconv.Itoa(c.Int(flag)))
		}
	}
	brokers := make([]*localBroker, n)
	for i := range brokers {
		b := &localBroker{
			name: fmt.Sprintf("b%d", i+1), program: program, ended: make(chan struct{}),
			amqp: "amqp://guest:guest@" + ports[0][i] + "/", http: "http://guest:guest@" + ports[1][i],
		}
		b.args = append([]string{
			"serve", "--name", b.name, "--data", filepath.Join(c.String("data"), b.name),
			"--amqp", ports[0][i], "--http", ports[1][i], "--backbone", ports[2][i], "--cluster", strings.Join(members, ","),
		}, slices.Concat(shape, c.Args().Slice())...)
		b.out = out.with(b.name, i)
		brokers[i] = b
	}
	return brokers, nil
}

// portsFrom are n loopback addresses on the ports from first on, or with 0 on
// ports that are free a moment before they are used.
func portsFrom(first, n int) ([]string, error) {
	if first == 0 {
		addresses, err := freeport.Addresses(n)
		if err != nil {
			return nil, fail(exitFailure, "", "%w", err)
		}
		return addresses, nil
	}
	addresses := make([]string, n)
	for i := range addresses {
		addresses[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i))
	}
	return addresses, nil
}

// localCluster is the brokers that this process has started.
type localCluster struct {
	brokers []*localBroker
	restart bool
	say     func(format string, args ...any)
	// fail ends the cluster with an error.
	fail context.CancelCauseFunc
	// kill is closed when the brokers are to be killed instead of stopped.
	kill chan struct{}
	// wasReady says that all brokers have served at the same time.
	wasReady atomic.Bool
}

// run starts the brokers and returns when all have ended.
func (l *localCluster) run(ctx context.Context) {
	events := make(chan event)
	for _, b := range l.brokers {
		go b.supervise(ctx, l, events)
	}
	started := make(chan struct{})
	go func() {
		defer close(started)
		if l.awaitReady(ctx) {
			l.wasReady.Store(true)
			l.welcome(ctx)
		}
	}()
	running, up, died := len(l.brokers), make(map[string]bool), make(map[string]bool)
	for running > 0 {
		e := <-events
		up[e.broker.name] = e.kind == brokerStarted
		died[e.broker.name] = died[e.broker.name] || e.kind == brokerDied
		switch {
		case e.kind == brokerStarted && died[e.broker.name]:
			l.say("%s runs again, pid %d", e.broker.name, e.broker.pid.Load())
		case e.kind == brokerGaveUp:
			running--
			if running == 0 && ctx.Err() == nil {
				l.fail(fail(exitFailure, "", "no broker is left"))
			}
		case e.kind == brokerDied && ctx.Err() == nil:
			l.tellDeath(e, countUp(up))
		}
	}
	<-started
}

func countUp(up map[string]bool) (n int) {
	for _, is := range up {
		if is {
			n++
		}
	}
	return n
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tellDeath says that a broker died unasked, how many live, and what to do.
// Before all were ready once, a death is a mistake in the setup, and the end of
// the cluster.
func (l *localCluster) tellDeath(e event, living int) {
	if !l.wasReady.Load() && !l.restart {
		l.fail(fail(exitFailure, "its output above says why", "%s did not start: %v", e.broker.name, e.err))
		return
	}
	l.say("%s has died: %v", e.broker.name, e.err)
	if 2*living <= len(l.brokers) {
		l.say("   too few brokers are left to confirm anything; what was confirmed is safe")
	}
	if l.restart {
		l.say("   it is started again in %v", e.again)
	} else {
		l.say("   start it again with: %s", e.broker.commandLine())
	}
}

// killOnSignal kills the brokers at the second signal: the first has ended ctx,
// and is heard no more. The function it returns ends that.
func (l *localCluster) killOnSignal(ctx context.Context) (stop func()) {
	done, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ctx.Done():
		case <-quit:
			return
		}
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(signals)
		l.say("stopping the brokers; once more to kill them")
		select {
		case <-signals:
			close(l.kill)
		case <-quit:
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

func (l *localCluster) killed() bool { return isDone(l.kill) }

// unclean is the error of a stop that some broker did not end well.
func (l *localCluster) unclean() error {
	for _, b := range l.brokers {
		if b.stopError != nil {
			return fail(exitFailure, "nothing that was confirmed is lost", "%s did not stop cleanly: %w", b.name, b.stopError)
		}
	}
	return nil
}
