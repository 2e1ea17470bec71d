package broker

import (
	"container/heap"
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "simulate only this seed")
	simSeeds = flag.Int("sim.seeds", 10, "seeds to simulate")
	simSteps = flag.Int("sim.steps", 60000, "steps of trouble in each run")
	simTrace = flag.Bool("sim.trace", false, "print what happens")
	simLogs  = flag.Bool("sim.log", false, "print what the brokers log")
)

// The simulation plays a whole cluster in virtual time: the brokers' loops, raft,
// electors, state machines, dispatchers, gateways, checkpoints and transfers are
// the real ones; disks, the network and the clients are played. All that happens
// follows from one seed.
//
// One goroutine plays, event by event. What a broker does beside its loops runs
// on goroutines of its own, in the same bubble of time (testing/synctest), while
// that one sleeps until the next event, one processor for all: see beside.
//
//	sim_test.go           time, chance, and how a run goes
//	sim_plan_test.go      what may go wrong in a run
//	sim_network_test.go   the backbone
//	sim_link_test.go      its links
//	sim_disk_test.go      the logs
//	sim_log_test.go       what checkpoints need of them
//	sim_broker_test.go    a broker's process
//	sim_life_test.go      its life: start, crash, pause, stop
//	sim_client_test.go    publishers, consumers
//	sim_producer_test.go  idempotent producers
//	sim_death_test.go     messages that are rejected or expire
//	sim_quorum_test.go    what confirms promise
//	sim_model_test.go     the dumb twin that everything is held against
//	sim_run_test.go       the tests
type simulation struct {
	t      testing.TB
	seed   uint64
	random *rand.Rand
	plan   simPlan

	now    time.Duration // since epoch
	events simEvents
	next   uint64 // numbers events

	brokers []*simBroker
	network *simNetwork
	model   *simModel
	queues  []entry.QueueID
	// baton is passed between who plays and who runs beside: see beside.
	baton  atomic.Uint64
	posted simPosts
	// calm says that nothing bad happens any more, ending that clients begin
	// nothing new.
	calm, ending, populated, over bool
	// troubled is when living brokers last lost one another: then what one holds
	// may be given to another, marked. paused is when one of them last stood still.
	troubled, paused time.Duration
	// bumpy is when a link last lost something, or a broker went.
	bumpy time.Duration

	publishers, channels uint64 // number them
	clients              []simClient
	history              interface {
		io.Writer
		Sum64() uint64
	}
	logger *slog.Logger
	counts simCounts
}

// simCounts tells what a run was made of.
type simCounts struct {
	steps, published, confirmed, refused, delivered, acked, redelivered, excused, got, overtaken int
	repeated, dropped                                                                            int // copies that producers published, and that were not enqueued
	checkpoints, installed, unclean, forgotten, dead                                             int
	crashes, pauses, cuts, stops, transfers, leaders, full, lost, stalls, breaks, torn           int
}

// simStart is the instant at which virtual time begins, as in every bubble.
var simStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// simEvent is something that happens at a time.
type simEvent struct {
	at     time.Duration
	number uint64
	do     func()
}

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = simEvent{}
	*e = (*e)[:last]
	return x
}

// seedRaft makes raft draw its election timeouts from seed until the test ends.
func seedRaft(t testing.TB, seed uint64) {
	original := cryptorand.Reader
	t.Cleanup(func() { cryptorand.Reader = original })
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	cryptorand.Reader = &lockedReader{reader: rand.NewChaCha8(key)}
}

// lockedReader is for who plays and who runs beside.
type lockedReader struct {
	mu     sync.Mutex
	reader io.Reader
}

func (r *lockedReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reader.Read(b)
}

func newSimulation(t testing.TB, seed uint64, plan simPlan) *simulation {
	seedRaft(t, seed)
	s := &simulation{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), history: fnv.New64a()}
	s.plan = plan
	s.troubled, s.paused, s.bumpy = -time.Hour, -time.Hour, -time.Hour
	s.logger = slog.New(slog.DiscardHandler)
	if *simLogs {
		s.logger = slog.New(slog.NewTextHandler(simLogWriter{s}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s.network = newSimNetwork(s)
	s.model = newSimModel(s)
	for i := range plan.brokers {
		s.brokers = append(s.brokers, newSimBroker(s, fmt.Sprintf("b%d", i+1)))
	}
	return s
}

// simulate plays a run of so many steps of trouble in a bubble of time, and
// returns the hash of its history.
func simulate(t *testing.T, seed uint64, plan simPlan, steps int) (s *simulation, hash uint64) {
	// Who runs first is chance else.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	synctest.Test(t, func(t *testing.T) {
		s = newSimulation(t, seed, plan)
		defer s.shut()
		hash = s.run(steps)
	})
	return s, hash
}

// shut ends what still runs, however the run ended.
func (s *simulation) shut() {
	s.over = true
	for _, b := range s.brokers {
		if b.process != nil {
			b.process.die()
		}
	}
	s.posted.take()
	pass(time.Minute) // No wait of theirs is longer.
	s.posted.take()
}

// simPosts are what runs beside wants played: it is played before the next event,
// in an order that does not depend on who ran first.
type simPosts struct {
	mu      sync.Mutex
	waiting []simPost
}

type simPost struct {
	by string
	do func()
}

func (p *simPosts) post(by string, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, simPost{by, do})
}

// take plays them.
func (p *simPosts) take() {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	slices.SortStableFunc(waiting, func(a, b simPost) int { return strings.Compare(a.by, b.by) })
	for _, w := range waiting {
		w.do()
	}
}

// beside begins what the brokers' goroutines do to the simulation: whoever plays
// sleeps meanwhile.
func (s *simulation) beside() {
	s.baton.Add(1)
	s.now = time.Since(simStart)
}

// besides ends it.
func (s *simulation) besides() { s.baton.Add(1) }

type simLogWriter struct{ s *simulation }

func (w simLogWriter) Write(b []byte) (int, error) {
	w.s.t.Logf("%v %s", w.s.now, b[:len(b)-1])
	return len(b), nil
}

// after has something happen later.
func (s *simulation) after(d time.Duration, do func()) {
	s.next++
	heap.Push(&s.events, simEvent{s.now + d, s.next, do})
}

// between draws a duration.
func (s *simulation) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.random.Int64N(int64(high-low)+1))
}

// chance is true once in n times.
func (s *simulation) chance(n int) bool { return n > 0 && s.random.IntN(n) == 0 }

// tell adds to the history, whose hash names the run.
func (s *simulation) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(s.history, "%d "+format+"\n", append([]any{int64(s.now)}, args...)...)
	if *simTrace {
		s.t.Logf("%-14v "+format, append([]any{s.now}, args...)...)
	}
}

func (s *simulation) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d, %s, step %d, at %v: %s", s.seed, s.plan.name, s.counts.steps, s.now, fmt.Sprintf(format, args...))
}

// pass lets time pass.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// step lets the next thing happen.
func (s *simulation) step() bool {
	if len(s.events) == 0 {
		return false
	}
	e := heap.Pop(&s.events).(simEvent)
	s.baton.Add(1)
	pass(e.at - time.Since(simStart)) // Others run meanwhile.
	s.baton.Add(1)
	s.now = time.Since(simStart)
	s.posted.take()
	for _, b := range s.brokers {
		if b.process != nil {
			b.process.rouse()
		}
	}
	s.counts.steps++
	e.do()
	return true
}

// run plays steps of trouble, then heals everything and expects that all work
// comes to its end. It returns the hash of the history.
func (s *simulation) run(steps int) uint64 {
	for _, b := range s.brokers {
		s.after(s.between(0, 300*time.Millisecond), b.start)
	}
	go s.declare()
	s.after(s.between(400*time.Millisecond, time.Second), s.trouble)
	for s.counts.steps < steps && s.step() {
	}
	s.heal()
	s.tell("end")
	return s.history.Sum64()
}

// declare makes the queues, through whatever broker is there.
func (s *simulation) declare() {
	for i := 0; len(s.queues) < s.plan.queues; {
		pass(10 * time.Millisecond)
		if s.over {
			return
		}
		p := s.brokers[i%len(s.brokers)].process
		if p == nil || !p.ready {
			i++
			continue
		}
		ctx, cancel := context.WithTimeout(p.broker.context, 2*time.Second)
		q, _, err := p.broker.declareQueue(ctx, s.wanted(len(s.queues)))
		cancel()
		if err != nil {
			i++
			continue
		}
		s.beside()
		s.tell("%s declares %s: %x in group %d", p.of.name, q.Name, q.ID, q.Group)
		s.queues = append(s.queues, q.ID)
		s.besides()
	}
	s.beside()
	defer s.besides()
	s.populated = true
	s.produce()
	for _, b := range s.brokers {
		if b.process != nil && b.process.ready {
			b.process.handle(b.process.populate)
		}
	}
}

// heal ends all trouble, has the clients finish, and waits for all to be done.
func (s *simulation) heal() {
	s.tell("heal")
	s.calm = true
	s.network.heal()
	for _, b := range s.brokers {
		b.heal()
	}
	s.until(time.Minute, "all brokers are connected and led", s.settled)
	s.ending = true
	s.until(2*time.Minute, "all work is done", s.done)
	s.model.final()
}

// until plays on until something holds.
func (s *simulation) until(limit time.Duration, what string, holds func() string) {
	deadline := s.now + limit
	why := "?"
	for checked := s.now; ; {
		if s.now >= checked {
			if why = holds(); why == "" {
				return
			}
			checked = s.now + 20*time.Millisecond
		}
		if s.now > deadline || !s.step() {
			for _, b := range s.brokers {
				if b.process != nil {
					s.t.Log(b.process.standing())
				}
			}
			s.fatalf("stuck, %s never comes: %s", what, why)
		}
	}
}

func (s *simulation) settled() string {
	for _, b := range s.brokers {
		p := b.process
		if p == nil || p.stopping || p.paused {
			return b.name + " is not up"
		}
		for _, other := range s.brokers {
			if other != b && !p.up[other.name] {
				return b.name + " does not see " + other.name
			}
		}
		for _, g := range p.gatewayIDs {
			w := p.broker.gateways[g]
			if g < entry.Volatile && !w.mu.accepted {
				return fmt.Sprintf("%s has no leader of group %d: %q in term %d", b.name, g, w.mu.leader, w.mu.term)
			}
		}
	}
	return ""
}
