package broker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/elect"
	"github.com/mirrormq/mirrormq/internal/backbone"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

const (
	// handOverTime is how long a planned stop waits for the next leaders.
	handOverTime = 2 * time.Second
	handOverPoll = 5 * time.Millisecond
)

// election drives a group's elector beside its raft node. Owned by the group's
// loop.
type election struct {
	group   entry.GroupID
	loop    *loop
	node    *replicate.Node
	keep    *keeper
	elector *elect.Elector
	cluster *cluster
	gateway *gateway
	// rouseIn has the loop do a round after a time; a later call replaces an
	// earlier one.
	rouseIn func(time.Duration) bool
	actions []elect.Action
	mirrors []replicate.Mirror
	named   []elect.Mirror
	leader  string
	term    uint64
	// voters are those that the elector knows; change is the last change of the
	// members that was proposed here.
	voters []string
	change memberChange
	// behind are the mirrors that need a checkpoint; retry is when those may get
	// another that had one on the way.
	behind []uint64
	retry  map[uint64]time.Time
}

// newElection makes the elector of a group and has its loop drive it.
func (c *cluster) newElection(g entry.GroupID, l *loop, node *replicate.Node, w *gateway) (*election, error) {
	e := &election{group: g, loop: l, node: node, cluster: c, gateway: w, retry: make(map[uint64]time.Time)}
	e.voters = e.voterNames(node.Members())
	var err error
	e.elector, err = elect.New(elect.Config{
		Group: g, Self: c.broker.config.Name, Voters: e.voters, Listeners: c.broker.members.others(g), Jitter: c.jitter, Gate: c.gate,
	}, l.now())
	if err != nil {
		return nil, err
	}
	e.rouseIn = time.AfterFunc(time.Hour, l.rouse).Reset
	l.watch = e.watch
	return e, nil
}

// watch tells the elector how raft stands, and raft what the elector wants. It
// is called after every round of the loop.
func (e *election) watch(ticked bool) {
	now := e.loop.now()
	if ticked {
		e.tendMembers(now)
	}
	e.tell(now)
	e.elector.Tick(now)
	e.node.HoldElections(e.elector.HoldTicks())
	e.actions = e.elector.Actions(e.actions[:0])
	for i := range e.actions {
		e.act(now, &e.actions[i])
	}
	if len(e.actions) > 0 {
		e.tell(now)
		e.loop.rouse() // raft has something ready now.
	}
	if ticked && e.cluster.catchup != nil {
		e.cluster.catchup.tick(e, now)
	}
	if wake := e.elector.Wake(); !wake.IsZero() {
		e.rouseIn(max(wake.Sub(now), time.Millisecond))
	}
}

func (e *election) tell(now time.Time) {
	s := e.node.Status()
	leader := e.cluster.broker.members.name(s.Leader)
	local := elect.Local{
		Role: elect.Role(s.Role), Term: s.Term, Leader: leader, Last: s.Last,
		Fence: e.node.Fenced(), OldestWrite: e.cluster.broker.oldestWrite(),
		SmallestQuorum: e.cluster.broker.smallestQuorum(e.group),
	}
	if s.Role == replicate.Leader {
		e.mirrors = e.node.Mirrors(e.mirrors[:0])
		e.named = e.named[:0]
		for _, m := range e.mirrors {
			if m.Learner {
				continue
			}
			e.named = append(e.named, elect.Mirror{
				Name: e.cluster.broker.members.name(m.ID), Match: m.Match, Active: m.Heard,
			})
		}
		local.Mirrors = e.named
	}
	e.elector.State(now, local)
	if e.elector.Leads() {
		e.cluster.beater.Lead(now, elect.Beat{Group: e.group, Term: s.Term, Position: s.Last})
	} else {
		e.cluster.beater.Resign(e.group)
	}
	if leader != e.leader || s.Term != e.term {
		e.leader, e.term = leader, s.Term
		if leader != "" && s.Role != replicate.Leader {
			e.gateway.leads(leader, s.Term)
		}
	}
}

// refuses reports whether a message comes from a leader that this mirror has
// just agreed to replace. Without it the heartbeats of a leader whose disk hangs
// would end every election.
func (e *election) refuses(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		return m.GetTerm() < e.elector.Refuses()
	}
	return false
}

func (e *election) act(now time.Time, a *elect.Action) {
	var err error
	switch a.Kind {
	case elect.Send:
		err = e.cluster.backbone.Send(backbone.Beats, a.To, elect.AppendMessage(nil, a.Message))
	case elect.Forget:
		err = e.node.ForgetLeader()
	case elect.Campaign:
		if a.Term > 1 {
			err = e.node.Raise(a.Term - 1)
		}
		if err == nil && (a.Term == 0 || e.node.Status().Term < a.Term) {
			err = e.node.Campaign()
		}
	case elect.Transfer:
		err = e.node.TransferLeader(e.voterID(a.To))
	case elect.Fence:
		e.node.Fence(a.Term)
		e.tell(now)
	case elect.Promoted:
		e.cluster.promoted(*a.Promotion)
		if _, t := e.cluster.broker.attendance(e.group); t != nil {
			doubted := ""
			if r := a.Promotion.Reason; r == elect.Silent || r == elect.HandedOver {
				doubted = a.Promotion.From
			}
			t.doubt(doubted)
		}
	}
	if err != nil {
		e.cluster.logger.Debug("election", "group", e.group, "action", a.Kind.String(), "to", a.To, "err", err)
	}
}

// promoted notes a promotion.
func (c *cluster) promoted(p elect.Promotion) {
	c.mu.Lock()
	c.history.Add(p)
	c.mu.Unlock()
	level := slog.LevelInfo
	if !p.Clean {
		level = slog.LevelError // A confirmed message may be lost.
	}
	c.logger.Log(context.Background(), level, "a group has a new leader", "group", p.Group, "leader", p.To, "from", p.From,
		"term", p.Term, "reason", p.Reason.String(), "clean", p.Clean, "leaderless", p.Leaderless.Round(time.Microsecond),
		"positions", standings(p.Positions))
}

// standings prints the positions that were compared, best first.
func standings(list []elect.Standing) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %v", s.Broker, s.Position)
	}
	return b.String()
}

// transferTo has another broker lead because an operator wants it. Called on the
// loop's goroutine.
func (e *election) transferTo(to string) error {
	return e.elector.TransferTo(e.loop.now(), to)
}

// handOver gives away the lead of every group before a planned stop, and waits
// until others have it, for a bounded time and while there are any.
func (b *Broker) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	for _, e := range inOrder(b.elections) {
		e.loop.call(func() { e.elector.HandOver(e.loop.now()) })
	}
	for _, e := range inOrder(b.elections) {
		for ctx.Err() == nil {
			handed := make(chan bool, 1)
			if !e.loop.call(func() { handed <- e.elector.Handed() || !e.elector.HasHeirs() }) || <-handed {
				break
			}
			timer := time.NewTimer(handOverPoll)
			<-timer.C
		}
	}
}

// untilMinority returns a context that ends with ctx, or when so few brokers can
// be reached that nothing is committed in one of the groups: there is no use in
// waiting for it then.
func (b *Broker) untilMinority(ctx context.Context, groups ...entry.GroupID) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if b.cluster == nil {
		return ctx, cancel
	}
	minority := func(g entry.GroupID) bool {
		living, there := 0, b.living()
		for _, name := range b.members.of(g) {
			if slices.Contains(there, name) {
				living++
			}
		}
		return g < entry.Volatile && living <= len(b.members.of(g))/2
	}
	b.background.Go(func() {
		ticker := time.NewTicker(tickInterval)
		defer ticker.Stop()
		for !slices.ContainsFunc(groups, minority) {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	})
	return ctx, cancel
}

// overhear takes word of who leads a group that this broker has no copy of, and
// reports whether it is news.
func (c *cluster) overhear(from string, g entry.GroupID, term uint64) bool {
	w := c.broker.gateways[g]
	if w == nil || c.broker.elections[g] != nil || !c.broker.members.has(from, g) || !c.trusted(from) || !w.newer(term) {
		return false
	}
	w.leads(from, term)
	return true
}
