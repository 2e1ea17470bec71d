package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/urfave/cli/v2"
)

func queuesCommand() *cli.Command {
	return &cli.Command{
		Name:      "queues",
		Usage:     "list queues with their counts and rates",
		ArgsUsage: "[NAME]",
		Description: `Examples:
   mirrormq queues
   mirrormq queues --vhost /
   mirrormq queues orders --json`,
		Flags: apiFlags(&cli.StringFlag{Name: "vhost", Usage: "only those of `VHOST` (with a name: / if not given)"}),
		Action: func(c *cli.Context) error {
			return withAPI(c, func(ctx context.Context, a *api) error { return queues(ctx, c, a) })
		},
	}
}

// queue is the part of a queue's object that is shown.
type queue struct {
	Vhost     string       `json:"vhost"`
	Name      string       `json:"name"`
	Type      string       `json:"type"`
	State     string       `json:"state"`
	Node      string       `json:"node"`
	Ready     uint64       `json:"messages_ready"`
	Unacked   uint64       `json:"messages_unacknowledged"`
	Bytes     int64        `json:"message_bytes"`
	Consumers int          `json:"consumers"`
	Stats     messageRates `json:"message_stats"`
}

func queues(ctx context.Context, c *cli.Context, a *api) error {
	if c.NArg() > 1 {
		return usage("unexpected argument %q", c.Args().Get(1))
	}
	path, vhost := "queues", c.String("vhost")
	if vhost == "" && c.NArg() == 1 {
		vhost = "/"
	}
	if vhost != "" {
		path += "/" + url.PathEscape(vhost)
	}
	if c.NArg() == 1 {
		path += "/" + url.PathEscape(c.Args().First())
	}
	var raw json.RawMessage
	if err := a.get(ctx, path, &raw); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, raw)
	}
	var list []queue
	if c.NArg() == 1 {
		list = make([]queue, 1)
		if err := json.Unmarshal(raw, &list[0]); err != nil {
			return err
		}
	} else if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		say(c, "no queues; create one with: mirrormq declare queue NAME")
		return nil
	}
	var rows [][]string
	for i := range list {
		q := &list[i]
		rows = append(rows, []string{
			printableName(q.Vhost), printableName(q.Name), q.Type, q.State, thousands(q.Ready), thousands(q.Unacked),
			formatSize(q.Bytes), fmt.Sprint(q.Consumers),
			fmt.Sprintf("%.0f", q.Stats.Publish.Rate), fmt.Sprintf("%.0f", q.Stats.DeliverGet.Rate), fmt.Sprintf("%.0f", q.Stats.Ack.Rate),
		})
	}
	return table(c.App.Writer,
		[]string{"VHOST", "NAME", "TYPE", "STATE", "READY", "UNACKED", "SIZE", "CONSUMERS", "PUBLISH/S", "DELIVER/S", "ACK/S"}, rows)
}
