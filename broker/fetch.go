package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
)

const (
	// fetchSlots is how many fetches a broker has on their way, and how many it
	// serves at a time: what bounds the memory that they take.
	fetchSlots = 8
	// fetchBatch bounds the bodies that are asked for at a time, but for one that
	// is larger.
	fetchBatch = 1 << 20
	// fetchPiece is how much of the bodies comes in one message.
	fetchPiece = 512 << 10
	// fetchPatience is how long nothing may come before another broker is asked,
	// and fetchTime how long it is tried at all.
	fetchPatience = time.Second
	fetchTime     = 20 * time.Second
	// roomPoll is how often it is looked whether a busy link has room for more.
	roomPoll = 2 * time.Millisecond
)

var errNoBody = errors.New("broker: no broker that has the message gave it in time")

// fetcher gets bodies of messages from brokers that have them, for groups that
// this broker has no copy of. All that have the group will do, the leader or not.
type fetcher struct {
	cluster *cluster
	asking  chan struct{}
	serving chan struct{}
	mu      struct {
		sync.Mutex
		calls map[uint64]*fetchCall
		next  uint64
	}
}

// fetchCall is a fetch that one broker was asked for.
type fetchCall struct {
	from  string
	bytes []byte // all bodies, one behind the other
	have  int
	// moved has a token when something came or it ended; done and err are read
	// with the fetcher's mu held.
	moved chan struct{}
	done  bool
	err   error
}

func newFetcher(c *cluster) *fetcher {
	f := &fetcher{cluster: c, asking: make(chan struct{}, fetchSlots), serving: make(chan struct{}, fetchSlots)}
	f.mu.calls = make(map[uint64]*fetchCall)
	return f
}

// fetch returns the bodies of messages of a group, in their order. It waits
// until ctx ends.
//
// Errors: ErrNotFound of the log where one of the messages is gone, errNoBody.
func (f *fetcher) fetch(ctx context.Context, g entry.GroupID, refs []entry.Ref) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	select {
	case f.asking <- struct{}{}:
		defer func() { <-f.asking }()
	case <-ctx.Done():
		return nil, errNoBody
	}
	var err error
	for try := 0; ctx.Err() == nil; try++ {
		from := f.source(g, try)
		if from == "" {
			pause(ctx, fetchPatience/10)
			continue
		}
		var bodies [][]byte
		if bodies, err = f.ask(ctx, from, g, refs); err == nil || errors.Is(err, log.ErrNotFound) {
			return bodies, err
		}
		f.cluster.logger.Debug("fetching messages from another broker", "group", g, "not from", from, "err", err)
		pause(ctx, fetchPatience/100)
	}
	return nil, fmt.Errorf("%w: %w", errNoBody, cmp.Or(err, ctx.Err()))
}

// source is whom to ask at that try: the leader first; "" for nobody.
func (f *fetcher) source(g entry.GroupID, try int) string {
	b := f.cluster.broker
	living := b.living()
	var sources []string
	leader := b.gateways[g].leader()
	for _, name := range b.members.of(g) {
		if name == b.config.Name || !slices.Contains(living, name) {
			continue
		}
		if name == leader {
			sources = slices.Insert(sources, 0, name)
		} else {
			sources = append(sources, name)
		}
	}
	if len(sources) == 0 {
		return ""
	}
	return sources[try%len(sources)]
}

// pause waits for that long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// ask fetches from one broker.
func (f *fetcher) ask(ctx context.Context, from string, g entry.GroupID, refs []entry.Ref) ([][]byte, error) {
	m := &wireMessage{kind: wireFetch, group: g}
	total := 0
	for _, ref := range refs {
		m.numbers = append(m.numbers, ref.Index, uint64(ref.Offset), uint64(ref.Size))
		total += int(ref.Size)
	}
	c := &fetchCall{from: from, bytes: make([]byte, total), moved: make(chan struct{}, 1)}
	f.mu.Lock()
	f.mu.next++
	m.call = f.mu.next
	f.mu.calls[m.call] = c
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.mu.calls, m.call)
		f.mu.Unlock()
	}()
	if !f.cluster.sendTo(from, toLeader, m) {
		return nil, errLinkBroken
	}
	timer := time.NewTimer(fetchPatience)
	defer timer.Stop()
	for {
		select {
		case <-c.moved:
			timer.Reset(fetchPatience)
		case <-timer.C:
			return nil, errNoBody
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		f.mu.Lock()
		done, err := c.done, c.err
		f.mu.Unlock()
		if done {
			return cutBodies(c.bytes, refs), err
		}
	}
}

// errLinkBroken says that a link is of no use just now.
var errLinkBroken = errors.New("broker: the link is broken")

func cutBodies(bytes []byte, refs []entry.Ref) (bodies [][]byte) {
	for _, ref := range refs {
		bodies = append(bodies, bytes[:ref.Size:ref.Size])
		bytes = bytes[ref.Size:]
	}
	return bodies
}

// take takes what a broker answers: a piece, n bytes from the beginning, or an
// error.
func (f *fetcher) take(from string, m *wireMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.mu.calls[m.call]
	if c == nil || c.from != from || c.done {
		return
	}
	switch {
	case m.code == replyEmpty:
		c.done, c.err = true, fmt.Errorf("%s: %w", from, log.ErrNotFound)
	case m.code != replyOK:
		c.done, c.err = true, remoteError(m.text)
	case m.n != uint64(c.have) || len(m.ops) > len(c.bytes)-c.have:
		c.done, c.err = true, errLinkBroken // A piece is missing.
	default:
		c.have += copy(c.bytes[c.have:], m.ops)
		c.done = c.have == len(c.bytes)
	}
	select {
	case c.moved <- struct{}{}:
	default:
	}
}

// lost ends what was asked of a broker: it may never come.
func (f *fetcher) lost(from string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.mu.calls {
		if c.from != from || c.done {
			continue
		}
		c.done, c.err = true, errLinkBroken
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
}

// serve answers a fetch of another broker, on a goroutine of its own: it reads
// the disk, and waits for the link.
func (f *fetcher) serve(to string, m *wireMessage) {
	b := f.cluster.broker
	b.spawn(func() {
		select {
		case f.serving <- struct{}{}:
			defer func() { <-f.serving }()
		case <-b.context.Done():
			return
		}
		if err := f.give(to, m); err != nil {
			r := &wireMessage{kind: wireFetched, group: m.group, call: m.call, code: replyFailed, text: err.Error()}
			if errors.Is(err, log.ErrNotFound) {
				r.code = replyEmpty
			}
			f.cluster.sendTo(to, toGateway, r)
		}
	})
}

// give sends the bodies that a broker asks for, in pieces.
func (f *fetcher) give(to string, m *wireMessage) error {
	b := f.cluster.broker
	reader := b.contents(b.context)
	var piece []byte
	sent := 0
	send := func() error {
		for !f.cluster.room(to, len(piece)) {
			if !f.cluster.trusted(to) || b.context.Err() != nil {
				return errLinkBroken
			}
			pause(b.context, roomPoll)
		}
		if !f.cluster.sendTo(to, toGateway, &wireMessage{kind: wireFetched, group: m.group, call: m.call, n: uint64(sent), ops: piece}) {
			return errLinkBroken
		}
		sent += len(piece)
		piece = piece[:0]
		return nil
	}
	for numbers := range slices.Chunk(m.numbers, 3) {
		if len(numbers) < 3 {
			return errWire
		}
		body, err := reader.stored(m.group, entry.Ref{Index: numbers[0], Offset: uint32(numbers[1]), Size: uint32(numbers[2])})
		if err != nil {
			return err
		}
		for len(body) > 0 {
			n := min(len(body), fetchPiece-len(piece))
			piece = append(piece, body[:n]...)
			body = body[n:]
			if len(piece) == fetchPiece {
				if err := send(); err != nil {
					return err
				}
			}
		}
	}
	if len(piece) > 0 {
		return send()
	}
	return nil
}
