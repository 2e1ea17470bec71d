package broker

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	// defaultGroups is that of a cluster, measured: see docs/benchmarks.md. A broker
	// alone has one: more would only divide its batches.
	defaultGroups = 3
	// defaultCopies is what survives the loss of one broker, as RabbitMQ's quorum
	// queues do.
	defaultCopies = 3
)

// members are the brokers of a cluster, and which of them have which group;
// fixed while it runs. A broker alone is its own cluster.
//
// The raft ids of a cluster's first formation follow from its names and copies, so
// that brokers that have never met agree on them, and those that don't agree
// don't hear one another. One that has lost its data, and with it the votes and
// acks that it gave, must never use that id again: as a newcomer it has an id of
// its data directory,
//
//	1 0 | place among the names 6 bits | the incarnation's low 56 bits
//
// which also is what it tells the others as its incarnation. The others tell
// theirs with the upper bits 0.
type members struct {
	self  string
	names []string // sorted
	// id is this broker's own. ids and byID are those of the first formation.
	id   uint64
	ids  map[string]uint64
	byID map[uint64]string
	// groups is the number of queue groups, each of which copies brokers have.
	groups, copies int
	placed         [][]string // by queue group, who has it: see placeGroups
}

const (
	// membersFile, in the data directory, says which cluster the data belongs to:
	// a line for each name, or "alone", and what can't be changed beside them.
	membersFile = "members"
	// newcomerFile, in the data directory, says that this broker is a newcomer.
	newcomerFile = "newcomer"

	newcomerBits    = 0b10 << 62
	newcomerPlace   = 56
	incarnationMask = 1<<newcomerPlace - 1
)

// isNewcomer reports whether an id, or an incarnation, is a newcomer's.
func isNewcomer(id uint64) bool { return id&(0b11<<62) == newcomerBits }

// sameData reports whether two incarnations are of one data directory.
func sameData(a, b uint64) bool { return a&incarnationMask == b&incarnationMask }

// openMembers reads who the members are. A broker alone has the id of its data
// directory. logged is the highest group that the log has, -1 for none.
//
// A data directory belongs to one cluster for good: with other names, other
// copies or fewer groups it is refused. What is not given is as it was.
func openMembers(c Config, identity uint64, logged int) (*members, error) {
	path := filepath.Join(c.Data, membersFile)
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if c, err = c.asBefore(string(content), logged); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	m := newMembers(c, identity)
	if _, err := os.Stat(filepath.Join(c.Data, newcomerFile)); err == nil {
		m.id = m.newcomer(identity)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if wanted := m.content(len(c.Cluster) == 0); wanted != string(content) {
		return m, writeDurably(path, []byte(wanted))
	}
	return m, nil
}

// newcomer is this broker's id as a newcomer.
func (m *members) newcomer(identity uint64) uint64 {
	place := uint64(slices.Index(m.names, m.self))
	return newcomerBits | place<<newcomerPlace | identity&incarnationMask
}

// becomeNewcomer has the broker be one from its next start on.
func becomeNewcomer(data string) error {
	return writeDurably(filepath.Join(data, newcomerFile), []byte("This broker began without the data of an earlier one of its name.\n"))
}

// incarnation is what the others are told of this broker's data.
func (m *members) incarnation(identity uint64) uint64 {
	if isNewcomer(m.id) {
		return m.id
	}
	return identity & incarnationMask
}

// asBefore is the configuration with what the members file says where nothing
// else is asked for. Earlier versions wrote names alone: every broker had all
// groups, whose number only the log told. While the log has none, what is asked
// for is still free.
func (c Config) asBefore(content string, logged int) (Config, error) {
	before := c
	var names []string
	copies, groups := 0, max(logged, 1)
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(value)
		switch {
		case n == 0:
			names = append(names, line)
		case key == "copies":
			copies = n
		case key == "groups":
			groups = max(groups, n)
		}
	}
	copies = cmp.Or(copies, len(names))
	wanted := []string{"alone"}
	if len(c.Cluster) > 0 {
		wanted = slices.Sorted(maps.Keys(c.Cluster))
	}
	switch {
	case !slices.Equal(names, wanted):
		return c, fmt.Errorf("the data belongs to a cluster of %q, not to one of %q: members can't be changed yet", names, wanted)
	case logged < 0:
		before.Copies, before.Groups = cmp.Or(c.Copies, copies), cmp.Or(c.Groups, groups)
		return before, nil
	case c.Copies != 0 && c.Copies != copies:
		return c, fmt.Errorf("the data has %d copies of each queue, and %d are asked for: --copies can't be changed yet", copies, c.Copies)
	case c.Groups != 0 && c.Groups < groups:
		return c, fmt.Errorf("the data has %d queue groups, and %d are asked for: --groups can be raised, not lowered", groups, c.Groups)
	}
	before.Copies, before.Groups = copies, max(groups, c.Groups)
	return before, nil
}

// content is what the members file says.
func (m *members) content(alone bool) string {
	names := m.names
	if alone {
		names = []string{"alone"}
	}
	return strings.Join(names, "\n") + fmt.Sprintf("\ncopies %d\ngroups %d\n", m.copies, m.groups)
}

func newMembers(c Config, identity uint64) *members {
	m := &members{self: c.Name, names: []string{c.Name}, ids: map[string]uint64{c.Name: identity}}
	groups := 1
	if len(c.Cluster) > 0 {
		m.names = slices.Sorted(maps.Keys(c.Cluster))
		groups = defaultGroups
	}
	m.groups = cmp.Or(c.Groups, groups)
	m.copies = cmp.Or(c.Copies, min(len(m.names), defaultCopies))
	m.placed = placeGroups(m.names, m.copies, m.groups)
	if len(c.Cluster) > 0 {
		for _, name := range m.names {
			m.ids[name] = m.memberID(name)
		}
	}
	m.id = m.ids[c.Name]
	m.byID = make(map[uint64]string)
	for name, id := range m.ids {
		m.byID[id] = name
	}
	return m
}

func (m *members) memberID(name string) uint64 {
	h := fnv.New64a()
	for _, n := range m.names {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	if m.copies < len(m.names) {
		fmt.Fprintf(h, "%d copies", m.copies)
		h.Write([]byte{0})
	}
	h.Write([]byte(name))
	return max(h.Sum64()>>1, 1)
}

// placeGroups says which brokers have each queue group, in the order in which
// they are to lead it. The brokers lead in turn; the other copies are where the
// fewest are so far, of several where it will be longest until their turn. So both are even, and a group
// stays where it is when more are added. O(groups · names · log names).
func placeGroups(names []string, copies, groups int) [][]string {
	has := make([]int, len(names))
	placed := make([][]string, groups)
	for g := range placed {
		turn := make([]int, len(names))
		for i := range turn {
			turn[i] = (g + 1 + i) % len(names)
		}
		chosen := slices.Clone(turn)
		slices.Reverse(chosen[1:])
		slices.SortStableFunc(chosen[1:], func(a, b int) int { return cmp.Compare(has[a], has[b]) })
		chosen = chosen[:copies]
		for _, i := range turn {
			if slices.Contains(chosen, i) {
				has[i]++
				placed[g] = append(placed[g], names[i])
			}
		}
	}
	return placed
}

// writeDurably writes a small file so that a crash leaves all of it or nothing.
func writeDurably(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// name returns the name of a raft id, "" for none. A broker that was replaced
// and the one in its place have the same.
func (m *members) name(id uint64) string {
	if name, formed := m.byID[id]; formed || !isNewcomer(id) {
		return name
	}
	if place := int(id &^ newcomerBits >> newcomerPlace); place < len(m.names) {
		return m.names[place]
	}
	return ""
}

// voters are those that have a group in the first formation.
func (m *members) voters(g entry.GroupID) []uint64 {
	var ids []uint64
	for _, name := range m.names {
		if m.has(name, g) {
			ids = append(ids, m.ids[name])
		}
	}
	return ids
}

// unique is the nth of this broker's numbers, which no other broker of the
// cluster has: a group's leader knows the channels and consumers of all of them
// by number.
func (m *members) unique(n uint64) uint64 {
	return n*uint64(len(m.names)) + uint64(slices.Index(m.names, m.self))
}

// volatileGroup is the group of a broker's in-memory queues.
func (m *members) volatileGroup(name string) entry.GroupID {
	return entry.Volatile + entry.GroupID(slices.Index(m.names, name))
}

// of is the brokers that have a group, in the order in which they are to lead
// it, so that the groups' leaders spread over them. All have the topology.
func (m *members) of(g entry.GroupID) []string {
	switch n := int(g) - int(entry.Volatile); {
	case g == entry.Topology:
		return m.names
	case n >= 0 && n < len(m.names):
		return m.names[n : n+1]
	case n < 0 && int(g) <= len(m.placed):
		return m.placed[g-1]
	}
	return nil
}

// has reports whether a broker has a group.
func (m *members) has(name string, g entry.GroupID) bool { return slices.Contains(m.of(g), name) }

// queueGroups are the groups of durable queues, in order.
func (m *members) queueGroups() iter.Seq[entry.GroupID] {
	return func(yield func(entry.GroupID) bool) {
		for i := range m.groups {
			if !yield(entry.GroupID(i + 1)) {
				return
			}
		}
	}
}

// others are the brokers that don't have a group.
func (m *members) others(g entry.GroupID) []string {
	return slices.DeleteFunc(slices.Clone(m.names), func(name string) bool { return m.has(name, g) })
}
