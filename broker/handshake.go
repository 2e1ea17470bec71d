package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/topology"
)

// handshakeFrameMax bounds frames until the limit is agreed on (AMQP 0-9-1,
// section 4.2.3: peers must accept frames of 4096 octets before).
const handshakeFrameMax = 4096

// session is what a client and the broker settled when the connection opened.
type session struct {
	user, vhost string
	mechanism   string
	properties  amqp.Table // the client's
	channelMax  uint16
	frameMax    uint32
	heartbeat   time.Duration
	tls         *tls.ConnectionState // nil without TLS
	can         capabilities
}

// capabilities are what a client says that it understands.
type capabilities struct {
	blocked      bool // connection.blocked
	cancelNotify bool // consumer_cancel_notify
	authFailure  bool // authentication_failure_close
}

func clientCapabilities(properties amqp.Table) capabilities {
	table, _ := properties["capabilities"].(amqp.Table)
	is := func(name string) bool {
		yes, _ := table[name].(bool)
		return yes
	}
	return capabilities{is("connection.blocked"), is("consumer_cancel_notify"), is("authentication_failure_close")}
}

// clientName is what the client calls itself, for the log.
func (s *session) clientName() string {
	for _, key := range []string{"connection_name", "product"} {
		if name, ok := s.properties[key].(string); ok {
			return name
		}
	}
	return ""
}

// compatibleVersion is the RabbitMQ whose behaviour clients can expect.
const compatibleVersion = "3.13.7"

// serverProperties are what connection.start says. Clients look for the
// capabilities, and some for the product and the version.
func serverProperties(c frontConfig) amqp.Table {
	return amqp.Table{
		"capabilities": amqp.Table{
			"publisher_confirms":           true,
			"exchange_exchange_bindings":   true,
			"basic.nack":                   true,
			"consumer_cancel_notify":       true,
			"connection.blocked":           true,
			"consumer_priorities":          true,
			"authentication_failure_close": true,
			"per_consumer_qos":             true,
			"direct_reply_to":              true,
		},
		"cluster_name": c.name,
		// Clients choose by product and version how they behave: kombu, for
		// one, takes prefetch as shared by the connection for any other.
		"product":          "RabbitMQ",
		"version":          compatibleVersion,
		"broker":           "MirrorMQ",
		"mirrormq_version": c.version,
		"platform":         runtime.Version(),
		"copyright":        "MirrorMQ contributors",
		"information":      "Licensed under the Apache License 2.0",
	}
}

// handshake takes the connection from the protocol header to open-ok. Until it
// returns only the calling goroutine uses the socket. Whatever goes wrong, the
// client has been told what RabbitMQ would tell it.
func (c *conn) handshake(ctx context.Context) error {
	c.socket.SetDeadline(time.Now().Add(c.front.config.handshakeTimeout))
	if secure, ok := c.socket.(*tls.Conn); ok {
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		state := secure.ConnectionState()
		c.session.tls = &state
	}
	if err := c.reader.ProtocolHeader(); err != nil {
		if errors.Is(err, amqp.ErrProtocolHeader) {
			c.socket.Write([]byte(amqp.ProtocolHeader))
			c.linger()
		}
		return err
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	if err := c.tune(); err != nil {
		return err
	}
	if err := c.open(); err != nil {
		return err
	}
	return c.socket.SetDeadline(time.Time{})
}

// tell writes a method on channel 0.
func (c *conn) tell(m amqp.Method) error {
	frame := amqp.AppendMethod(nil, 0, m)
	c.sent.Add(uint64(len(frame)))
	_, err := c.socket.Write(frame)
	return err
}

// expect reads a method on channel 0 into m.
func (c *conn) expect(m amqp.Method) error {
	for {
		frame, err := c.reader.Next()
		if err != nil {
			return err
		}
		c.received.Add(uint64(len(frame.Payload) + frameHead + 1))
		if frame.Type == amqp.FrameHeartbeat {
			continue
		}
		id, arguments, err := amqp.CutMethod(frame.Payload)
		if err != nil {
			return err
		}
		if frame.Type != amqp.FrameMethod || frame.Channel != 0 || id != m.ID() {
			return fmt.Errorf("expected %v, got frame type %d on channel %d, method %v", m.ID(), frame.Type, frame.Channel, id)
		}
		return m.Parse(arguments)
	}
}

// refuse tells the client why the connection is closed, and returns that.
func (c *conn) refuse(e *amqp.Error) error {
	if err := c.tell(e.ConnectionClose()); err != nil {
		return e
	}
	c.linger()
	return e
}

// linger lets the client read what was written: closing a socket with unread
// input resets it, and what was on its way is lost.
func (c *conn) linger() {
	c.socket.SetReadDeadline(time.Now().Add(closeTimeout))
	if tcp, ok := c.socket.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	var sink [512]byte
	for total := 0; total < handshakeFrameMax; {
		n, err := c.socket.Read(sink[:])
		if err != nil {
			return
		}
		total += n
	}
}

func (c *conn) authenticate() error {
	start := &amqp.ConnectionStart{
		VersionMajor: 0, VersionMinor: 9, ServerProperties: c.front.properties,
		Mechanisms: mechanisms, Locales: "en_US",
	}
	if err := c.tell(start); err != nil {
		return err
	}
	var ok amqp.ConnectionStartOk
	if err := c.expect(&ok); err != nil {
		return err
	}
	s := &c.session
	s.properties, s.mechanism, s.can = ok.ClientProperties, ok.Mechanism, clientCapabilities(ok.ClientProperties)
	user, password, known, err := credentials(ok.Mechanism, ok.Response)
	switch {
	case !known:
		return fmt.Errorf("unknown authentication mechanism %q", ok.Mechanism)
	case err != nil:
		return fmt.Errorf("%s: %w", ok.Mechanism, err)
	}
	if err := c.front.core.authenticate(user, password, c.socket.RemoteAddr()); err != nil {
		if s.can.authFailure {
			c.refuse(amqp.AccessRefused("Login was refused using authentication mechanism %s. For details see the broker logfile.", ok.Mechanism).OnConnection())
		}
		return fmt.Errorf("user %q: %w", user, err)
	}
	s.user, c.user = user, user
	return nil
}

func (c *conn) tune() error {
	config := c.front.config
	offer := &amqp.ConnectionTune{
		ChannelMax: config.channelMax, FrameMax: config.frameMax,
		Heartbeat: uint16(config.heartbeat / time.Second),
	}
	if err := c.tell(offer); err != nil {
		return err
	}
	var ok amqp.ConnectionTuneOk
	if err := c.expect(&ok); err != nil {
		return err
	}
	var refusal *amqp.Error
	c.session.channelMax, c.session.frameMax, refusal = negotiate(offer, &ok)
	if refusal != nil {
		return c.refuse(refusal)
	}
	c.session.heartbeat = time.Duration(ok.Heartbeat) * time.Second
	c.frameMax = c.session.frameMax
	c.reader.SetMaxFrame(c.frameMax)
	return nil
}

// negotiate returns the limits that both sides keep. A client's 0 means that
// it has no limit of its own. The heartbeat is what the client says.
func negotiate(offer *amqp.ConnectionTune, ok *amqp.ConnectionTuneOk) (channelMax uint16, frameMax uint32, refusal *amqp.Error) {
	channelMax, frameMax = ok.ChannelMax, ok.FrameMax
	if channelMax == 0 {
		channelMax = offer.ChannelMax
	}
	if frameMax == 0 {
		frameMax = offer.FrameMax
	}
	const refused = "negotiated %s = %d is %s than the %s allowed value (%d)"
	switch {
	case channelMax > offer.ChannelMax:
		refusal = amqp.NotAllowed(refused, "channel_max", channelMax, "higher", "maximum", offer.ChannelMax)
	case frameMax > offer.FrameMax:
		refusal = amqp.NotAllowed(refused, "frame_max", frameMax, "higher", "maximum", offer.FrameMax)
	case frameMax < minFrameMax:
		refusal = amqp.NotAllowed(refused, "frame_max", frameMax, "lower", "minimum", minFrameMax)
	}
	return channelMax, frameMax, refusal
}

func (c *conn) open() error {
	var open amqp.ConnectionOpen
	if err := c.expect(&open); err != nil {
		return err
	}
	s := &c.session
	s.vhost = open.VirtualHost
	var refusal *amqp.Error
	c.front.core.view(func(state *topology.State) { refusal = state.CheckVhost(s.user, s.vhost) })
	if refusal != nil {
		return c.refuse(refusal.At(amqp.IDConnectionOpen))
	}
	c.vhost = s.vhost
	// It is listed before open-ok, so that a client sees its own connection.
	if refusal := c.front.connections.add(c); refusal != nil {
		return c.refuse(refusal.At(amqp.IDConnectionOpen))
	}
	if err := c.tell(&amqp.ConnectionOpenOk{}); err != nil {
		c.front.connections.remove(c)
		return err
	}
	return nil
}

// impersonator reports whether the user may set another's user_id.
func (c *conn) impersonator() (yes bool) {
	c.front.core.view(func(s *topology.State) {
		if u := s.User(c.user); u != nil {
			yes = slices.Contains(u.Tags, "impersonator")
		}
	})
	return yes
}
