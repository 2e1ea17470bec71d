package backbone

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// conn is one class's connection to NATS, with its links.
type conn struct {
	class Class
	b     *Backbone
	w     *writer
	out   *outgoing
	in    *incoming
	nc    *nats.Conn
}

func newConn(b *Backbone, class Class) *conn {
	c := &conn{class: class, b: b}
	hold := false
	for _, held := range b.config.HoldBroken {
		hold = hold || held == class
	}
	c.w = newWriter(c.publish)
	c.out = newOutgoing(b, class, c.w, hold)
	c.in = newIncoming(b, class, c.w)
	return c
}

// connect makes the connection and subscribes. embedded is nil for external
// servers; these may be absent for now.
func (c *conn) connect(embedded *server.Server, options *server.Options) error {
	config := c.b.config
	o := []nats.Option{
		nats.Name("mirrormq " + config.Name + " " + c.class.String()),
		nats.NoEcho(), nats.SkipSubjectValidation(),
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(20*time.Millisecond, 20*time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err) }),
		nats.ConnectHandler(c.connected), nats.ReconnectHandler(c.connected),
		nats.ErrorHandler(c.failed),
	}
	target := config.NATS
	if embedded != nil {
		target = ""
		user := options.Users[c.class]
		o = append(o, nats.InProcessServer(embedded), nats.UserInfo(user.Username, user.Password))
	} else {
		o = append(o, nats.RetryOnFailedConnect(true), nats.Timeout(time.Second),
			nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
		if config.TLS.used() {
			t, err := config.TLS.config()
			if err != nil {
				return err
			}
			o = append(o, nats.Secure(t))
		}
	}
	nc, err := nats.Connect(target, o...)
	if err != nil {
		return fmt.Errorf("backbone: connect %s: %w", c.class, err)
	}
	c.nc = nc
	c.connected(nc)
	if err := c.subscribe(); err != nil {
		nc.Close()
		return fmt.Errorf("backbone: subscribe %s: %w", c.class, err)
	}
	return nil
}

// subscribe takes what is for us and what nobody took from us.
func (c *conn) subscribe() error {
	config := c.b.config
	sub, err := c.nc.Subscribe(c.b.ourSubject(c.class), c.receive)
	if err != nil {
		return err
	}
	// NATS drops silently beyond this. Transit keeps each peer's link below it
	// and datagrams have their own bound; a drop is found as a gap.
	limit := (config.Transit + 2*config.MaxPayload + maxGramBytes) * max(1, len(c.b.names)-1)
	if err := sub.SetPendingLimits(-1, limit); err != nil {
		return err
	}
	_, err = c.nc.Subscribe(c.b.nobodySubject(c.class), c.unheard)
	return err
}

// publish is called on the writer's goroutine.
func (c *conn) publish(i item) {
	var err error
	if i.reply != "" {
		err = c.nc.PublishRequest(i.subject, i.reply, i.bytes)
	} else {
		err = c.nc.Publish(i.subject, i.bytes)
	}
	if i.frame == nil {
		return
	}
	if err == nil {
		c.b.counters.sentBytes.Add(uint64(len(i.bytes)))
		c.b.counters.sentFrames.Add(1)
		return
	}
	d, _, malformed := parseData(i.bytes[headSize:])
	if malformed != nil {
		panic(fmt.Sprintf("backbone: own frame of %d bytes is malformed", len(i.bytes)))
	}
	for b := d.targets; len(b) > 0; b = b[targetSize:] {
		c.out.lost(b[0], binary.LittleEndian.Uint32(b[1:]), "publish: "+err.Error())
	}
}

// receive is called by NATS for each message, on one goroutine.
func (c *conn) receive(m *nats.Msg) {
	if !c.b.enter() {
		return
	}
	defer c.b.exit()
	c.receiveFrame(m.Data)
}

// receiveFrame acts on one frame, which it may keep.
func (c *conn) receiveFrame(b []byte) {
	h, rest, err := parseHead(b)
	if err != nil || int(h.sender) >= len(c.b.names) || h.sender == c.b.self {
		c.b.counters.malformed.Add(1)
		return
	}
	switch h.kind {
	case kindHello, kindLeave, kindLeft:
		c.receiveMember(h, rest)
	case kindGram:
		if c.b.epochs[h.sender].Load() == h.epoch {
			c.b.config.Handler.Datagram(c.class, c.b.names[h.sender], rest)
		}
	case kindData:
		if c.b.epochs[h.sender].Load() == h.epoch {
			c.b.counters.receivedBytes.Add(uint64(len(b)))
			c.b.counters.receivedFrames.Add(1)
			c.in.data(h.sender, h.epoch, rest)
		}
	default:
		c.receiveLink(h, rest)
	}
}

func (c *conn) receiveMember(h head, rest []byte) {
	v, err := parseControl(h.kind, rest)
	if err != nil || c.class != Beats {
		c.b.malformed(c.class, h.sender)
		return
	}
	e := event{peer: h.sender, epoch: h.epoch, incarnation: v.incarnation, heard: v.heard}
	switch h.kind {
	case kindLeave:
		e.kind = eventLeave
	case kindLeft:
		if v.yours != c.b.epoch {
			return
		}
		e.kind = eventLeft
	}
	c.b.members.post(e)
}

// receiveLink takes a link's control frames, which are for one life of ours
// and come from one of theirs.
func (c *conn) receiveLink(h head, rest []byte) {
	v, err := parseControl(h.kind, rest)
	if err != nil {
		c.b.malformed(c.class, h.sender)
		return
	}
	if v.yours != c.b.epoch || c.b.epochs[h.sender].Load() != h.epoch {
		return
	}
	switch h.kind {
	case kindOpen:
		c.in.open(h.sender, h.epoch, v.life)
	case kindProbe:
		c.in.probe(h.sender, h.epoch, v)
	case kindAck:
		c.out.ack(h.sender, h.epoch, v, time.Now())
	case kindGap:
		c.out.lost(h.sender, v.life, "the receiver misses some")
	}
}

// unheard is called when nobody was there to get a message that asked for it.
// The reply subject's last token says whom it was for.
func (c *conn) unheard(m *nats.Msg) {
	if !c.b.enter() {
		return
	}
	defer c.b.exit()
	if len(m.Data) != 0 || m.Header.Get("Status") != "503" {
		return
	}
	n, ok := parseNumber(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	if !ok || int(n) >= len(c.b.names) {
		return
	}
	c.out.lost(n, 0, "nobody listens")
	if c.class == Beats {
		c.b.members.post(event{kind: eventUnreachable, peer: n})
	}
}

// connected learns how large a frame may be: an external server decides.
func (c *conn) connected(nc *nats.Conn) {
	if limit := nc.MaxPayload(); limit > 0 {
		c.b.serverPayload.Store(limit)
	}
}

func (c *conn) disconnected(err error) {
	if !c.b.enter() {
		return
	}
	defer c.b.exit()
	c.b.config.Logger.Warn("lost the connection to NATS", "class", c.class.String(), "err", err)
	c.out.lostAll("the connection to NATS is lost")
}

// failed is told of asynchronous errors, above all of messages that NATS
// dropped because we were slow. The gap in a link's numbers tells the rest.
func (c *conn) failed(_ *nats.Conn, _ *nats.Subscription, err error) {
	c.b.config.Logger.Warn("NATS reports an error", "class", c.class.String(), "err", err)
}
