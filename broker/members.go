package broker

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// members are the brokers of a cluster, fixed while it runs. A broker alone is
// its own cluster.
type members struct {
	self  string
	names []string // sorted
	ids   map[string]uint64
	byID  map[uint64]string
}

// membersFile, in the data directory, says which cluster the data belongs to.
const membersFile = "members"

// openMembers reads who the members are. The raft ids of a cluster follow from
// its names, so that brokers that have never met agree on them; a broker alone
// has the id of its data directory.
//
// A data directory belongs to one cluster for good: with other names it is
// refused.
func openMembers(c Config, identity uint64) (*members, error) {
	m := newMembers(c, identity)
	path := filepath.Join(c.Data, membersFile)
	wanted := strings.Join(m.names, "\n") + "\n"
	if len(c.Cluster) == 0 {
		wanted = "alone\n"
	}
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, writeDurably(path, []byte(wanted))
	case err != nil:
		return nil, err
	case string(have) != wanted:
		return nil, fmt.Errorf("%s: the data belongs to a cluster of %q, not to one of %q: members can't be changed yet",
			path, strings.Fields(string(have)), strings.Fields(wanted))
	}
	return m, nil
}

func newMembers(c Config, identity uint64) *members {
	m := &members{self: c.Name, names: []string{c.Name}, ids: map[string]uint64{c.Name: identity}}
	if len(c.Cluster) > 0 {
		m.names = slices.Sorted(maps.Keys(c.Cluster))
		for _, name := range m.names {
			m.ids[name] = memberID(m.names, name)
		}
	}
	m.byID = make(map[uint64]string)
	for name, id := range m.ids {
		m.byID[id] = name
	}
	return m
}

func memberID(names []string, name string) uint64 {
	h := fnv.New64a()
	for _, n := range names {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	h.Write([]byte(name))
	return max(h.Sum64()>>1, 1)
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

// name returns the name of a raft id, "" for none.
func (m *members) name(id uint64) string { return m.byID[id] }

func (m *members) voters() []uint64 {
	ids := make([]uint64, 0, len(m.names))
	for _, name := range m.names {
		ids = append(ids, m.ids[name])
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

// ranked is the members in the order in which they are to lead a group, so that
// the groups' leaders spread over them.
func (m *members) ranked(g entry.GroupID) []string {
	first := int(uint64(g) % uint64(len(m.names)))
	return append(slices.Clone(m.names[first:]), m.names[:first]...)
}
