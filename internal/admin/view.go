package admin

import (
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"net/url"
	"time"
)

// The views are RabbitMQ's JSON objects, with its field names. Fields that
// describe Erlang's inside (reductions, garbage collection) are left out: no
// client can rely on them. What MirrorMQ adds is named at the end of each.

// timeFormat is how RabbitMQ prints idle_since.
const timeFormat = "2006-01-02T15:04:05.000-07:00"

func formatTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(timeFormat)
	return &s
}

type queueView struct {
	Name       string         `json:"name"`
	Vhost      string         `json:"vhost"`
	Type       string         `json:"type"`
	Durable    bool           `json:"durable"`
	AutoDelete bool           `json:"auto_delete"`
	Exclusive  bool           `json:"exclusive"`
	Arguments  map[string]any `json:"arguments"`
	Node       string         `json:"node"`
	State      string         `json:"state"`
	Policy     *string        `json:"policy"`
	IdleSince  *string        `json:"idle_since,omitempty"`

	Consumers       int     `json:"consumers"`
	Messages        uint64  `json:"messages"`
	MessagesDetails details `json:"messages_details"`
	Ready           uint64  `json:"messages_ready"`
	ReadyDetails    details `json:"messages_ready_details"`
	Unacked         uint64  `json:"messages_unacknowledged"`
	UnackedDetails  details `json:"messages_unacknowledged_details"`
	Bytes           uint64  `json:"message_bytes"`
	BytesReady      uint64  `json:"message_bytes_ready"`
	BytesUnacked    uint64  `json:"message_bytes_unacknowledged"`

	MessageStats messageStats    `json:"message_stats"`
	Owner        *ownerView      `json:"owner_pid_details,omitempty"`
	Leader       string          `json:"leader,omitempty"`
	Members      []string        `json:"members,omitempty"`
	Details      *[]consumerView `json:"consumer_details,omitempty"` // of a single queue

	AckQuorum string `json:"ack_quorum,omitempty"` // MirrorMQ's
	Group     uint32 `json:"group"`                // MirrorMQ's
}

type ownerView struct {
	Name string `json:"name"`
}

func (s *Server) queueView(q *Queue) queueView {
	v := queueView{
		Name: q.Name, Vhost: q.Vhost, Type: q.Type,
		Durable: q.Durable, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive,
		Arguments: jsonTable(q.Arguments), Node: q.Node, State: q.State, IdleSince: formatTime(q.IdleSince),
		Consumers: q.Consumers, Messages: q.Ready + q.Unacked, Ready: q.Ready, Unacked: q.Unacked,
		Bytes: q.ReadyBytes + q.UnackedBytes, BytesReady: q.ReadyBytes, BytesUnacked: q.UnackedBytes,
		MessageStats: messageStats{q.Counters, s.rates.queue(q.Vhost, q.Name)},
		Members:      q.Members, AckQuorum: q.AckQuorum, Group: q.Group,
	}
	if q.Owner != "" {
		v.Owner = &ownerView{q.Owner}
	}
	if len(q.Members) > 0 {
		v.Leader = q.Node
	}
	return v
}

type consumerView struct {
	Tag         string             `json:"consumer_tag"`
	AckRequired bool               `json:"ack_required"`
	Active      bool               `json:"active"`
	Status      string             `json:"activity_status"`
	Exclusive   bool               `json:"exclusive"`
	Prefetch    uint32             `json:"prefetch_count"`
	Arguments   map[string]any     `json:"arguments"`
	Channel     channelDetailsView `json:"channel_details"`
	Queue       queueNameView      `json:"queue"`
}

type channelDetailsView struct {
	Name           string `json:"name"`
	Number         int    `json:"number"`
	ConnectionName string `json:"connection_name"`
	Node           string `json:"node"`
	PeerHost       string `json:"peer_host"`
	PeerPort       int    `json:"peer_port"`
	User           string `json:"user"`
}

type queueNameView struct {
	Name  string `json:"name"`
	Vhost string `json:"vhost"`
}

func newConsumerView(c *Consumer, q *Queue, node string) consumerView {
	return consumerView{
		Tag: c.Tag, AckRequired: !c.NoAck, Active: true, Status: "up", Exclusive: c.Exclusive,
		Prefetch: c.Prefetch, Arguments: jsonTable(c.Arguments),
		Channel: channelDetailsView{c.Channel, c.ChannelNumber, c.Connection, node, c.PeerHost, c.PeerPort, c.User},
		Queue:   queueNameView{q.Name, q.Vhost},
	}
}

type exchangeView struct {
	Name         string         `json:"name"`
	Vhost        string         `json:"vhost"`
	Type         string         `json:"type"`
	Durable      bool           `json:"durable"`
	AutoDelete   bool           `json:"auto_delete"`
	Internal     bool           `json:"internal"`
	Arguments    map[string]any `json:"arguments"`
	MessageStats exchangeStats  `json:"message_stats"`
}

type exchangeStats struct {
	PublishIn  uint64 `json:"publish_in"`
	PublishOut uint64 `json:"publish_out"`
}

func newExchangeView(e *Exchange) exchangeView {
	return exchangeView{
		Name: e.Name, Vhost: e.Vhost, Type: e.Kind, Durable: e.Durable, AutoDelete: e.AutoDelete,
		Internal: e.Internal, Arguments: jsonTable(e.Arguments), MessageStats: exchangeStats{e.PublishIn, e.PublishOut},
	}
}

type bindingView struct {
	Source          string         `json:"source"`
	Vhost           string         `json:"vhost"`
	Destination     string         `json:"destination"`
	DestinationType string         `json:"destination_type"`
	RoutingKey      string         `json:"routing_key"`
	Arguments       map[string]any `json:"arguments"`
	PropertiesKey   string         `json:"properties_key"`
}

func newBindingView(b *Binding) bindingView {
	v := bindingView{
		Source: b.Source, Vhost: b.Vhost, Destination: b.Destination, DestinationType: "queue",
		RoutingKey: b.RoutingKey, Arguments: jsonTable(b.Arguments),
	}
	if b.ToExchange {
		v.DestinationType = "exchange"
	}
	v.PropertiesKey = propertiesKey(v.RoutingKey, v.Arguments)
	return v
}

// propertiesKey names a binding among those of the same two ends: the escaped
// routing key, "~" for an empty one, and a hash where there are arguments.
// RabbitMQ hashes an Erlang term; clients only hand the key back.
func propertiesKey(key string, arguments map[string]any) string {
	name := url.PathEscape(key)
	if len(arguments) == 0 {
		if name == "" {
			return "~"
		}
		return name
	}
	body, _ := json.Marshal(arguments) // Sorted keys; jsonTable's values always marshal.
	sum := crc32.ChecksumIEEE(body)
	hash := []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
	return name + "~" + base64.RawURLEncoding.EncodeToString(hash)
}
