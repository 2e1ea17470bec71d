package admin

import (
	"time"
)

// The views of /api/cluster are MirrorMQ's own: RabbitMQ has no such resource.

type clusterView struct {
	Name      string `json:"name"` // of the broker that answers
	AckQuorum string `json:"ack_quorum"`

	Brokers    []brokerView       `json:"brokers"`
	Groups     []clusterGroupView `json:"groups"`
	Promotions []promotionView    `json:"promotions"` // newest first

	PromotionsTotal   uint64 `json:"promotions_total"`
	PromotionsUnclean uint64 `json:"promotions_unclean"`
}

type brokerView struct {
	Name    string    `json:"name"`
	Address string    `json:"address,omitempty"`
	Running bool      `json:"running"`
	Since   time.Time `json:"since"`
	// DataLost says that it came back without its data and is kept out.
	DataLost bool `json:"data_lost,omitempty"`
}

type clusterGroupView struct {
	groupView
	Kind      string       `json:"kind"` // topology or queues
	Preferred string       `json:"preferred_leader"`
	Members   []string     `json:"members"` // the preferred leader first
	LastTerm  uint64       `json:"last_term"`
	Lag       uint64       `json:"lag"`
	Mirrors   []mirrorView `json:"mirrors"` // empty where the group is led elsewhere
}

type mirrorView struct {
	Name   string `json:"name"`
	Match  uint64 `json:"match"`
	Lag    uint64 `json:"lag"`
	Heard  bool   `json:"heard"`
	Behind bool   `json:"behind"`
}

type promotionView struct {
	Group      uint32         `json:"group"`
	When       time.Time      `json:"when"`
	From       string         `json:"from"`
	To         string         `json:"to"`
	Term       uint64         `json:"term"`
	Reason     string         `json:"reason"`
	Clean      bool           `json:"clean"`
	Leaderless float64        `json:"leaderless_ms"`
	Positions  []standingView `json:"positions"` // best first
}

type standingView struct {
	Broker  string `json:"broker"`
	Term    uint64 `json:"term"`
	Index   uint64 `json:"index"`
	Promise bool   `json:"promise"`
	Unfit   bool   `json:"unfit"`
}

func newBrokerView(b *Broker) brokerView {
	return brokerView{b.Name, b.Address, b.Up, b.Since, b.Stranger}
}

// groupTopology is the id of the group of exchanges, bindings and users.
const groupTopology = 0

func newClusterGroupView(g *Group) clusterGroupView {
	v := clusterGroupView{
		groupView: newGroupView(g), Kind: "queues", Preferred: g.Preferred, Members: g.Members, LastTerm: g.LastTerm, Lag: g.Lag,
		Mirrors: views(g.Mirrors, func(m *Mirror) mirrorView { return mirrorView{m.Name, m.Match, m.Lag, m.Heard, m.Behind} }),
	}
	if g.ID == groupTopology {
		v.Kind = "topology"
	}
	return v
}

func newPromotionView(p *Promotion) promotionView {
	return promotionView{
		p.Group, p.When, p.From, p.To, p.Term, p.Reason, p.Clean, float64(p.Leaderless.Microseconds()) / 1000,
		views(p.Positions, func(s *Standing) standingView { return standingView{s.Broker, s.Term, s.Index, s.Fenced, s.Unfit} }),
	}
}
