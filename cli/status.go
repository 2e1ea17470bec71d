package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show how a broker and its cluster are: alarms, messages, log, groups, leaders",
		Description: `The cluster is shown as the broker that is asked sees it; the mirrors of a group
are known to its leader. Exit code 1 says that the broker is up but no longer
works (a disk failed).

Examples:
   mirrormq status
   mirrormq status --watch --api http://127.0.0.1:15672,http://127.0.0.1:15673
   mirrormq status --api http://admin:secret@10.0.0.7:15672 --json`,
		Flags: apiFlags(
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it again every second, until interrupted"},
			&cli.IntFlag{Name: "promotions", Value: 5, Usage: "show the newest `N` changes of leaders"},
		),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usage("unexpected argument %q", c.Args().First())
			}
			if c.Bool("watch") {
				return watchStatus(c)
			}
			return withAPI(c, func(ctx context.Context, a *api) error { return status(ctx, c, a, c.App.Writer) })
		},
	}
}

// statusAnswer is what status prints as JSON: the API's own objects.
type statusAnswer struct {
	Overview json.RawMessage `json:"overview"`
	Nodes    json.RawMessage `json:"nodes"`
	Cluster  json.RawMessage `json:"cluster,omitempty"` // a RabbitMQ has none
}

// overview is the part of GET /api/overview that is shown.
type overview struct {
	Product string `json:"product_name"`
	Version string `json:"product_version"`
	Node    string `json:"node"` // that was asked
	Totals  struct {
		Ready   uint64 `json:"messages_ready"`
		Unacked uint64 `json:"messages_unacknowledged"`
	} `json:"queue_totals"`
	Objects struct {
		Channels, Connections, Consumers, Exchanges, Queues int
	} `json:"object_totals"`
	Stats     messageRates `json:"message_stats"`
	Listeners []struct {
		Protocol string `json:"protocol"`
		Address  string `json:"ip_address"`
		Port     int    `json:"port"`
	} `json:"listeners"`
}

type rateDetails struct {
	Rate float64 `json:"rate"`
}

// messageRates are the rates a second in a message_stats object.
type messageRates struct {
	Publish    rateDetails `json:"publish_details"`
	Confirm    rateDetails `json:"confirm_details"`
	DeliverGet rateDetails `json:"deliver_get_details"`
	Ack        rateDetails `json:"ack_details"`
}

// node is the part of GET /api/nodes that is shown.
type node struct {
	Name          string `json:"name"`
	Running       bool   `json:"running"`
	Uptime        int64  `json:"uptime"`
	MemoryUsed    int64  `json:"mem_used"`
	MemoryLimit   int64  `json:"mem_limit"`
	MemoryAlarm   bool   `json:"mem_alarm"`
	DiskFree      int64  `json:"disk_free"`
	DiskFreeLimit int64  `json:"disk_free_limit"`
	DiskAlarm     bool   `json:"disk_free_alarm"`
	Log           *struct {
		DiskBytes int64  `json:"disk_bytes"`
		LiveBytes int64  `json:"live_bytes"`
		Segments  int    `json:"segments"`
		Fsyncs    uint64 `json:"fsyncs"`
	} `json:"log"`
	Groups []struct {
		ID      uint32 `json:"id"`
		Role    string `json:"role"`
		Leader  string `json:"leader"`
		Term    uint64 `json:"term"`
		Commit  uint64 `json:"commit"`
		Applied uint64 `json:"applied"`
		Last    uint64 `json:"last"`
	} `json:"groups"`
}

// status asks a broker and prints what it says to w.
func status(ctx context.Context, c *cli.Context, a *api, w io.Writer) error {
	var raw statusAnswer
	if err := a.get(ctx, "overview", &raw.Overview); err != nil {
		return err
	}
	if err := a.get(ctx, "nodes", &raw.Nodes); err != nil {
		return err
	}
	var f *failure
	if err := a.get(ctx, "cluster", &raw.Cluster); err != nil && !(errors.As(err, &f) && f.code == exitNotFound) {
		return err
	}
	var o overview
	var nodes []node
	var v *clusterStatus
	if err := json.Unmarshal(raw.Overview, &o); err != nil {
		return err
	}
	if err := json.Unmarshal(raw.Nodes, &nodes); err != nil {
		return err
	}
	if len(raw.Cluster) > 0 {
		v = &clusterStatus{}
		if err := json.Unmarshal(raw.Cluster, v); err != nil {
			return err
		}
	}
	var err error
	if c.Bool("json") {
		err = printJSON(w, raw)
	} else if err = printStatus(w, &o, nodes, v == nil); err == nil && v != nil {
		err = v.print(w, time.Now(), c.Int("promotions"))
	}
	for i := range nodes {
		if nodes[i].Name == o.Node && !nodes[i].Running && err == nil {
			err = fail(exitFailure, "its log says why; repair the disk and start it again", "broker %s no longer works", nodes[i].Name)
		}
	}
	return err
}

// printStatus shows the broker that was asked, and others if it knows more of
// them than their names.
func printStatus(w io.Writer, o *overview, nodes []node, groups bool) error {
	s := styleOf(w)
	p := &lines{w: w}
	p.line("%s", s.bold(o.Product+" "+o.Version))
	p.line("Messages     %s ready, %s unacknowledged", thousands(o.Totals.Ready), thousands(o.Totals.Unacked))
	p.line("Rates        publish %.0f/s, confirm %.0f/s, deliver %.0f/s, ack %.0f/s",
		o.Stats.Publish.Rate, o.Stats.Confirm.Rate, o.Stats.DeliverGet.Rate, o.Stats.Ack.Rate)
	p.line("Objects      %s, %s, %s, %s, %s", plural(int64(o.Objects.Connections), "connection"), plural(int64(o.Objects.Channels), "channel"),
		plural(int64(o.Objects.Consumers), "consumer"), plural(int64(o.Objects.Queues), "queue"), plural(int64(o.Objects.Exchanges), "exchange"))
	for _, l := range o.Listeners {
		p.line("Listening    %s on %s:%d", l.Protocol, l.Address, l.Port)
	}
	for i := range nodes {
		n := &nodes[i]
		if n.Name != o.Node && n.MemoryLimit == 0 {
			continue
		}
		state := "running for " + (time.Duration(n.Uptime) * time.Millisecond).Round(time.Second).String()
		if !n.Running {
			state = s.alarm("NOT WORKING")
		}
		p.line("")
		p.line("%s  %s", s.bold("Broker "+n.Name), state)
		p.line("Memory       %s used, publishers are blocked at %s%s", formatSize(n.MemoryUsed), formatSize(n.MemoryLimit), s.alarmIf(n.MemoryAlarm))
		p.line("Disk         %s free, publishers are blocked at %s%s", formatSize(n.DiskFree), formatSize(n.DiskFreeLimit), s.alarmIf(n.DiskAlarm))
		if n.Log != nil {
			p.line("Log          %s on disk, %s live, %s, %s", formatSize(n.Log.DiskBytes), formatSize(n.Log.LiveBytes),
				plural(int64(n.Log.Segments), "segment"), plural(int64(n.Log.Fsyncs), "fsync"))
		}
		if len(n.Groups) == 0 || !groups {
			continue
		}
		p.line("")
		var rows [][]string
		for _, g := range n.Groups {
			rows = append(rows, []string{
				fmt.Sprint(g.ID), g.Role, g.Leader, fmt.Sprint(g.Term), fmt.Sprint(g.Commit), fmt.Sprint(g.Applied), fmt.Sprint(g.Last),
			})
		}
		p.table([]string{"GROUP", "ROLE", "LEADER", "TERM", "COMMIT", "APPLIED", "LAST"}, rows)
	}
	return p.err
}

func (s style) alarmIf(raised bool) string {
	if !raised {
		return ""
	}
	return "  " + s.alarm("ALARM: publishers are blocked")
}

// lines prints lines and keeps the first error.
type lines struct {
	w   io.Writer
	err error
}

func (l *lines) line(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format+"\n", args...)
	}
}

func (l *lines) table(header []string, rows [][]string) {
	if l.err == nil {
		l.err = table(l.w, header, rows)
	}
}
