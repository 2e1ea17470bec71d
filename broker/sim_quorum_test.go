package broker

import (
	"bytes"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// simConfirm is something that a publisher was told to be safe.
type simConfirm struct {
	content string
	queues  int
	quorum  replicate.Quorum
	by      *simProcess
}

// early reports whether a quorum may hold before the commit.
func (c *simConfirm) early(s *simulation) bool {
	return c.by.broker.quorums().early(c.quorum)
}

// confirmed is told that a publisher was told so. What its quorum asks for must
// hold: see the table in docs/operating.md.
func (m *simModel) confirmed(c *simConfirm) {
	m.confirms = append(m.confirms, c)
	if committed := m.enqueued[c.content]; committed != c.queues {
		if committed > 0 || !c.early(m.s) {
			m.s.fatalf("%s is confirmed and in %d queues of %d", c.content, committed, c.queues)
		}
	}
	disks, want := m.disks(c.content), c.by.broker.quorums().disks(c.quorum)
	if disks < want && !(c.early(m.s) && m.replaced(c)) {
		m.s.fatalf("%s is confirmed at %d disks and is on %d", c.content, want, disks)
	}
}

// replaced reports whether somebody else leads since whoever confirmed: then what
// was on disks then may be no more.
func (m *simModel) replaced(c *simConfirm) bool { return c.by.gateway().mu.term < m.newest }

// disks is on how many disks a message is.
func (m *simModel) disks(content string) (n int) {
	index := m.where[content]
	for _, b := range m.s.brokers {
		l := simLogOf(b.disk.durable, simGroup)
		if index == 0 && l.contains(content) || index > 0 && (index <= l.floor.Index || l.has(entry.Position{Term: m.log[index-1].term, Index: index})) {
			n++
		}
	}
	return n
}

// recentEntries is how far back from its end a log is searched for what is not
// committed.
const recentEntries = 256

// contains reports whether a message is among the newest entries.
func (l *simLog) contains(content string) bool {
	for _, e := range l.entries[max(0, len(l.entries)-recentEntries):] {
		if bytes.Contains(e.Payload, []byte(content+" ")) {
			return true
		}
	}
	return false
}

// kept expects that all that was confirmed is there, or was, but for what its
// quorum allows to lose: nothing that a living broker's gateway still had, and
// below the majority only where too few were heard of when a leader was chosen.
func (m *simModel) kept() {
	unclean := m.s.counts.unclean
	for _, b := range m.s.brokers {
		_, n := b.process.broker.cluster.history.Counts()
		unclean += int(n)
	}
	for _, c := range m.confirms {
		if m.enqueued[c.content] == c.queues {
			continue
		}
		m.s.counts.forgotten++
		m.s.tell("%s was confirmed at %d and is forgotten", c.content, c.quorum)
		if !c.early(m.s) || !c.by.dead || c.quorum != replicate.QuorumLeader && unclean == 0 {
			m.s.fatalf("%s was confirmed at %d disks and is lost (%d unclean promotions, its broker is dead: %v)",
				c.content, c.by.broker.quorums().disks(c.quorum), unclean, c.by.dead)
		}
	}
}
