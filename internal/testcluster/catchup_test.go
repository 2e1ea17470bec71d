package testcluster

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/mirrormq/mirrormq/bench/procstat"
)

// catchUpTime bounds how long a mirror may take: no promise, only more than it
// takes on a loaded machine.
const catchUpTime = 10 * time.Minute

// absence is a mirror that is down while messages pass.
type absence struct {
	*run
	leader, mirror *Broker
	group          uint32
	living         []*Broker
	publishers     uint32 // of all floods
}

// newAbsence starts three brokers and chooses a mirror.
func newAbsence(t *testing.T, args ...string) *absence {
	t.Helper()
	a := &absence{run: startBrokers(t, directory(t), 3, args...)}
	ctx, cancel := context.WithTimeout(a.ctx, recoverTime)
	defer cancel()
	b := a.cluster.Brokers[0]
	a.must(declare([]*Broker{b}, nil, "passing", quorum("majority")))
	a.must(declare([]*Broker{b}, nil, "waiting", quorum("majority")))
	leader, err := a.cluster.Leader(ctx, "passing")
	a.must(err)
	q, err := leader.queue(ctx, "passing")
	a.must(err)
	others := a.cluster.Mirrors(leader)
	a.leader, a.group, a.mirror = leader, q.Group, others[a.random.IntN(2)]
	a.living = a.cluster.Mirrors(a.mirror)
	return a
}

// flood starts clients of the living brokers.
func (a *absence) flood(queue string, size int, messages uint64, consumers ...*Broker) *Flood {
	a.t.Helper()
	f, err := a.cluster.StartFlood(FloodConfig{
		Queue: queue, Arguments: quorum("majority"), Publishers: a.living, Consumers: consumers,
		Window: 500, Size: size, First: a.publishers, Messages: messages,
	})
	a.must(err)
	a.publishers += uint32(len(a.living))
	return f
}

// stop ends a flood, of which nothing may be lost or doubled.
func (a *absence) stop(f *Flood) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, catchUpTime)
	defer cancel()
	a.must(f.Stop(ctx))
}

// until waits until a condition holds.
func (a *absence) until(what string, holds func() bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeoutCause(a.ctx, catchUpTime, fmt.Errorf("waited %v for %s", catchUpTime, what))
	defer cancel()
	for !holds() {
		a.must(pause(ctx, poll))
	}
}

// windowTime is what throughput is counted over.
const windowTime = 500 * time.Millisecond

// window is what passed in a time.
type window struct {
	phase               string
	confirmed, consumed float64 // a second
	lag                 uint64  // entries that the mirror lacks at its end
	// cores are those that brokers and clients had; others may have wanted them too.
	cores float64
}

// windows counts what a flood does.
type windows struct {
	*absence
	flood               *Flood
	at                  time.Time
	confirmed, consumed uint64
	cpu                 time.Duration
	list                []window
}

func (a *absence) windows(f *Flood) *windows {
	return &windows{absence: a, flood: f, at: time.Now(), confirmed: f.Confirmed(), consumed: f.Consumed(), cpu: ourCPU()}
}

// ourCPU is the time that this process and the brokers have used; 0 where the
// system does not tell.
func ourCPU() time.Duration {
	usage, err := procstat.Of(os.Getpid())
	if err != nil {
		return 0
	}
	return usage.CPU
}

// next waits for the end of a window, and returns how the mirror stands.
func (w *windows) next(phase string) Mirror {
	w.t.Helper()
	w.must(pause(w.ctx, time.Until(w.at.Add(windowTime))))
	now, confirmed, consumed := time.Now(), w.flood.Confirmed(), w.flood.Consumed()
	m, err := w.leader.Mirror(w.ctx, w.group, w.mirror)
	w.must(err)
	seconds := now.Sub(w.at).Seconds()
	cpu := ourCPU()
	w.list = append(w.list, window{
		phase, float64(confirmed-w.confirmed) / seconds, float64(consumed-w.consumed) / seconds, m.Lag, (cpu - w.cpu).Seconds() / seconds,
	})
	w.at, w.confirmed, w.consumed, w.cpu = now, confirmed, consumed, cpu
	return m
}

// rates are the confirms a second of a phase's windows, ascending, their mean and
// the mean of the cores.
func (w *windows) rates(phase string) (rates []float64, mean, cores float64) {
	for _, x := range w.list {
		if x.phase == phase {
			rates = append(rates, x.confirmed)
			mean += x.confirmed
			cores += x.cores
		}
	}
	slices.Sort(rates)
	n := float64(max(len(rates), 1))
	return rates, mean / n, cores / n
}

const (
	before, down, during, after = "before", "down", "catching up", "after"
	// steady is how many windows are measured before and after.
	steady = 20
)

// String is the windows and what follows from them.
func (w *windows) String() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "window\tphase\tconfirmed/s\tconsumed/s\tlag\tcores\t")
	for i, x := range w.list {
		fmt.Fprintf(table, "%d\t%s\t%.0f\t%.0f\t%d\t%.1f\t\n", i, x.phase, x.confirmed, x.consumed, x.lag, x.cores)
	}
	table.Flush()
	fmt.Fprintln(table, "phase\tseconds\tconfirmed/s\tof before\tof after\tits median, lowest window\tcores\tconfirmed/core\t")
	_, was, _ := w.rates(before)
	_, is, _ := w.rates(after)
	for _, phase := range []string{before, down, during, after} {
		if rates, mean, cores := w.rates(phase); len(rates) > 0 {
			fmt.Fprintf(table, "%s\t%.1f\t%.0f\t%.0f %%\t%.0f %%\t%.0f %%, %.0f %%\t%.1f\t%.0f\t\n",
				phase, float64(len(rates))*windowTime.Seconds(), mean, 100*mean/was, 100*mean/is,
				100*rates[len(rates)/2]/mean, 100*rates[0]/mean, cores, mean/max(cores, 0.01))
		}
	}
	table.Flush()
	return text.String()
}

// A mirror that was down while messages passed has what the others have in the
// end, and clients of the others go on meanwhile: when it was away for a short
// while and is served from the log, and when it needs a checkpoint and bodies.
func TestAMirrorCatchesUpWhileClientsGoOn(t *testing.T) {
	for _, x := range []struct {
		name             string
		size             int
		waiting, passing uint64 // of each publisher
	}{
		{"from the log", 1 << 10, 10_000, 10_000},
		{"from a checkpoint", 64 << 10, 300, 1200},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := newAbsence(t)
			a.cluster.Kill(a.mirror)
			a.pass("waiting", x.size, x.waiting)
			a.pass("passing", x.size, x.passing, a.living...)
			a.pass("waiting", x.size, x.waiting)
			a.comeBack()
			a.inherit(x.size, 4*x.waiting)
		})
	}
}

// pass has messages published and, where there are consumers, consumed.
func (a *absence) pass(queue string, size int, messages uint64, consumers ...*Broker) {
	a.t.Helper()
	f := a.flood(queue, size, messages, consumers...)
	ctx, cancel := context.WithTimeout(a.ctx, catchUpTime)
	defer cancel()
	a.must(f.Wait(ctx))
	a.stop(f)
}

// comeBack has the mirror come back and catch up while clients of the others
// publish and consume. There are confirms while it makes up each quarter of what
// it lacks.
func (a *absence) comeBack() {
	a.t.Helper()
	f := a.flood("passing", 1<<10, 0, a.living...)
	a.until("clients", func() bool { return f.Consumed() > 0 })
	away, err := a.leader.Mirror(a.ctx, a.group, a.mirror)
	a.must(err)
	a.must(a.mirror.Launch())
	before, confirmed := away.Lag, f.Confirmed()
	a.until("the mirror", func() bool {
		m, err := a.leader.Mirror(a.ctx, a.group, a.mirror)
		a.must(err)
		if before >= m.Lag+away.Lag/4 {
			if f.Confirmed() == confirmed {
				a.fail(fmt.Errorf("nothing was confirmed while the mirror went from %d to %d entries behind", before, m.Lag))
			}
			before, confirmed = m.Lag, f.Confirmed()
		}
		return m.CaughtUp()
	})
	a.stop(f)
}

// inherit has the mirror lead in the place of the others, one of which ends,
// and hand out all that waits.
func (a *absence) inherit(size int, messages uint64) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, recoverTime)
	defer cancel()
	a.must(a.mirror.AwaitReady(ctx))
	a.must(a.leader.Transfer(ctx, a.group, a.mirror))
	a.cluster.Kill(a.leader)
	f, err := a.cluster.StartFlood(FloodConfig{
		Queue: "waiting", Arguments: quorum("majority"), Consumers: []*Broker{a.mirror}, Window: 500, Size: size,
	})
	a.must(err)
	a.until("what waits", func() bool { return f.Consumed() >= messages })
	a.stop(f)
	for _, queue := range []string{"waiting", "passing"} {
		a.until("an empty queue", func() bool {
			q, err := a.mirror.queue(ctx, queue)
			return err == nil && q.Messages == 0
		})
	}
}

// TestMeasureCatchUp prints the throughput of the other brokers' clients
// before, while and after a mirror catches up that was down while -catchup
// messages of 1 KiB were published and consumed, and how long it took. Nothing
// about the times fails it; what is lost or doubled does.
func TestMeasureCatchUp(t *testing.T) {
	if *catchUp == 0 {
		t.Skip("skipped: measures with -catchup N")
	}
	for _, m := range []struct {
		name             string
		passing, backlog uint64
	}{
		{"within the kept log", min(*catchUp, 50_000), 0},
		{"all consumed", *catchUp, 0},
		{"a third waits", *catchUp, *catchUp / 3},
	} {
		t.Run(m.name, func(t *testing.T) {
			a := newAbsence(t)
			f := a.flood("passing", 1024, 0, a.living...)
			w := a.windows(f)
			for range steady / 5 {
				w.next("warming up")
			}
			for range steady {
				w.next(before)
			}
			a.cluster.Kill(a.mirror)
			if m.backlog > 0 {
				waiting := a.flood("waiting", 1024, m.backlog/2)
				a.must(waiting.Wait(a.ctx))
				a.stop(waiting)
			}
			for until := w.confirmed + m.passing; f.Confirmed() < until; {
				w.next(down)
			}
			a.must(a.mirror.Launch())
			for restarted := time.Now(); ; {
				if w.next(during).CaughtUp() {
					t.Logf("caught up after %.1f s", time.Since(restarted).Seconds())
					break
				}
			}
			for range steady {
				w.next(after)
			}
			a.stop(f)
			t.Logf("%d messages passed, %d waited:\n%s", m.passing, m.backlog, w)
		})
	}
}
