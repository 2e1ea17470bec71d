package admin

import (
	"cmp"
	"net/http"
	"slices"
)

func (s *Server) overview(w http.ResponseWriter, _ *http.Request, _ []string) {
	source := s.config.Source
	node, totals := source.Node(), source.Totals()
	v := overviewView{
		ManagementVersion: compatibleVersion, RabbitMQVersion: compatibleVersion,
		ProductName: "MirrorMQ", ProductVersion: s.config.Version,
		ClusterName: node.Name, Node: node.Name, RatesMode: "basic",
		MessageStats: messageStats{totals.Counters, s.rates.total()},
		ChurnRates: churnView{
			totals.ConnectionsOpened, totals.ConnectionsClosed, totals.ChannelsOpened, totals.ChannelsClosed,
			totals.QueuesDeclared, totals.QueuesCreated, totals.QueuesDeleted,
		},
		QueueTotals: queueTotals{
			Messages: totals.MessagesReady + totals.MessagesUnacked, Ready: totals.MessagesReady,
			Unacked: totals.MessagesUnacked, Bytes: totals.MessagesBytes,
		},
		ObjectTotals: objectTotals{
			Channels: totals.Channels, Connections: totals.Connections, Consumers: totals.Consumers,
			Exchanges: totals.Exchanges, Queues: totals.Queues,
		},
		Listeners: []listenerView{},
		Contexts:  []contextView{},
	}
	for _, kind := range []string{"direct", "fanout", "headers", "topic"} {
		v.ExchangeTypes = append(v.ExchangeTypes, nameView{kind, true})
	}
	for _, l := range node.Listeners {
		v.Listeners = append(v.Listeners, newListenerView(node.Name, l))
	}
	writeJSON(w, v)
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request, _ []string) {
	user, _, _ := r.BasicAuth() // authenticated has seen it.
	tags := s.config.Source.UserTags(user)
	if tags == nil {
		tags = []string{}
	}
	writeJSON(w, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{user, tags})
}

func (s *Server) nodes(w http.ResponseWriter, _ *http.Request, _ []string) {
	node := s.config.Source.Node()
	list := []any{}
	for _, b := range s.brokers() {
		if b.Name == node.Name {
			list = append(list, s.nodeView(&node))
		} else {
			list = append(list, newPeerView(&b))
		}
	}
	writeJSON(w, list)
}

func (s *Server) node(w http.ResponseWriter, _ *http.Request, args []string) {
	node := s.config.Source.Node()
	if args[0] == node.Name {
		writeJSON(w, s.nodeView(&node))
		return
	}
	brokers := s.brokers()
	i := slices.IndexFunc(brokers, func(b Broker) bool { return b.Name == args[0] })
	if i < 0 {
		notFound(w)
		return
	}
	writeJSON(w, newPeerView(&brokers[i]))
}

// brokers are all members by name, this broker among them.
func (s *Server) brokers() []Broker {
	list := s.config.Source.Cluster().Brokers
	slices.SortFunc(list, func(a, b Broker) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// groups are the broker's groups by their id.
func (s *Server) groups() []Group {
	list := s.config.Source.Groups()
	slices.SortFunc(list, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (s *Server) vhosts(w http.ResponseWriter, r *http.Request, _ []string) {
	list := s.config.Source.Vhosts()
	slices.SortFunc(list, func(a, b Vhost) int { return cmp.Compare(a.Name, b.Name) })
	writeList(w, r, list, func(v *Vhost) string { return v.Name }, s.vhostViewer())
}

func (s *Server) vhost(w http.ResponseWriter, _ *http.Request, args []string) {
	list := s.config.Source.Vhosts()
	i := slices.IndexFunc(list, func(v Vhost) bool { return v.Name == args[0] })
	if i < 0 {
		notFound(w)
		return
	}
	writeJSON(w, s.vhostViewer()(&list[i]))
}

// vhostViewer adds up the queues of all vhosts once, for any number of views.
func (s *Server) vhostViewer() func(*Vhost) vhostView {
	ready, unacked := map[string]uint64{}, map[string]uint64{}
	for _, q := range s.config.Source.Queues() {
		ready[q.Vhost] += q.Ready
		unacked[q.Vhost] += q.Unacked
	}
	state := map[string]string{}
	for _, b := range s.brokers() {
		if b.Up {
			state[b.Name] = "running"
		}
	}
	return func(v *Vhost) vhostView {
		tags := v.Tags
		if tags == nil {
			tags = []string{}
		}
		return vhostView{
			Name: v.Name, Description: v.Description, Tags: tags,
			Messages: ready[v.Name] + unacked[v.Name], Ready: ready[v.Name], Unacked: unacked[v.Name],
			ClusterState: state,
		}
	}
}

// hasVhost answers 404 and returns false where there is no such vhost.
func (s *Server) hasVhost(w http.ResponseWriter, name string) bool {
	if slices.ContainsFunc(s.config.Source.Vhosts(), func(v Vhost) bool { return v.Name == name }) {
		return true
	}
	notFound(w)
	return false
}
