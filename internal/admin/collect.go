package admin

import (
	"runtime"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the Source at each scrape: nothing is counted twice, and a
// broker that nobody scrapes pays nothing.
type collector struct {
	source      Source
	queueSeries int
	version     string

	totals  []totalMetric
	queues  []queueMetric
	groups  []groupMetric
	mirrors []mirrorMetric
	node    []nodeMetric
	log     []logMetric
	info    *prometheus.Desc
	omitted *prometheus.Desc

	brokerUp, promotions, unclean metric
}

type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

type (
	totalMetric struct {
		metric
		get func(*Totals) uint64
	}
	queueMetric struct {
		metric
		get func(*Queue) uint64
	}
	groupMetric struct {
		metric
		get func(*Group) uint64
		// everywhere says that it is also of groups that this broker has no copy of.
		everywhere bool
	}
	mirrorMetric struct {
		metric
		get func(*Mirror) uint64
	}
	nodeMetric struct {
		metric
		get func(*Node) float64
	}
	logMetric struct {
		metric
		get func(*LogStats) float64
	}
)

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

func describe(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("mirrormq_"+name, help, labels, nil), kind}
}

func newCollector(s Source, queueSeries int, version string) *collector {
	c := &collector{source: s, queueSeries: queueSeries, version: version}
	c.totals = totalMetrics()
	c.queues = queueMetrics()
	c.groups = []groupMetric{
		{describe(gauge, "group_term", "Term of a replicated group.", "group"), func(g *Group) uint64 { return g.Term }, false},
		{describe(gauge, "group_commit_index", "Index of the last committed entry.", "group"), func(g *Group) uint64 { return g.Commit }, false},
		{describe(gauge, "group_applied_index", "Index of the last applied entry.", "group"), func(g *Group) uint64 { return g.Applied }, false},
		{describe(gauge, "group_last_index", "Index of the last entry in the log.", "group"), func(g *Group) uint64 { return g.Last }, false},
		{describe(gauge, "group_leader", "1 where this broker leads the group.", "group"), func(g *Group) uint64 { return uint64(boolean(g.Role == "leader")) }, true},
		{describe(gauge, "group_leader_known", "1 where this broker knows a leader of the group, itself or another.", "group"), func(g *Group) uint64 { return uint64(boolean(g.Leader != "")) }, true},
		{describe(gauge, "group_lag_entries", "Entries that this broker lacks of those that the leader told of last.", "group"), func(g *Group) uint64 { return g.Lag }, false},
	}
	c.mirrors = []mirrorMetric{
		{describe(gauge, "mirror_match_index", "Index up to which a mirror's disk has the log of a group that this broker leads.", "group", "mirror"), func(m *Mirror) uint64 { return m.Match }},
		{describe(gauge, "mirror_lag_entries", "Entries that a mirror lacks of a group that this broker leads.", "group", "mirror"), func(m *Mirror) uint64 { return m.Lag }},
		{describe(gauge, "mirror_heard", "1 while a mirror of a group that this broker leads answers.", "group", "mirror"), func(m *Mirror) uint64 { return uint64(boolean(m.Heard)) }},
	}
	c.brokerUp = describe(gauge, "broker_up", "1 while this broker reaches that one and it takes part.", "broker")
	c.promotions = describe(counter, "promotions_total", "Changes of groups' leaders that this broker has seen since its start.")
	c.unclean = describe(counter, "promotions_unclean_total", "Of those, the ones that may have lost a confirmed message.")
	c.node = []nodeMetric{
		{describe(gauge, "memory_used_bytes", "Memory that the broker uses."), func(n *Node) float64 { return float64(n.MemoryUsed) }},
		{describe(gauge, "memory_limit_bytes", "Memory from which publishers are blocked."), func(n *Node) float64 { return float64(n.MemoryLimit) }},
		{describe(gauge, "memory_alarm", "1 while publishers are blocked for memory."), func(n *Node) float64 { return boolean(n.MemoryAlarm) }},
		{describe(gauge, "disk_free_bytes", "Space left where the data directory lies."), func(n *Node) float64 { return float64(n.DiskFree) }},
		{describe(gauge, "disk_free_limit_bytes", "Space left below which publishers are blocked."), func(n *Node) float64 { return float64(n.DiskFreeLimit) }},
		{describe(gauge, "disk_alarm", "1 while publishers are blocked for disk space."), func(n *Node) float64 { return boolean(n.DiskAlarm) }},
		{describe(gauge, "start_time_seconds", "When the broker started, in seconds since 1970."), func(n *Node) float64 { return float64(n.Started.UnixMilli()) / 1000 }},
	}
	c.log = []logMetric{
		{describe(gauge, "log_disk_bytes", "Bytes of the write-ahead log on disk."), func(l *LogStats) float64 { return float64(l.DiskBytes) }},
		{describe(gauge, "log_live_bytes", "Of those, bytes of entries that are still needed."), func(l *LogStats) float64 { return float64(l.LiveBytes) }},
		{describe(gauge, "log_segments", "Segment files of the write-ahead log."), func(l *LogStats) float64 { return float64(l.Segments) }},
		{describe(counter, "log_compactions_total", "Segments that compaction has dropped."), func(l *LogStats) float64 { return float64(l.Compactions) }},
	}
	c.info = prometheus.NewDesc("mirrormq_build_info", "1, with what runs as labels.", []string{"broker", "version", "go"}, nil)
	c.omitted = prometheus.NewDesc("mirrormq_queues_without_series", "Queues beyond the bound on series of their own; they are in the totals.", nil, nil)
	return c
}

func totalMetrics() []totalMetric {
	return []totalMetric{
		{describe(gauge, "connections", "Open client connections."), func(t *Totals) uint64 { return uint64(t.Connections) }},
		{describe(gauge, "channels", "Open channels."), func(t *Totals) uint64 { return uint64(t.Channels) }},
		{describe(gauge, "consumers", "Consumers on all queues."), func(t *Totals) uint64 { return uint64(t.Consumers) }},
		{describe(gauge, "vhosts", "Virtual hosts."), func(t *Totals) uint64 { return uint64(t.Vhosts) }},
		{describe(gauge, "exchanges", "Exchanges of all vhosts."), func(t *Totals) uint64 { return uint64(t.Exchanges) }},
		{describe(gauge, "queues", "Queues of all vhosts."), func(t *Totals) uint64 { return uint64(t.Queues) }},
		{describe(gauge, "bindings", "Bindings of all vhosts."), func(t *Totals) uint64 { return uint64(t.Bindings) }},
		{describe(counter, "connections_opened_total", "Client connections opened."), func(t *Totals) uint64 { return t.ConnectionsOpened }},
		{describe(counter, "connections_closed_total", "Client connections closed."), func(t *Totals) uint64 { return t.ConnectionsClosed }},
		{describe(counter, "channels_opened_total", "Channels opened."), func(t *Totals) uint64 { return t.ChannelsOpened }},
		{describe(counter, "channels_closed_total", "Channels closed."), func(t *Totals) uint64 { return t.ChannelsClosed }},
		{describe(gauge, "messages_ready", "Messages waiting in all queues."), func(t *Totals) uint64 { return t.MessagesReady }},
		{describe(gauge, "messages_unacked", "Messages delivered and not yet acknowledged."), func(t *Totals) uint64 { return t.MessagesUnacked }},
		{describe(gauge, "messages_bytes", "Bytes of the messages in all queues."), func(t *Totals) uint64 { return t.MessagesBytes }},
		{describe(counter, "messages_published_total", "Messages published."), func(t *Totals) uint64 { return t.Publish }},
		{describe(counter, "messages_confirmed_total", "Messages confirmed to their publishers."), func(t *Totals) uint64 { return t.Confirm }},
		{describe(counter, "messages_returned_total", "Mandatory messages returned as unroutable."), func(t *Totals) uint64 { return t.ReturnUnroutable }},
		{describe(counter, "messages_dropped_total", "Messages that had nowhere to go."), func(t *Totals) uint64 { return t.DropUnroutable }},
		{describe(counter, "messages_duplicate_total", "Publishes to the groups led here that their producer had published before."), func(t *Totals) uint64 { return t.Duplicates }},
		{describe(counter, "messages_too_old_total", "Publishes to the groups led here that were refused for being too far below their producer's highest sequence."), func(t *Totals) uint64 { return t.TooOld }},
		{describe(counter, "messages_delivered_total", "Messages delivered or got, with or without acknowledgement."), func(t *Totals) uint64 { return t.DeliverGet() }},
		{describe(counter, "messages_delivered_no_ack_total", "Of the delivered, those without acknowledgement."), func(t *Totals) uint64 { return t.DeliverNoAck + t.GetNoAck }},
		{describe(counter, "messages_redelivered_total", "Of the delivered, those that were repeated."), func(t *Totals) uint64 { return t.Redeliver }},
		{describe(counter, "messages_acked_total", "Messages acknowledged."), func(t *Totals) uint64 { return t.Ack }},
		{describe(counter, "gets_empty_total", "basic.get that found nothing."), func(t *Totals) uint64 { return t.GetEmpty }},
	}
}

func queueMetrics() []queueMetric {
	labels := []string{"vhost", "queue"}
	return []queueMetric{
		{describe(gauge, "queue_messages_ready", "Messages waiting in the queue.", labels...), func(q *Queue) uint64 { return q.Ready }},
		{describe(gauge, "queue_messages_unacked", "Messages of the queue delivered and not yet acknowledged.", labels...), func(q *Queue) uint64 { return q.Unacked }},
		{describe(gauge, "queue_messages_bytes", "Bytes of the queue's messages.", labels...), func(q *Queue) uint64 { return q.ReadyBytes + q.UnackedBytes }},
		{describe(gauge, "queue_consumers", "Consumers of the queue.", labels...), func(q *Queue) uint64 { return uint64(q.Consumers) }},
		{describe(counter, "queue_messages_published_total", "Messages published into the queue.", labels...), func(q *Queue) uint64 { return q.Publish }},
		{describe(counter, "queue_messages_delivered_total", "Messages of the queue delivered or got.", labels...), func(q *Queue) uint64 { return q.DeliverGet() }},
		{describe(counter, "queue_messages_redelivered_total", "Of the delivered, those that were repeated.", labels...), func(q *Queue) uint64 { return q.Redeliver }},
		{describe(counter, "queue_messages_acked_total", "Messages of the queue acknowledged.", labels...), func(q *Queue) uint64 { return q.Ack }},
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.totals {
		out <- m.desc
	}
	for _, m := range c.queues {
		out <- m.desc
	}
	for _, m := range c.groups {
		out <- m.desc
	}
	for _, m := range c.mirrors {
		out <- m.desc
	}
	for _, m := range []metric{c.brokerUp, c.promotions, c.unclean} {
		out <- m.desc
	}
	for _, m := range c.node {
		out <- m.desc
	}
	for _, m := range c.log {
		out <- m.desc
	}
	out <- c.info
	out <- c.omitted
}

// Collect implements prometheus.Collector. It costs O(queues · log queues).
func (c *collector) Collect(out chan<- prometheus.Metric) {
	send := func(m metric, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
	}
	node, totals, stats := c.source.Node(), c.source.Totals(), c.source.Log()
	send(metric{c.info, gauge}, 1, node.Name, c.version, runtime.Version())
	for _, m := range c.node {
		send(m.metric, m.get(&node))
	}
	for _, m := range c.totals {
		send(m.metric, float64(m.get(&totals)))
	}
	for _, m := range c.log {
		send(m.metric, m.get(&stats))
	}
	c.collectCluster(send)
	queues := c.source.Queues()
	slices.SortFunc(queues, compareQueues)
	shown := queues[:min(len(queues), max(c.queueSeries, 0))]
	send(metric{c.omitted, gauge}, float64(len(queues)-len(shown)))
	for i := range shown {
		q := &shown[i]
		for _, m := range c.queues {
			send(m.metric, float64(m.get(q)), label(q.Vhost), label(q.Name))
		}
	}
}

// collectCluster sends what concerns groups and other brokers.
func (c *collector) collectCluster(send func(metric, float64, ...string)) {
	for _, g := range c.source.Groups() {
		id := strconv.FormatUint(uint64(g.ID), 10)
		for _, m := range c.groups {
			if g.Role == RoleNone && !m.everywhere {
				continue
			}
			send(m.metric, float64(m.get(&g)), id)
		}
		for i := range g.Mirrors {
			for _, m := range c.mirrors {
				send(m.metric, float64(m.get(&g.Mirrors[i])), id, g.Mirrors[i].Name)
			}
		}
	}
	cluster := c.source.Cluster()
	for _, b := range cluster.Brokers {
		send(c.brokerUp, boolean(b.Up), b.Name)
	}
	send(c.promotions, float64(cluster.PromotionsTotal))
	send(c.unclean, float64(cluster.PromotionsUnclean))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// label is a name as a label's value, which must be UTF-8. AMQP's names need
// not be; two that differ stay different.
func label(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return strconv.Quote(name)
}
