package admin

import "fmt"

type connectionView struct {
	Name             string         `json:"name"`
	UserName         string         `json:"user_provided_name,omitempty"`
	Vhost            string         `json:"vhost"`
	User             string         `json:"user"`
	Node             string         `json:"node"`
	State            string         `json:"state"`
	Type             string         `json:"type"`
	Protocol         string         `json:"protocol"`
	AuthMechanism    string         `json:"auth_mechanism"`
	Host             string         `json:"host"`
	Port             int            `json:"port"`
	PeerHost         string         `json:"peer_host"`
	PeerPort         int            `json:"peer_port"`
	TLS              bool           `json:"ssl"`
	TLSVersion       *string        `json:"ssl_protocol"`
	TLSCipher        *string        `json:"ssl_cipher"`
	PeerCertificate  *string        `json:"peer_cert_subject"`
	ConnectedAt      int64          `json:"connected_at"` // ms since 1970
	Timeout          int64          `json:"timeout"`      // heartbeat in seconds
	FrameMax         uint32         `json:"frame_max"`
	ChannelMax       int            `json:"channel_max"`
	Channels         int            `json:"channels"`
	ClientProperties map[string]any `json:"client_properties"`
	BytesIn          uint64         `json:"recv_oct"`
	BytesInDetails   details        `json:"recv_oct_details"`
	FramesIn         uint64         `json:"recv_cnt"`
	BytesOut         uint64         `json:"send_oct"`
	BytesOutDetails  details        `json:"send_oct_details"`
	FramesOut        uint64         `json:"send_cnt"`
}

func (s *Server) connectionView(c *Connection) connectionView {
	r := s.rates.connection(c.Name)
	v := connectionView{
		Name: c.Name, Vhost: c.Vhost, User: c.User, Node: s.config.Source.Node().Name, State: c.State,
		Type: "network", Protocol: "AMQP 0-9-1", AuthMechanism: c.AuthMechanism,
		Host: c.Host, Port: c.Port, PeerHost: c.PeerHost, PeerPort: c.PeerPort,
		TLS: c.TLSVersion != "", TLSVersion: orNull(c.TLSVersion), TLSCipher: orNull(c.TLSCipher),
		PeerCertificate: orNull(c.PeerCertificate),
		ConnectedAt:     c.ConnectedAt.UnixMilli(), Timeout: int64(c.Heartbeat.Seconds()),
		FrameMax: c.FrameMax, ChannelMax: c.ChannelMax, Channels: c.Channels,
		ClientProperties: jsonTable(c.ClientProperties),
		BytesIn:          c.BytesIn, BytesInDetails: details{r.of(func(t *traffic) uint64 { return t.in })}, FramesIn: c.FramesIn,
		BytesOut: c.BytesOut, BytesOutDetails: details{r.of(func(t *traffic) uint64 { return t.out })}, FramesOut: c.FramesOut,
	}
	if name, ok := v.ClientProperties["connection_name"]; ok {
		v.UserName = fmt.Sprint(name)
	}
	return v
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

type channelView struct {
	Name           string                `json:"name"`
	Number         int                   `json:"number"`
	Vhost          string                `json:"vhost"`
	User           string                `json:"user"`
	Node           string                `json:"node"`
	State          string                `json:"state"`
	Confirm        bool                  `json:"confirm"`
	Transactional  bool                  `json:"transactional"`
	Prefetch       uint32                `json:"prefetch_count"`
	GlobalPrefetch uint32                `json:"global_prefetch_count"`
	Consumers      int                   `json:"consumer_count"`
	Unacked        uint64                `json:"messages_unacknowledged"`
	Unconfirmed    uint64                `json:"messages_unconfirmed"`
	Uncommitted    uint64                `json:"messages_uncommitted"`
	AcksPending    uint64                `json:"acks_uncommitted"`
	IdleSince      *string               `json:"idle_since,omitempty"`
	MessageStats   messageStats          `json:"message_stats"`
	Connection     connectionDetailsView `json:"connection_details"`
}

type connectionDetailsView struct {
	Name     string `json:"name"`
	PeerHost string `json:"peer_host"`
	PeerPort int    `json:"peer_port"`
}

// channelView has no rates: there may be many short channels, and nobody asks.
func (s *Server) channelView(c *Channel) channelView {
	return channelView{
		Name: c.Name, Number: c.Number, Vhost: c.Vhost, User: c.User, Node: s.config.Source.Node().Name, State: c.State,
		Confirm: c.Confirm, Transactional: c.Transactional, Prefetch: c.Prefetch, GlobalPrefetch: c.GlobalPrefetch,
		Consumers: c.Consumers, Unacked: c.Unacked, Unconfirmed: c.Unconfirmed, Uncommitted: c.Uncommitted,
		AcksPending: c.AcksPending, IdleSince: formatTime(c.IdleSince),
		MessageStats: messageStats{now: c.Counters},
		Connection:   connectionDetailsView{c.Connection, c.PeerHost, c.PeerPort},
	}
}
