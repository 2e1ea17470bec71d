package broker

import (
	"strconv"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/internal/topology"
	"github.com/mirrormq/mirrormq/replicate"
)

// ackQuorumKey is the argument of queues and the header of publishes that says
// at how many copies a publish is confirmed.
const ackQuorumKey = "x-ack-quorum"

// quorums says what ack quorums mean where every group has so many copies.
type quorums struct {
	copies int
	usual  replicate.Quorum // of queues without an ack quorum of their own
}

// newQuorums takes the default ack quorum as it is configured.
func newQuorums(copies int, usual string) quorums {
	k := quorums{copies: copies}
	k.usual = k.named(usual)
	return k
}

func (k quorums) majority() int { return k.copies/2 + 1 }

// disks is how many disks a quorum means.
func (k quorums) disks(q replicate.Quorum) int {
	switch q {
	case replicate.QuorumMajority:
		return k.majority()
	case replicate.QuorumAll:
		return k.copies
	}
	return int(q)
}

// early reports whether a quorum holds before the commit.
func (k quorums) early(q replicate.Quorum) bool { return k.disks(q) < k.majority() }

// number is the quorum of n copies: where they are a majority it is that, so
// that there is one way to say it.
func (k quorums) number(n int) replicate.Quorum {
	if n == k.majority() {
		return replicate.QuorumMajority
	}
	return replicate.Quorum(n)
}

// named is the quorum that a checked spelling means: see topology.AckQuorum.
// "" is the default.
func (k quorums) named(s string) replicate.Quorum {
	switch s {
	case "":
		return k.usual
	case "leader":
		return k.number(1)
	case "majority":
		return replicate.QuorumMajority
	case "all":
		return replicate.QuorumAll
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > k.copies {
		return replicate.QuorumAll // It was checked: nothing weaker was asked for.
	}
	return k.number(n)
}

// of is the quorum of what is published to a queue. A queue in memory has one
// copy: every quorum holds at once.
func (k quorums) of(q *topology.Queue) replicate.Quorum {
	if q.Group >= entry.Volatile {
		return replicate.QuorumMajority
	}
	return k.named(q.AckQuorum)
}

// stronger is the one of two quorums that means more disks.
func (k quorums) stronger(a, b replicate.Quorum) replicate.Quorum {
	if k.disks(b) > k.disks(a) {
		return b
	}
	return a
}

// raised is the quorum of a publish to a queue, whose header asks for no less
// than least. A number below the majority that no queue has is no quorum that
// elections know of: see quorumUse. Then it takes the majority.
func (k quorums) raised(queue, least replicate.Quorum) replicate.Quorum {
	q := k.stronger(queue, least)
	if q != queue && k.early(q) {
		return replicate.QuorumMajority
	}
	return q
}

// asked is the least quorum that a publish's header asks for. It allocates only
// for an error: 406.
func (k quorums) asked(field amqp.RawField) (replicate.Quorum, error) {
	n, ok := field.Integer()
	if text, is := field.Text(); is {
		switch string(text) {
		case "leader":
			return replicate.QuorumLeader, nil
		case "majority":
			return replicate.QuorumMajority, nil
		case "all":
			return replicate.QuorumAll, nil
		}
		parsed, err := strconv.Atoi(string(text))
		n, ok = int64(parsed), err == nil
	}
	switch {
	case !ok || n < 1:
		return 0, amqp.PreconditionFailed("invalid %s header: it is leader, majority, all or a number of copies from 1 to %d", ackQuorumKey, k.copies)
	case n > int64(k.copies):
		return 0, amqp.PreconditionFailed("%s header %d is above the %d copies that there are", ackQuorumKey, n, k.copies)
	case n == 1:
		return replicate.QuorumLeader, nil // Also where that is a majority: it raises nothing.
	}
	return k.number(int(n)), nil
}
