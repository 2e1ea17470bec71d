package backbone

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestRandomTrafficThroughFaultsLosesNothingSilently sends on all links while
// routes are cut, swallow and hold bytes and brokers are restarted. What must
// hold: a link's messages arrive in order and once; where one is missing, the
// receiver was told before the next and the sender was told after it had sent
// it. MIRRORMQ_SEED repeats a run's choices (not its timing), MIRRORMQ_DURATION
// lengthens it.
func TestRandomTrafficThroughFaultsLosesNothingSilently(t *testing.T) {
	seed, duration := uint64(time.Now().UnixNano()), 6*time.Second
	if s, err := strconv.ParseUint(os.Getenv("MIRRORMQ_SEED"), 10, 64); err == nil {
		seed = s
	}
	if d, err := time.ParseDuration(os.Getenv("MIRRORMQ_DURATION")); err == nil {
		duration = d
	}
	t.Logf("MIRRORMQ_SEED=%d", seed)
	x := &chaos{t: t, random: rand.New(rand.NewPCG(seed, 1)), ledger: newLedger()}
	x.cluster = newCluster(t, 3, func(c *Config) {
		c.Window, c.Transit, c.MaxPayload = 1<<20, 256<<10, 64<<10
	})
	x.wires = x.cluster.wire()
	for name := range x.cluster.configs {
		x.start(name)
	}
	x.cluster.awaitMesh()

	ticker := time.NewTicker(200 * time.Microsecond)
	defer ticker.Stop()
	for end := time.Now().Add(duration); time.Now().Before(end); <-ticker.C {
		x.send()
		if x.random.IntN(600) == 0 {
			x.fault()
		}
	}
	x.finish()
}

// chaos drives the run.
type chaos struct {
	t       *testing.T
	random  *rand.Rand
	cluster *cluster
	wires   wires
	ledger  *ledger
	filler  [300 << 10]byte
}

func (x *chaos) start(name string) {
	x.ledger.born(name)
	x.cluster.start(name, func(r *recorder) {
		r.forget = true
		r.watch = func(h happening) { x.ledger.heard(name, h) }
		// NATS drops data, acks and all else where a buffer is full.
		r.drop = func(item) bool { return rand.IntN(1000) == 0 }
	})
}

func (x *chaos) stop(name string) {
	x.cluster.stop(name)
	x.ledger.died(name)
}

func (x *chaos) pick(names ...string) string { return names[x.random.IntN(len(names))] }

func (x *chaos) send() {
	from := x.pick("b1", "b2", "b3")
	r, live := x.cluster.live[from]
	if !live {
		return
	}
	class := Class(x.random.IntN(classes))
	var to []string
	for _, name := range []string{"b1", "b2", "b3"} {
		if name != from && x.random.IntN(3) > 0 {
			to = append(to, name)
		}
	}
	size := x.random.IntN(2000)
	switch x.random.IntN(20) {
	case 0:
		size = x.random.IntN(len(x.filler))
	case 1:
		size = 64<<10 - x.random.IntN(100)
	}
	head := x.ledger.sending(class, from, to)
	err := r.b.SendLink(class, to, head, x.filler[:size])
	x.ledger.sent(class, from, to, head, err)
}

func (x *chaos) fault() {
	a, b := x.pick("b1", "b2", "b3"), x.pick("b1", "b2", "b3")
	switch mode := []wire{wireCut, wireCut, wireSwallows, wireHeld}[x.random.IntN(4)]; {
	case x.random.IntN(2) == 0:
		x.heal()
	case x.random.IntN(4) > 0 && a != b:
		x.wires.between(a, b, mode)
	default:
		if _, live := x.cluster.live[a]; live {
			x.stop(a)
		} else {
			x.start(a)
		}
	}
}

func (x *chaos) heal() {
	for _, p := range x.wires {
		p.set(wirePasses)
	}
	for name := range x.cluster.configs {
		if _, live := x.cluster.live[name]; !live {
			x.start(name)
		}
	}
}

func (x *chaos) finish() {
	x.heal()
	x.cluster.awaitMesh()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ; ; <-ticker.C {
		missing := x.ledger.unexplained()
		if missing == "" {
			missing = x.owed()
		}
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("not settled: %s", missing)
		}
	}
	x.ledger.report(x.t)
}

// owed names a link whose credit has not come back.
func (x *chaos) owed() string {
	for name, r := range x.cluster.live {
		for _, p := range r.b.Status().Peers {
			for class, l := range p.Links {
				if l.Waiting != 0 || l.InTransit != 0 || l.Queued != 0 {
					return fmt.Sprintf("%s to %s, %s: %+v", name, p.Name, Class(class), l)
				}
			}
		}
	}
	return ""
}
