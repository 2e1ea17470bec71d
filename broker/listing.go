package broker

import (
	"crypto/tls"
	"fmt"
	"net"

	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/entry"
)

// The connections, channels and consumers as the HTTP side shows them. Each
// connection's mutex is taken for a moment; nothing waits.

// listConnections returns all open connections.
func (f *front) listConnections() []admin.Connection {
	connections := f.connections.list()
	list := make([]admin.Connection, len(connections))
	for i, c := range connections {
		list[i] = c.describe()
	}
	return list
}

func (c *conn) describe() admin.Connection {
	s := &c.session
	d := admin.Connection{
		Name: c.name, Vhost: s.vhost, User: s.user, AuthMechanism: s.mechanism, State: c.out.blockState(),
		ConnectedAt: c.started, Heartbeat: s.heartbeat, FrameMax: s.frameMax, ChannelMax: int(s.channelMax),
		Channels: int(c.channelCount.Load() - c.closedChannels.Load()), ClientProperties: s.properties,
		BytesIn: c.received.Load(), BytesOut: c.sent.Load(),
	}
	if c.state.Load() != connRunning {
		d.State = "closing"
	}
	d.Host, d.Port = hostPort(c.socket.LocalAddr())
	d.PeerHost, d.PeerPort = hostPort(c.socket.RemoteAddr())
	if s.tls != nil {
		d.TLSVersion, d.TLSCipher = tls.VersionName(s.tls.Version), tls.CipherSuiteName(s.tls.CipherSuite)
		if len(s.tls.PeerCertificates) > 0 {
			d.PeerCertificate = s.tls.PeerCertificates[0].Subject.String()
		}
	}
	return d
}

func hostPort(address net.Addr) (string, int) {
	if tcp, ok := address.(*net.TCPAddr); ok {
		return tcp.IP.String(), tcp.Port
	}
	return address.String(), 0
}

// ownerName is the name of the connection with an id, the owner of an exclusive
// queue; the id itself where the connection isn't here.
func (f *front) ownerName(id string) string {
	if id == "" {
		return ""
	}
	for _, c := range f.connections.list() {
		if c.id == id {
			return c.name
		}
	}
	return id
}

// listChannels returns the open channels of all connections.
func (f *front) listChannels() []admin.Channel {
	var list []admin.Channel
	for _, c := range f.connections.list() {
		for _, ch := range c.openChannels() {
			list = append(list, ch.describe())
		}
	}
	return list
}

// openChannels returns the connection's open channels. Safe from any goroutine.
func (c *conn) openChannels() []*channel {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	list := make([]*channel, 0, len(c.listed))
	for ch := range c.listed {
		list = append(list, ch)
	}
	return list
}

func (ch *channel) describe() admin.Channel {
	c := ch.conn
	d := admin.Channel{
		Name: fmt.Sprintf("%s (%d)", c.name, ch.number), Number: int(ch.number), Connection: c.name,
		Vhost: c.vhost, User: c.user, State: "running", Prefetch: ch.prefetch.Load(),
		GlobalPrefetch: ch.shared.Load(), Unacked: uint64(ch.unacked.len()),
	}
	switch ch.mode.Load() {
	case modeConfirm:
		d.Confirm = true
	case modeTx:
		d.Transactional = true
	}
	d.PeerHost, d.PeerPort = hostPort(c.socket.RemoteAddr())
	c.out.mu.Lock()
	d.Consumers = len(ch.tags)
	settled := ch.confirms.settled
	c.out.mu.Unlock()
	// Read after what is settled, so that it is never below it.
	d.Unconfirmed = ch.published.Load() - settled
	return d
}

// consumersOf returns the consumers of a queue on this broker's connections.
// O(all consumers).
func (f *front) consumersOf(q entry.QueueID) []admin.Consumer {
	var list []admin.Consumer
	for _, c := range f.connections.list() {
		c.out.mu.Lock()
		for _, s := range c.subscribers {
			if s.queue.ID == q {
				list = append(list, s.describe())
			}
		}
		c.out.mu.Unlock()
	}
	return list
}

func (s *subscriber) describe() admin.Consumer {
	c := s.channel.conn
	d := admin.Consumer{
		Tag: s.tag, Channel: fmt.Sprintf("%s (%d)", c.name, s.channel.number), ChannelNumber: int(s.channel.number),
		Connection: c.name, User: c.user, NoAck: s.noAck, Exclusive: s.exclusive, Prefetch: s.prefetch,
		Arguments: s.arguments,
	}
	d.PeerHost, d.PeerPort = hostPort(c.socket.RemoteAddr())
	return d
}

// count adds what the front knows to a broker's totals.
func (f *front) count(t *admin.Totals) {
	n := &f.counts
	t.Publish, t.Confirm = n.published.Load(), n.confirmed.Load()
	t.ReturnUnroutable, t.DropUnroutable = n.returned.Load(), n.dropped.Load()
	t.Deliver, t.DeliverNoAck, t.Redeliver = n.delivered.Load(), n.deliveredNoAck.Load(), n.redelivered.Load()
	t.Get, t.GetNoAck, t.GetEmpty = n.got.Load(), n.gotNoAck.Load(), n.gotNothing.Load()
	t.ConnectionsOpened, t.ConnectionsClosed = n.opened.Load(), n.closed.Load()
	t.ChannelsOpened, t.ChannelsClosed = n.channelsOpened.Load(), n.channelsClosed.Load()
	t.QueuesDeclared = n.queuesDeclared.Load()
	for _, c := range f.connections.list() {
		t.Connections++
		c.out.mu.Lock()
		t.Channels += len(c.listed)
		t.Consumers += len(c.subscribers)
		c.out.mu.Unlock()
	}
}
