package broker

import (
	"github.com/mirrormq/mirrormq/internal/admin"
	"github.com/mirrormq/mirrormq/internal/topology"
)

func (s source) Bindings() (bindings []admin.Binding) {
	s.topology(func(state *topology.State) {
		for _, v := range state.Vhosts() {
			for _, q := range state.Queues(v.Name) {
				bindings = append(bindings, admin.Binding{Vhost: v.Name, Destination: q.Name, RoutingKey: q.Name})
			}
			for _, b := range state.Bindings(v.Name) {
				bindings = append(bindings, admin.Binding{
					Vhost: b.Vhost, Source: b.Source, Destination: b.Destination,
					ToExchange: b.ToExchange, RoutingKey: b.RoutingKey, Arguments: b.Arguments,
				})
			}
		}
	})
	return bindings
}

func (s source) Totals() admin.Totals {
	totals := admin.Totals{}
	if !s.b.ready.Load() {
		return totals
	}
	for _, q := range s.Queues() {
		totals.MessagesReady += q.Ready
		totals.MessagesUnacked += q.Unacked
		totals.MessagesBytes += q.ReadyBytes + q.UnackedBytes
		totals.Queues++
	}
	s.topology(func(state *topology.State) {
		for _, v := range state.Vhosts() {
			totals.Vhosts++
			totals.Exchanges += len(state.Exchanges(v.Name))
			totals.Bindings += len(state.Bindings(v.Name))
		}
	})
	s.b.front.count(&totals)
	totals.Ack, totals.QueuesCreated = s.b.counts.acked.Load(), s.b.counts.queuesCreated.Load()
	totals.QueuesDeleted = s.b.counts.queuesDeleted.Load()
	totals.Duplicates, totals.TooOld = s.b.counts.duplicates.Load(), s.b.counts.tooOld.Load()
	return totals
}

func (s source) Connections() []admin.Connection {
	if !s.b.ready.Load() {
		return nil
	}
	return s.b.front.listConnections()
}

func (s source) Channels() []admin.Channel {
	if !s.b.ready.Load() {
		return nil
	}
	return s.b.front.listChannels()
}

func (s source) CloseConnection(name, reason string) error {
	if !s.b.ready.Load() || !s.b.front.connections.close(name, reason) {
		return admin.ErrNotFound
	}
	return nil
}
