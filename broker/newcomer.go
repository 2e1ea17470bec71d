package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// How a broker that lost its data comes back. Its raft ids have promised votes
// and acks that nobody remembers: it is a stranger to those that knew it, and
// never uses them again.
//
//	without its data                     the others
//	starts as in a first formation ────▶ know another incarnation: a stranger,
//	                                     nothing that it says counts
//	becomes a newcomer, for good   ◀──── wireStranger
//	starts again under its new id ─────▶ still a stranger
//	                                     mirrormq replace: wireReplace to all;
//	                                     the topology's leader proposes to remove
//	                                     its old id, then to add the new one as
//	                                     a learner
//	is in the topology's members ──────▶ takes part from here on; the leaders of
//	                                     the other groups do the same
//	checkpoint, bodies, log        ◀──── as any mirror that fell behind
//	                                     each group's leader proposes to have it
//	                                     vote, once it has nearly all
//
// Who the members are is raft's to know: it is in the log and in checkpoints. The
// operator's word is needed for the topology alone, and is forgotten after
// replaceTime: what it began goes on by itself.
//
// A newcomer's raft is listened to whether it takes part or not: raft knows itself
// what it may say, and it may lead the topology by the time that a broker which
// was away hears of it.

const (
	// strangerInterval is how often a stranger is told that it is one.
	strangerInterval = time.Second
	// replaceTime is how long an operator's word holds.
	replaceTime = 30 * time.Second
)

// ErrNewcomer ends a broker that finds out that it has lost its data. The owner
// is to start it again: it is another member then.
var ErrNewcomer = errors.New("broker: this broker has lost its data, and begins anew as another member")

// newcomers are those of the cluster that have lost their data.
type newcomers struct {
	// strangers are those that can be reached and don't take part, with what
	// they tell as their incarnation; ids are those of all that can be reached.
	strangers, ids map[string]uint64
	// told is when a stranger was told.
	told map[string]time.Time
	// replacing are the newcomers that an operator has put in a broker's place.
	replacing map[string]replacing
}

type replacing struct {
	by    uint64
	until time.Time
}

func makeNewcomers() newcomers {
	return newcomers{
		strangers: make(map[string]uint64), ids: make(map[string]uint64),
		told: make(map[string]time.Time), replacing: make(map[string]replacing),
	}
}

// stranger is the incarnation of a broker that doesn't take part, 0 for others.
func (c *cluster) stranger(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.strangers[name]
}

// speaks reports whether what a broker's raft says counts.
func (c *cluster) speaks(name string) bool { return c.trusted(name) || isNewcomer(c.stranger(name)) }

// takes reports whether raft's messages may go to a broker: one that still has
// its old id must not be led to think that it is a member.
func (c *cluster) takes(name string) bool {
	id := c.stranger(name)
	return id == 0 || isNewcomer(id)
}

// remember keeps a broker's incarnation. REQUIRES: mu held.
func (c *cluster) remember(name string, incarnation uint64) {
	c.mu.known[name] = incarnation & incarnationMask
	content, err := json.Marshal(c.mu.known)
	if err == nil {
		err = writeDurably(filepath.Join(c.broker.config.Data, peersFile), content)
	}
	if err != nil {
		c.logger.Error("can't remember a broker's incarnation", "broker", name, "err", err)
	}
}

// teach tells a newcomer of the brokers that are known here: one that it has not
// met might come back without its data, and find nobody else who knows.
func (c *cluster) teach(name string) {
	c.mu.Lock()
	known := maps.Clone(c.mu.known)
	newcomer := isNewcomer(c.mu.ids[name])
	c.mu.Unlock()
	if !newcomer {
		return
	}
	for other, incarnation := range known {
		c.sendTo(name, toGateway, &wireMessage{kind: wireKnown, text: other, seq: incarnation})
	}
}

// learn is told of a broker.
func (c *cluster) learn(name string, incarnation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.known[name] == 0 && name != c.broker.config.Name && slices.Contains(c.broker.members.names, name) {
		c.remember(name, incarnation)
	}
}

// tellStrangers tells brokers without their data so.
func (c *cluster) tellStrangers() {
	tell := make(map[string]uint64)
	now := c.now()
	c.mu.Lock()
	for name, incarnation := range c.mu.strangers {
		if !isNewcomer(incarnation) && now.Sub(c.mu.told[name]) >= strangerInterval {
			c.mu.told[name] = now
			tell[name] = incarnation
		}
	}
	c.mu.Unlock()
	for name, incarnation := range tell {
		c.sendTo(name, toGateway, &wireMessage{kind: wireStranger, seq: incarnation})
	}
}

// calledStranger is told that others know this broker with other data. If it has
// none it becomes a newcomer; if it has some, that is not its to give up.
func (c *cluster) calledStranger(from string, incarnation uint64) {
	b := c.broker
	if isNewcomer(b.members.id) || incarnation != b.members.incarnation(b.log.Identity()) {
		return
	}
	for id := range b.members.groups + 1 {
		if _, last, _ := b.log.Bounds(entry.GroupID(id)); last.Index > 0 {
			c.logger.Error("this broker's data are not those that another knows it by: it is kept out. Start it with its own, or with an empty directory",
				"known to", from, "data", b.config.Data)
			return
		}
	}
	if err := becomeNewcomer(b.config.Data); err != nil {
		b.fail(err)
		return
	}
	c.logger.Warn("this broker has lost its data", "known to", from)
	b.fail(ErrNewcomer)
}

// waitsOutside tells the operator of a newcomer that waits to be let in. Called
// before the groups' loops run.
func (b *Broker) waitsOutside() {
	if isNewcomer(b.members.id) && !b.topology.node.Members().Has(b.members.id) {
		b.logger.Warn("this broker has lost its data, and waits until it is let in as a new member",
			"by", "mirrormq replace "+b.config.Name+" --api URL of another broker")
	}
}

// awaitVote waits until a newcomer votes in all groups: until then the loss of
// another broker would be one too many.
func (b *Broker) awaitVote(ctx context.Context) error {
	if !isNewcomer(b.members.id) {
		return nil
	}
	return b.awaitMembers(ctx, b.config.Name, func(m replicate.Members) bool { return slices.Contains(m.Voters, b.members.id) })
}

// awaitMembers waits until the members of all groups that a broker has a copy of,
// and that are known here, are as wanted.
func (b *Broker) awaitMembers(ctx context.Context, name string, wanted func(replicate.Members) bool) error {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for _, e := range b.elections {
		if !b.members.has(name, e.group) {
			continue
		}
		for {
			is, err := onLoop(ctx, e.loop, func() bool { return wanted(e.node.Members()) })
			if err != nil {
				return fmt.Errorf("group %d: %w", e.group, err)
			}
			if is {
				break
			}
			<-ticker.C
		}
	}
	return nil
}

// admit lets strangers take part that are in the topology's members. Called on
// its loop.
func (c *cluster) admit(m replicate.Members) {
	var admitted []string
	c.mu.Lock()
	for name, id := range c.mu.strangers {
		if m.Has(id) {
			admitted = append(admitted, name)
			delete(c.mu.strangers, name)
			c.mu.up[name], c.mu.since[name] = true, c.now()
			c.remember(name, id)
		}
	}
	c.mu.Unlock()
	slices.Sort(admitted)
	for _, name := range admitted {
		c.logger.Warn("a broker that had lost its data takes part again, as a new member", "broker", name)
		c.takesPart(name)
	}
}

// takesPart tells all that a broker is there.
func (c *cluster) takesPart(name string) {
	c.teach(name)
	c.broker.topology.call(c.broker.topology.announce)
	now := c.now()
	for _, e := range c.broker.elections {
		e.loop.call(func() { e.elector.PeerUp(now, name) })
	}
	if w := c.broker.gateways[c.broker.members.volatileGroup(name)]; w != nil {
		w.leads(name, 1)
		w.again(name)
	}
}

// replace notes that an operator wants a newcomer in a broker's place.
func (c *cluster) replace(name string, by uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.replacing[name] = replacing{by, c.now().Add(replaceTime)}
}

// replaced calls fn for each newcomer that is there and has a broker's place: one
// that takes part, or that an operator has put there.
func (c *cluster) replaced(now time.Time, fn func(name string, by uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, id := range c.mu.ids {
		r := c.mu.replacing[name]
		if isNewcomer(id) && (c.mu.up[name] || r.by == id && now.Before(r.until)) {
			fn(name, id)
		}
	}
}

// Replace implements admin.Source. It returns when the newcomer is a member of
// all groups that it is to have and that are known here; that it has all data is seen later.
func (s source) Replace(ctx context.Context, name string) error {
	b := s.b
	if !b.ready.Load() {
		return errStarting
	}
	if b.cluster == nil || name == b.config.Name || !slices.Contains(b.members.names, name) {
		return fmt.Errorf("%w: there is no other broker %q", admin.ErrNotFound, name)
	}
	c := b.cluster
	c.mu.Lock()
	id := c.mu.ids[name]
	c.mu.Unlock()
	switch {
	case id == 0:
		return fmt.Errorf("%w: %s can't be reached: start it first, with an empty data directory", admin.ErrRefused, name)
	case !isNewcomer(id) && c.trusted(name):
		return fmt.Errorf("%w: %s has its data and takes part", admin.ErrRefused, name)
	case !isNewcomer(id):
		return fmt.Errorf("%w: %s has data of its own, or was started this moment", admin.ErrRefused, name)
	}
	for g, w := range inOrder(b.gateways) {
		if leader, _ := w.known(); leader == "" && g < entry.Volatile && b.members.has(name, g) {
			return fmt.Errorf("%w: group %d, which %s had a copy of, has no leader: its other copies have to be there first", admin.ErrRefused, g, name)
		}
	}
	c.logger.Warn("a broker is to be replaced by one without its data", "broker", name, "by", id)
	for _, other := range b.living() {
		if other == b.config.Name {
			c.replace(name, id)
		} else {
			c.sendTo(other, toGateway, &wireMessage{kind: wireReplace, text: name, seq: id})
		}
	}
	if err := b.awaitMembers(ctx, name, func(m replicate.Members) bool { return m.Has(id) }); err != nil {
		return fmt.Errorf("%s is not a member yet: a majority has to be there: %w", name, err)
	}
	return nil
}
