package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A leader tells the channels and consumers of all brokers apart by number: two
// brokers' first consumers were the same to it once.
func TestNoTwoBrokersGiveTheSameNumber(t *testing.T) {
	names := []string{"b1", "b2", "b3"}
	by := make(map[uint64]string)
	for _, name := range names {
		m := &members{self: name, names: names}
		for n := range uint64(100) {
			id := m.unique(n + 1)
			if other, used := by[id]; used || id == 0 {
				t.Fatalf("number %d of %s is %d, as is one of %q", n+1, name, id, other)
			}
			by[id] = name
		}
	}
}

func TestGroupsAndTheirLeadersAreSpreadEvenly(t *testing.T) {
	spread := func(counts map[string]int, names []string) int {
		least, most := counts[names[0]], counts[names[0]]
		for _, name := range names {
			least, most = min(least, counts[name]), max(most, counts[name])
		}
		return most - least
	}
	var names []string
	for brokers := 1; brokers <= 9; brokers++ {
		names = append(names, fmt.Sprint("b", brokers))
		for copies := 1; copies <= brokers; copies++ {
			var before [][]string
			for groups := 1; groups <= 30; groups++ {
				placed := placeGroups(names, copies, groups)
				has, leads := make(map[string]int), make(map[string]int)
				for g, list := range placed {
					leads[list[0]]++
					for _, name := range list {
						has[name]++
					}
					if distinct := slices.Compact(slices.Sorted(slices.Values(list))); len(distinct) != copies {
						t.Fatalf("%d brokers, %d copies: group %d is on %q", brokers, copies, g+1, list)
					}
					if g < len(before) && !slices.Equal(list, before[g]) {
						t.Fatalf("%d brokers, %d copies: group %d of %d is on %q, of %d on %q", brokers, copies, g+1, groups-1, before[g], groups, list)
					}
				}
				if most := spread(has, names); most > 1 {
					t.Errorf("%d brokers, %d copies, %d groups: copies %v", brokers, copies, groups, has)
				}
				if most := spread(leads, names); most > 1 {
					t.Errorf("%d brokers, %d copies, %d groups: leaders %v", brokers, copies, groups, leads)
				}
				before = placed
			}
		}
	}
}

func TestADataDirectoryKeepsItsGroupsAndCopies(t *testing.T) {
	five := map[string]string{"b1": "", "b2": "", "b3": "", "b4": "", "b5": ""}
	for _, c := range []struct {
		what, file     string
		config         Config
		logged         int
		groups, copies int
		refusal        string
	}{
		{what: "a new directory", config: Config{Cluster: five}, logged: -1, groups: defaultGroups, copies: 3},
		{what: "a new one of two brokers", config: Config{Cluster: map[string]string{"b1": "", "b2": ""}}, logged: -1, groups: defaultGroups, copies: 2},
		{what: "a new one alone", logged: -1, groups: 1, copies: 1},
		{what: "as asked for", config: Config{Cluster: five, Groups: 4, Copies: 5}, logged: -1, groups: 4, copies: 5},
		{what: "as it was", file: "b1\nb2\nb3\nb4\nb5\ncopies 2\ngroups 6\n", config: Config{Cluster: five}, logged: 6, groups: 6, copies: 2},
		{what: "an earlier version's", file: "b1\nb2\nb3\nb4\nb5\n", config: Config{Cluster: five}, logged: 4, groups: 4, copies: 5},
		{what: "an earlier version's, alone", file: "alone\n", logged: 0, groups: 1, copies: 1},
		{what: "more groups", file: "alone\ncopies 1\ngroups 2\n", config: Config{Groups: 5}, logged: 2, groups: 5, copies: 1},
		{what: "another wish before anything was written", file: "b1\nb2\nb3\nb4\nb5\ncopies 3\ngroups 6\n", config: Config{Cluster: five, Copies: 5, Groups: 2}, logged: -1, groups: 2, copies: 5},
		{what: "fewer groups", file: "alone\ncopies 1\ngroups 2\n", config: Config{Groups: 1}, logged: 2, refusal: "--groups can be raised, not lowered"},
		{what: "other copies", file: "b1\nb2\nb3\nb4\nb5\ncopies 3\ngroups 6\n", config: Config{Cluster: five, Copies: 5}, logged: 6, refusal: "3 copies of each queue, and 5 are asked for"},
		{what: "other brokers", file: "alone\ncopies 1\ngroups 1\n", config: Config{Cluster: five}, logged: 1, refusal: "members can't be changed"},
	} {
		c.config.Name, c.config.Data = "b1", t.TempDir()
		if c.file != "" {
			if err := os.WriteFile(filepath.Join(c.config.Data, membersFile), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, err := openMembers(c.config, 7, c.logged)
		switch {
		case c.refusal != "":
			if err == nil || !strings.Contains(err.Error(), c.refusal) {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", c.what, err)
			continue
		case m.groups != c.groups || m.copies != c.copies:
			t.Errorf("%s: %d groups, %d copies, want %d and %d", c.what, m.groups, m.copies, c.groups, c.copies)
		}
		// It stays so at the next start.
		c.config.Groups, c.config.Copies = 0, 0
		if again, err := openMembers(c.config, 7, max(c.logged, 0)); err != nil || again.groups != c.groups || again.copies != c.copies {
			t.Errorf("%s, again: %+v, %v", c.what, again, err)
		}
	}
}
