package testcluster

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of what is random; 0 draws one")
	long     = flag.Bool("long", false, "play each fault as long and as often as it was promised")
	rounds   = flag.Int("rounds", 3, "how often all brokers are killed at once")
	chaos    = flag.Duration("chaos", 8*time.Second, "how long to play random faults")
	measure  = flag.Int("measure", 0, "how often to measure each stand-still; 0 does not")
	catchUp  = flag.Uint64("catchup", 0, "measure how a mirror catches up that missed so many messages; 0 does not")
	watch    = flag.Bool("watch", false, "log the timeline as it goes")
	given    = flag.String("binary", "", "use this broker, not one that is built from here")
	keep     = flag.String("keep", "", "keep the brokers' data and output below this directory")
)

// built is the directory of the binary that was built, if any.
var built string

// program is the broker's binary, built once.
var program = sync.OnceValues(func() (string, error) {
	if *given != "" {
		return filepath.Abs(*given)
	}
	var err error
	if built, err = os.MkdirTemp("", "testcluster"); err != nil {
		return "", err
	}
	return Build(context.Background(), "../..", built)
})

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// run is a test's cluster and clients.
type run struct {
	t       *testing.T
	ctx     context.Context
	seed    uint64
	random  *rand.Rand
	cluster *Cluster
	load    *Load
}

// quorum is the arguments of a queue that confirms at a quorum.
func quorum(of any) amqp.Table {
	return amqp.Table{"x-queue-type": "quorum", "x-ack-quorum": of}
}

// start starts brokers and clients.
func start(t *testing.T, brokers int, arguments amqp.Table, args ...string) *run {
	t.Helper()
	return startIn(t, directory(t), brokers, arguments, args...)
}

// directory is where a test's brokers write.
func directory(t *testing.T) string {
	if *keep == "" {
		return t.TempDir()
	}
	return filepath.Join(*keep, fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), os.Getpid()))
}

func startIn(t *testing.T, dir string, brokers int, arguments amqp.Table, args ...string) *run {
	t.Helper()
	r := startBrokers(t, dir, brokers, args...)
	starting, cancel := context.WithTimeout(r.ctx, recoverTime)
	defer cancel()
	config := LoadConfig{Queue: "faults", Arguments: arguments, Rate: 500, Window: 100, Size: 1024, Seed: r.seed}
	if *measure > 0 {
		config.Probe = dir
	}
	var err error
	r.load, err = r.cluster.StartLoad(starting, config)
	if err != nil {
		r.fail(err)
	}
	t.Cleanup(r.load.Close)
	return r
}

// startBrokers starts brokers without clients.
func startBrokers(t *testing.T, dir string, brokers int, args ...string) *run {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, ctx: t.Context(), seed: seed, random: rand.New(rand.NewPCG(seed, 0))}
	args = append([]string{"--groups", "1", "--copies", strconv.Itoa(brokers)}, args...) // Each may lead.
	var log func(string)
	if *watch {
		log = func(event string) { t.Log(event) }
	}
	starting, cancel := context.WithTimeoutCause(r.ctx, recoverTime, fmt.Errorf("the cluster did not start within %v", recoverTime))
	defer cancel()
	if r.cluster, err = Start(starting, Config{Binary: path, Dir: dir, Brokers: brokers, Args: args, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cluster.Close)
	return r
}

// fail ends the test with the timeline and what the brokers said.
func (r *run) fail(err error) {
	r.t.Helper()
	for _, b := range r.cluster.Brokers {
		r.t.Logf("%s said last:\n%s", b.Name, b.Tail(3000))
	}
	r.t.Fatalf("%v\n%s\n%s", err, strings.Join(r.cluster.Ledger.sofar(), "\n"), r.cluster.Timeline)
}

// leader is who leads the clients' queue.
func (r *run) leader(without ...*Broker) *Broker {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, recoverTime)
	defer cancel()
	b, err := r.cluster.Leader(ctx, r.load.config.Queue, without...)
	if err != nil {
		r.fail(err)
	}
	return b
}

// mirror is one that does not lead.
func (r *run) mirror() *Broker {
	r.t.Helper()
	mirrors := r.cluster.Mirrors(r.leader())
	return mirrors[r.random.IntN(len(mirrors))]
}

// play plays a fault.
func (r *run) play(f Fault, victim *Broker, lasts time.Duration) Outcome {
	r.t.Helper()
	o, err := r.load.Play(r.ctx, f, victim, lasts)
	if err != nil {
		r.fail(err)
	}
	r.t.Logf("%s %s: %v; while it came back %v; its own last confirm came at %+d ms",
		victim.Name, f.Name, o.During, o.Mending, o.LastConfirm.Milliseconds())
	return o
}

// wait lets the clients run.
func (r *run) wait(d time.Duration) {
	r.t.Helper()
	if err := pause(r.ctx, d); err != nil {
		r.fail(err)
	}
}

// judge drains the queue and fails on anything that was promised not to be.
func (r *run) judge() Counts {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 2*recoverTime)
	defer cancel()
	drained := r.load.Drain(ctx)
	counts, problems := r.cluster.Ledger.Judge()
	problems = append(problems, r.cluster.Problems()...)
	r.t.Log(counts)
	if drained != nil {
		problems = append(problems, drained.Error())
	}
	if len(problems) > 0 {
		r.fail(fmt.Errorf("%s", strings.Join(problems, "\n")))
	}
	if counts.Confirmed == 0 || counts.Delivered == 0 {
		r.t.Fatal("nothing was confirmed or delivered: the test tested nothing")
	}
	return counts
}
