package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// errOneCopy refuses to transfer a group that only one broker has.
var errOneCopy = errors.New("only one broker has the group: there is nobody to take it over")

// Groups asks all groups at once; one whose loop does not answer is left out.
func (s source) Groups() []admin.Group {
	b := s.b
	if !b.ready.Load() {
		return nil
	}
	answers := make(chan admin.Group, len(b.groups)+1)
	waiting := 0
	ask := func(l *loop, id entry.GroupID, node *replicate.Node) {
		if l.call(func() { answers <- b.describeGroup(id, node) }) {
			waiting++
		}
	}
	ask(b.topology.loop, entry.Topology, b.topology.node)
	for id, g := range b.groups {
		if g.node != nil {
			ask(g.loop, id, g.node)
		}
	}
	groups := make([]admin.Group, 0, b.members.groups+1)
	for id := range b.members.queueGroups() {
		if b.groups[id] == nil {
			leader, term := b.gateways[id].known()
			groups = append(groups, admin.Group{
				ID: uint32(id), Role: admin.RoleNone, Leader: leader, Term: term, Preferred: b.members.of(id)[0], Members: b.members.of(id),
			})
		}
	}
	timeout := time.NewTimer(answerTime)
	defer timeout.Stop()
	for range waiting {
		select {
		case g := <-answers:
			groups = append(groups, g)
		case <-timeout.C:
			return groups
		}
	}
	return groups
}

// describeGroup is called on the group's loop.
func (b *Broker) describeGroup(id entry.GroupID, node *replicate.Node) admin.Group {
	status := node.Status()
	g := admin.Group{
		ID: uint32(id), Role: status.Role.String(), Leader: b.members.name(status.Leader), Preferred: b.members.of(id)[0], Members: b.members.of(id),
		Term: status.Term, Commit: status.Commit, Applied: status.Applied.Index,
		Last: status.Last.Index, LastTerm: status.Last.Term,
	}
	if status.Role == replicate.Leader {
		for _, m := range node.Mirrors(nil) {
			g.Mirrors = append(g.Mirrors, admin.Mirror{
				Name: b.members.name(m.ID), Match: m.Match, Lag: lacks(m.Match, status.Last.Index), Heard: m.Heard, Behind: m.Behind,
			})
		}
	} else if e := b.elections[id]; e != nil {
		g.Lag = lacks(status.Last.Index, e.elector.View().Position.Index)
	}
	return g
}

// lacks is how many entries one at index have lacks up to index there.
func lacks(have, there uint64) uint64 {
	if there <= have {
		return 0
	}
	return there - have
}

// Cluster implements admin.Source.
func (s source) Cluster() admin.Cluster {
	b := s.b
	v := admin.Cluster{AckQuorum: b.config.AckQuorum}
	self := admin.Broker{Name: b.config.Name, Address: b.config.Cluster[b.config.Name], Up: s.Healthy() == nil, Since: b.started}
	v.Brokers = append(v.Brokers, self)
	if !b.ready.Load() || b.cluster == nil {
		return v
	}
	c := b.cluster
	c.mu.Lock()
	for _, name := range b.members.names {
		if name == b.config.Name {
			continue
		}
		peer := admin.Broker{Name: name, Address: b.config.Cluster[name], Up: c.mu.up[name], Since: c.mu.since[name], Stranger: c.mu.strangers[name] != 0}
		if peer.Since.IsZero() {
			peer.Since = b.started // It has been away for as long as this one is here.
		}
		v.Brokers = append(v.Brokers, peer)
	}
	promotions := c.history.Promotions()
	v.PromotionsTotal, v.PromotionsUnclean = c.history.Counts()
	c.mu.Unlock()
	for _, p := range promotions {
		shown := admin.Promotion{
			Group: uint32(p.Group), When: p.When, From: p.From, To: p.To, Term: p.Term,
			Reason: p.Reason.String(), Clean: p.Clean, Leaderless: p.Leaderless,
		}
		for _, at := range p.Positions {
			shown.Positions = append(shown.Positions, admin.Standing{
				Broker: at.Broker, Term: at.Position.Term, Index: at.Position.Index, Fenced: at.Fenced, Unfit: at.Unfit,
			})
		}
		v.Promotions = append(v.Promotions, shown)
	}
	return v
}

// Transfer implements admin.Source. It works on every broker: the leader is
// asked through the gateway.
func (s source) Transfer(ctx context.Context, group uint32, to string) error {
	b := s.b
	if !b.ready.Load() {
		return errStarting
	}
	w := b.gateways[entry.GroupID(group)]
	switch {
	case w == nil:
		return fmt.Errorf("%w: no group %d", admin.ErrNotFound, group)
	case !slices.Contains(b.members.names, to):
		return fmt.Errorf("%w: no broker %q; there are %q", admin.ErrRefused, to, b.members.names)
	case len(b.members.of(w.id)) == 1:
		return fmt.Errorf("%w: %w", admin.ErrRefused, errOneCopy)
	case !b.members.has(to, w.id):
		return fmt.Errorf("%w: %s has no copy of group %d; %s do", admin.ErrRefused, to, group, strings.Join(b.members.of(w.id), ", "))
	}
	err := w.transfer(ctx, to)
	var refusal remoteError
	switch {
	case errors.As(err, &refusal):
		return fmt.Errorf("%w: %w", admin.ErrRefused, err)
	case err != nil:
		return fmt.Errorf("%s did not take over group %d in time, which %s led last: %w", to, group, w.leader(), err)
	}
	return nil
}
