package backbone

import "sync/atomic"

// counters are of this broker's whole life.
type counters struct {
	sentFrames, sentBytes         atomic.Uint64
	receivedFrames, receivedBytes atomic.Uint64
	broken, reset, gaps           atomic.Uint64
	dropped, malformed            atomic.Uint64
}

// Status is what operators and metrics see.
type Status struct {
	Peers []PeerStatus
	// Data frames of links, with their headers, since the start. One publish
	// for several peers counts once.
	SentFrames, SentBytes, ReceivedFrames, ReceivedBytes uint64
	// Broken and Reset count calls of LinkBroken and LinkReset; Gaps the
	// numbers that we found missing.
	Broken, Reset, Gaps uint64
	// Dropped counts datagrams that found too many before them, Malformed the
	// frames that were not understood.
	Dropped, Malformed uint64
}

// PeerStatus is one peer with the links to it.
type PeerStatus struct {
	Name  string
	Up    bool
	Links [classes]LinkStatus // by Class
}

// LinkStatus is the sending end of a link.
type LinkStatus struct {
	Open bool
	// Waiting is what counts against the window: bytes, with 64 for each
	// message, that the peer has not consumed. InTransit are bytes written and
	// not arrived, Queued the frames behind them.
	Waiting, InTransit int64
	Queued             int
}

// Status is a snapshot. It takes each class's lock once a peer.
func (b *Backbone) Status() Status {
	s := Status{
		SentFrames: b.counters.sentFrames.Load(), SentBytes: b.counters.sentBytes.Load(),
		ReceivedFrames: b.counters.receivedFrames.Load(), ReceivedBytes: b.counters.receivedBytes.Load(),
		Broken: b.counters.broken.Load(), Reset: b.counters.reset.Load(), Gaps: b.counters.gaps.Load(),
		Dropped: b.counters.dropped.Load(), Malformed: b.counters.malformed.Load(),
	}
	for n, name := range b.names {
		if uint8(n) == b.self {
			continue
		}
		p := PeerStatus{Name: name, Up: b.epochs[n].Load() != 0}
		for c, conn := range b.conns {
			p.Links[c] = conn.out.status(uint8(n))
		}
		s.Peers = append(s.Peers, p)
	}
	return s
}

func (o *outgoing) status(n uint8) LinkStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := &o.mu.links[n]
	return LinkStatus{
		Open: l.state == linkOpen, Waiting: l.cost - l.consumed,
		InTransit: int64(l.sent - l.received), Queued: l.queue.len(),
	}
}
