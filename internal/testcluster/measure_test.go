package testcluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// measured is a row of the table of stand-stills.
type measured struct {
	name   string
	fault  Fault
	leader bool // strikes the leader, else a mirror
	lasts  time.Duration
}

func measurements() []measured {
	pause := 3 * time.Second
	if *long {
		pause = 25 * time.Second
	}
	return []measured{
		{"nothing happens", Nothing, true, 2 * time.Second},
		{"leader killed", Killed, true, 2 * time.Second},
		{fmt.Sprintf("leader paused %v", pause), Paused, true, pause},
		{"leader cut off", CutOff, true, 4 * time.Second},
		{"leader in a black hole", Unheard, true, 4 * time.Second},
		{"leader stopped", Stopped, true, 2 * time.Second},
		{"mirror killed", Killed, false, 2 * time.Second},
		{fmt.Sprintf("mirror paused %v", pause), Paused, false, pause},
	}
}

// TestMeasureStandStills prints, for each fault, the longest time that a client
// of a living broker got no confirm and no message: the median and the worst of
// -measure times. "disk alone" is the same of somebody who writes 4 KiB to the
// same disk and syncs: what the machine had others wait for meanwhile. Nothing
// about the times fails it; what is lost or doubled does.
func TestMeasureStandStills(t *testing.T) {
	if *measure == 0 {
		t.Skip("skipped: measures with -measure N")
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ms: median / worst\tconfirms\tdeliveries\tdisk alone\tconfirms, coming back\tdeliveries, coming back\tdisk alone\tlost\tdoubled\tnacked\t")
	for _, m := range measurements() {
		t.Run(m.name, func(t *testing.T) {
			r := start(t, 3, quorum("majority"))
			var columns [6][]time.Duration
			for range *measure {
				victim := r.leader()
				if !m.leader {
					victim = r.mirror()
				}
				o := r.play(m.fault, victim, m.lasts)
				for i, gap := range []Gap{
					o.During.Confirms, o.During.Deliveries, o.During.Disk,
					o.Mending.Confirms, o.Mending.Deliveries, o.Mending.Disk,
				} {
					columns[i] = append(columns[i], gap.Length)
				}
			}
			counts := r.judge()
			fmt.Fprintf(w, "%s\t", m.name)
			for _, gaps := range columns {
				slices.Sort(gaps)
				fmt.Fprintf(w, "%d / %d\t", gaps[len(gaps)/2].Milliseconds(), gaps[len(gaps)-1].Milliseconds())
			}
			fmt.Fprintf(w, "%d\t%d\t%d\t\n", counts.Lost, counts.Doubled, counts.NackedLiving)
		})
	}
	w.Flush()
	t.Logf("the longest stand-still of a client of a living broker, %d times each:\n%s", *measure, table.String())
}
