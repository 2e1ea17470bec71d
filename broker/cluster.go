package broker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mirrormq/mirrormq/elect"
	"github.com/mirrormq/mirrormq/internal/backbone"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/replicate"
)

// carrier is what a cluster needs of the backbone.
type carrier interface {
	Send(c backbone.Class, to string, payload []byte) error
	Broadcast(c backbone.Class, payload []byte) error
	SendLink(c backbone.Class, to []string, payload ...[]byte) error
	Writable(c backbone.Class, to string, size int) bool
	Consumed(c backbone.Class, from string, bytes int)
	Reopen(c backbone.Class, to string)
	Leave(context.Context) error
	Close() error
}

// cluster joins this broker to the others: it carries what groups, electors
// and gateways say, and knows who is there.
type cluster struct {
	broker   *Broker
	backbone carrier
	logger   *slog.Logger
	beater   *elect.Beater
	gate     *elect.Gate
	history  *elect.History
	applied  *appliedAt
	catchup  *catchup // nil where mirrors that fell behind stay so
	queues   map[string]*peerQueue
	fetcher  *fetcher
	now      func() time.Time
	jitter   func() float64
	// starting is done once backbone is set: what the backbone calls waits for
	// it, since that may be before it is here.
	starting sync.WaitGroup

	mu struct {
		sync.Mutex
		up map[string]bool
		// since is when brokers came or went last.
		since map[string]time.Time
		newcomers
		// known are the incarnations of the brokers' data directories. One that
		// comes with another has lost its log, and its promises with it.
		known map[string]uint64
		// differs are those that were said to be set up otherwise.
		differs map[string]bool
		// refuse are brokers whose gateways have to be told to begin anew.
		refuse map[string]map[entry.GroupID]uint64
	}
}

// The first byte of a message between gateways and leaders.
const (
	toLeader  = 'L'
	toGateway = 'G'
)

// maxPromotions is how many promotions status remembers.
const maxPromotions = 100

// peersFile, in the data directory, has the incarnations of the other brokers.
const peersFile = "peers.json"

func newCluster(b *Broker) *cluster {
	c := &cluster{
		broker: b, logger: b.logger, beater: elect.NewBeater(elect.DefaultHang), gate: &elect.Gate{},
		history: elect.NewHistory(maxPromotions), applied: newAppliedAt(), now: time.Now, jitter: rand.Float64,
		queues: make(map[string]*peerQueue),
	}
	c.openPeerQueues()
	c.fetcher = newFetcher(c)
	c.mu.up, c.mu.newcomers = make(map[string]bool), makeNewcomers()
	c.mu.since = make(map[string]time.Time)
	c.mu.refuse = make(map[string]map[entry.GroupID]uint64)
	c.mu.known, c.mu.differs = make(map[string]uint64), make(map[string]bool)
	return c
}

func (b *Broker) openCluster() error {
	c := newCluster(b)
	content, err := os.ReadFile(filepath.Join(b.config.Data, peersFile))
	if err == nil {
		err = json.Unmarshal(content, &c.mu.known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", peersFile, err)
	}
	if c.catchup, err = newCatchup(c); err != nil {
		return err
	}
	b.cluster, b.doubt = c, newDoubt(time.Now)
	return nil
}

// start connects to the other brokers. The groups are open by now.
func (c *cluster) start() error {
	c.starting.Add(1)
	defer c.starting.Done()
	b := c.broker
	started, err := backbone.Start(backbone.Config{
		Name: b.config.Name, Incarnation: b.members.incarnation(b.log.Identity()), Peers: b.config.Cluster, Listen: b.config.Backbone,
		Secret: b.config.ClusterSecret, NATS: b.config.NATS, Handler: c,
		HoldBroken: []backbone.Class{backbone.Gateway}, MaxMessage: int(b.config.MaxMessageSize) + 64<<20,
		Window: gatewayWindow, Logger: b.logger,
	})
	if err != nil {
		return err
	}
	c.backbone = started
	return nil
}

// living are the brokers that can be reached, this one among them, in order.
func (b *Broker) living() []string {
	names := []string{b.config.Name}
	if b.cluster == nil {
		return names
	}
	b.cluster.mu.Lock()
	defer b.cluster.mu.Unlock()
	for name := range b.cluster.mu.up {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// run sends beats, and lets gateways try again, until the broker stops.
func (c *cluster) run() {
	ticker := time.NewTicker(elect.BeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.broker.doubt.beat()
			c.beat()
			c.refuseAgain()
			c.tellStrangers()
		case <-c.broker.context.Done():
			return
		}
	}
}

// beat tells all brokers which groups this one leads.
func (c *cluster) beat() {
	if datagram, any := c.beater.Make(c.now(), c.broker.oldestWrite(), nil); any {
		_ = c.backbone.Broadcast(backbone.Beats, datagram) // Lost ones are what beats are about.
	}
}

// Datagram takes beats and what electors say.
func (c *cluster) Datagram(_ backbone.Class, from string, payload []byte) {
	c.starting.Wait()
	if c.stranger(from) != 0 {
		return
	}
	now := c.now()
	var err error
	if elect.IsBeats(payload) {
		err = elect.ParseBeats(payload, func(beat elect.Beat) {
			c.elector(beat.Group, func(e *election) { e.elector.Beat(now, from, beat) })
			c.overhear(from, beat.Group, beat.Term)
		})
	} else {
		err = elect.ParseMessages(payload, func(m elect.Message) {
			c.elector(m.Group, func(e *election) { e.elector.Receive(now, from, m) })
			if m.Kind == elect.Leading && m.Promotion != nil && c.overhear(from, m.Group, m.Term) {
				m.Promotion.When = now
				c.promoted(*m.Promotion)
			}
		})
	}
	if err != nil {
		c.logger.Warn("malformed datagram", "from", from, "err", err)
	}
}

// elector runs f on the loop of a group's elector.
func (c *cluster) elector(g entry.GroupID, f func(*election)) {
	if e := c.broker.elections[g]; e != nil {
		e.loop.call(func() { f(e) })
	}
}

// Message takes raft's messages, and what gateways and leaders say.
func (c *cluster) Message(class backbone.Class, from string, payload []byte) {
	c.starting.Wait()
	consumed := func() { c.backbone.Consumed(class, from, len(payload)) }
	var err error
	switch {
	case len(payload) == 0:
		err = errWire
	case class == backbone.Replication:
		err = c.step(from, payload, consumed)
	case class == backbone.Transfer:
		err = c.catchup.receive(from, payload)
	case payload[0] == toLeader:
		err = c.attend(from, payload[1:], consumed)
	default:
		var m *wireMessage
		if m, err = parseWire(payload[1:]); err == nil {
			c.hear(from, m)
			consumed()
		}
	}
	if err != nil {
		c.logger.Error("malformed message", "from", from, "class", class.String(), "err", err)
		consumed()
	}
}

// hear takes what a leader, or any broker, says.
func (c *cluster) hear(from string, m *wireMessage) {
	switch m.kind {
	case wireApplied:
		c.applied.tell(from, m.seq)
		c.compare(from, int(m.n), int(m.m))
	case wireFetched:
		c.fetcher.take(from, m)
	case wireStranger:
		c.calledStranger(from, m.seq)
	case wireReplace:
		c.replace(m.text, m.seq)
	case wireKnown:
		c.learn(m.text, m.seq)
	default:
		if w := c.broker.gateways[m.group]; w != nil {
			w.receive(from, m)
		}
	}
}

// step hands a raft message to its group.
func (c *cluster) step(from string, payload []byte, consumed func()) error {
	id, n := binary.Uvarint(payload)
	if n <= 0 {
		return errWire
	}
	e := c.broker.elections[entry.GroupID(id)]
	if e == nil || !c.speaks(from) {
		consumed()
		return nil
	}
	m, err := replicate.ParseMessage(payload[n:], c.broker.members.id)
	if err != nil {
		return err
	}
	if m == nil {
		consumed()
		return nil
	}
	ok := e.loop.call(func() {
		if e.refuses(m) {
			consumed()
			return
		}
		if err := e.node.Step(m); err != nil {
			c.logger.Debug("raft message refused", "from", from, "err", err)
		}
		consumed()
	})
	if !ok {
		consumed()
	}
	return nil
}

// attend hands a gateway's message to the group that it is for.
func (c *cluster) attend(from string, payload []byte, consumed func()) error {
	m, err := parseWire(payload)
	if err != nil {
		return err
	}
	l, t := c.broker.attendance(m.group)
	if m.kind == wireFetch {
		c.fetcher.serve(from, m)
		t = nil
	}
	if t == nil {
		consumed()
		return nil
	}
	answer := func(m *wireMessage) bool { return c.answer(from, m) }
	ok := l.call(func() {
		t.receive(from, answer, m)
		consumed()
	})
	if !ok {
		consumed()
	}
	return nil
}

// answer sends a leader's message to a gateway. If it can't be sent the gateway
// has to begin anew: it is told so as soon as it can be.
func (c *cluster) answer(to string, m *wireMessage) bool {
	if c.sendTo(to, toGateway, m) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.refuse[to] == nil {
		c.mu.refuse[to] = make(map[entry.GroupID]uint64)
	}
	c.mu.refuse[to][m.group] = m.term
	return false
}

func (c *cluster) refuseAgain() {
	c.mu.Lock()
	refuse := c.mu.refuse
	c.mu.refuse = make(map[string]map[entry.GroupID]uint64)
	c.mu.Unlock()
	for _, to := range slices.Sorted(maps.Keys(refuse)) {
		for _, g := range slices.Sorted(maps.Keys(refuse[to])) {
			c.answer(to, &wireMessage{kind: wireRefused, group: g, term: refuse[to][g]})
		}
	}
}

// LinkReset says that messages from a broker are missing: its gateways and ours
// that it leads begin anew.
func (c *cluster) LinkReset(class backbone.Class, from string) {
	c.starting.Wait()
	switch class {
	case backbone.Gateway:
		c.suspend(from)
		c.fetcher.lost(from)
		c.anew(from)
	case backbone.Transfer:
		c.catchup.lost(from)
	}
}

// LinkBroken says that what was sent to a broker may be lost.
func (c *cluster) LinkBroken(class backbone.Class, to string) {
	c.starting.Wait()
	switch class {
	case backbone.Replication:
		for _, e := range c.broker.elections {
			e.unreachable(to)
		}
	case backbone.Transfer:
		c.catchup.lost(to)
	case backbone.Gateway:
		c.suspend(to)
		c.fetcher.lost(to)
		for _, w := range c.broker.gateways {
			w.broken(to)
		}
		c.queues[to].clear()
		c.backbone.Reopen(class, to)
		c.anew(to)
	}
}

// leave lets go of what a broker's gateways have here.
func (c *cluster) leave(name string) {
	c.broker.eachAttendance(func(l *loop, t *attendance) { l.call(func() { t.lost(name) }) })
}

// suspend gives a broker's gateways nothing more until they begin anew.
func (c *cluster) suspend(name string) {
	c.broker.eachAttendance(func(l *loop, t *attendance) { l.call(func() { t.broken(name) }) })
}

// anew has our gateways tell a broker everything again.
func (c *cluster) anew(name string) {
	for _, g := range slices.Sorted(maps.Keys(c.broker.gateways)) {
		w := c.broker.gateways[g]
		w.broken(name)
		w.again(name)
	}
}

// PeerUp says that a broker can be reached.
func (c *cluster) PeerUp(name string, incarnation uint64) {
	c.starting.Wait()
	c.mu.Lock()
	known := c.mu.known[name]
	if known == 0 && !isNewcomer(incarnation) {
		c.remember(name, incarnation)
	}
	trusted := known == 0 && !isNewcomer(incarnation) || sameData(known, incarnation)
	if trusted {
		c.mu.up[name] = true
		delete(c.mu.strangers, name)
	} else {
		delete(c.mu.up, name)
		c.mu.strangers[name] = incarnation
	}
	c.mu.ids[name] = incarnation
	c.mu.since[name] = c.now()
	c.mu.Unlock()
	if !trusted {
		c.logger.Error("a broker has come back without its data: it can't take part, since it has forgotten what it promised",
			"broker", name, "was", known, "is", incarnation, "to let it in", "mirrormq replace "+name)
		return
	}
	c.takesPart(name)
}

// trusted reports whether a broker can be reached and takes part.
func (c *cluster) trusted(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.up[name]
}

// PeerDown says that a broker can't be reached: what it held is given to
// others, what it led is led by another.
func (c *cluster) PeerDown(name string) {
	c.starting.Wait()
	c.mu.Lock()
	delete(c.mu.up, name)
	delete(c.mu.differs, name)
	delete(c.mu.refuse, name) // Its next gateways missed nothing.
	delete(c.mu.strangers, name)
	delete(c.mu.ids, name)
	c.mu.since[name] = c.now()
	c.mu.Unlock()
	now := c.now()
	for _, e := range c.broker.elections {
		e.loop.call(func() { e.elector.PeerDown(now, name) })
	}
	c.leave(name)
	for _, w := range c.broker.gateways {
		w.broken(name)
	}
	c.queues[name].clear()
	c.fetcher.lost(name)
	c.broker.spawn(func() { c.broker.bury(name) })
}

// transport carries a group's raft messages.
type transport struct {
	cluster   *cluster
	group     entry.GroupID
	scratch   []byte
	names     []string
	envelopes []replicate.Envelope
}

// Send implements replicate.Transport. An append that several mirrors need is
// encoded and published once.
func (t *transport) Send(messages []*raftpb.Message) {
	t.envelopes = replicate.Group(t.envelopes[:0], messages)
	for _, e := range t.envelopes {
		t.names = t.names[:0]
		for _, id := range e.To {
			if name := t.cluster.broker.members.name(id); name != "" && t.cluster.takes(name) {
				t.names = append(t.names, name)
			}
		}
		t.scratch = replicate.AppendMessageHead(binary.AppendUvarint(t.scratch[:0], uint64(t.group)), e.To, e.Message)
		pieces := [][]byte{t.scratch}
		for _, entry := range e.Message.GetEntries() {
			pieces = append(pieces, entry.GetData())
		}
		err := t.cluster.backbone.SendLink(backbone.Replication, t.names, pieces...)
		var failed *backbone.SendError
		if errors.As(err, &failed) {
			t.unreachable(failed)
		}
	}
	clear(t.envelopes)
}

// unreachable tells raft whom a message did not reach, once it is out of the
// call that sends.
func (t *transport) unreachable(failed *backbone.SendError) {
	for _, r := range failed.Refusals {
		t.cluster.broker.elections[t.group].unreachable(r.To)
	}
}
