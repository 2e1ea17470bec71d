package bench

import (
	"testing"

	"github.com/urfave/cli/v2"
)

func TestAMetricIsFoundByItsWholeName(t *testing.T) {
	text := "# HELP n_count is not it\nn_count_total 7\nn_count{of=\"x\"} 8\nn_count 1.5e+03\n"
	if got, err := metric(text, "n_count"); got != 1500 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := metric(text, "n"); err == nil {
		t.Error("found one that is not there")
	}
}

func TestBrokersAreCountedFromOne(t *testing.T) {
	for name, want := range map[string]int{"b1": 0, "b3": 2, "b4": -1, "b0": -1, "": -1, "x": -1} {
		if got, err := indexOf(name, 3); got != want && (want >= 0 || err == nil) {
			t.Errorf("%q: %d, %v", name, got, err)
		}
	}
}

// scenarios runs f in the action of a command line with these arguments.
func scenarios(t *testing.T, arguments ...string) ([]Named, error) {
	t.Helper()
	var got []Named
	command := compareCommand("./mirrormq")
	command.Action = func(c *cli.Context) (err error) {
		got, err = scenariosOf(c)
		return err
	}
	app := &cli.App{Commands: []*cli.Command{command}}
	return got, app.RunContext(t.Context(), append([]string{"bench", "compare"}, arguments...))
}

func TestNamedScenariosAreSoundAndDifferInName(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range Scenarios() {
		if seen[n.Name] || n.What == "" || n.Brokers < 1 {
			t.Errorf("%+v", n)
		}
		seen[n.Name] = true
		if _, err := newRun(n.Scenario); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
	}
}

func TestFlagsChangeOnlyWhatTheyAreGivenFor(t *testing.T) {
	got, err := scenarios(t, "--scenario", "cluster,steady", "--size", "100-200", "--window", "7", "--brokers", "5", "--rate", "12")
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	s := got[0]
	if s.Sizes.String() != "100-200" || s.Window != 7 || s.Brokers != 5 || s.Rate != 12 {
		t.Errorf("%+v", s)
	}
	if s.Prefetch != 500 || s.Publishers != 2 || s.QueueType != "quorum" {
		t.Errorf("changed what no flag was given for: %+v", s)
	}
	if want := " (changed: size 100-200, window 7, rate 12, brokers 5)"; s.What != Scenarios()[1].What+want {
		t.Errorf("%q", s.What)
	}
}
