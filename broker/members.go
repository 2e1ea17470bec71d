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
//
// The raft ids of a cluster's first formation follow from its names, so that
// brokers that have never met agree on them. One that has lost its data, and with
// it the votes and acks that it gave, must never use that id again: as a newcomer
// it has an id of its data directory,
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
}

const (
	// membersFile, in the data directory, says which cluster the data belongs to.
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
// directory.
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
	if _, err := os.Stat(filepath.Join(c.Data, newcomerFile)); err == nil {
		m.id = m.newcomer(identity)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
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

func newMembers(c Config, identity uint64) *members {
	m := &members{self: c.Name, names: []string{c.Name}, ids: map[string]uint64{c.Name: identity}}
	if len(c.Cluster) > 0 {
		m.names = slices.Sorted(maps.Keys(c.Cluster))
		for _, name := range m.names {
			m.ids[name] = memberID(m.names, name)
		}
	}
	m.id = m.ids[c.Name]
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

// voters are those of the first formation.
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
