package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/client"
)

func publishCommand() *cli.Command {
	return &cli.Command{
		Name:      "publish",
		Usage:     "publish messages and wait until the broker has confirmed them",
		ArgsUsage: "QUEUE [BODY]   (with --exchange or --routing-key: [BODY])",
		Description: `The body is the argument; or --file; or --size bytes; or else each line of
standard input is a message. Messages are persistent, must reach a queue, and
are confirmed by the broker, unless told otherwise. When its broker is lost the
command goes on with another one of --url: what was unconfirmed is published
again, and MirrorMQ drops what it has (headers x-producer, x-producer-sequence).

Examples:
   mirrormq publish --declare orders 'order 1'
   tail -f events.log | mirrormq publish events
   mirrormq publish orders --file order.json --content-type application/json
   mirrormq publish --exchange logs --routing-key app.error --header level:=3 'disk full'
   mirrormq publish load --count 100000 --size 1KiB --window 500 --rate 20000`,
		Flags: amqpFlags(
			&cli.StringFlag{Name: "exchange", Aliases: []string{"e"}, Usage: "publish to `EXCHANGE` instead of a queue"},
			&cli.StringFlag{Name: "routing-key", Aliases: []string{"k"}, Usage: "`KEY` to route by"},
			&cli.BoolFlag{Name: "declare", Usage: "declare the (durable) queue first"},
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the body is the content of `PATH` (- is standard input)"},
			&cli.StringFlag{Name: "size", Usage: "make bodies of `SIZE` (512, 1KiB, 2MiB) up"},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "publish the body `N` times; of lines, publish at most N"},
			&cli.Float64Flag{Name: "rate", Usage: "at most `N` messages a second"},
			&cli.StringSliceFlag{Name: "header", Aliases: []string{"H"}, Usage: "`NAME=TEXT` or NAME:=JSON, repeatable"},
			&cli.StringFlag{Name: "content-type", Usage: "`TYPE` of the body"},
			&cli.StringFlag{Name: "content-encoding", Usage: "`ENCODING` of the body"},
			&cli.StringFlag{Name: "correlation-id", Usage: "`ID` that an answer refers to"},
			&cli.StringFlag{Name: "reply-to", Usage: "`QUEUE` for an answer"},
			&cli.StringFlag{Name: "message-id", Usage: "`ID` of the message"},
			&cli.StringFlag{Name: "type", Usage: "`TYPE` of the message"},
			&cli.StringFlag{Name: "app-id", Usage: "`ID` of the application"},
			&cli.DurationFlag{Name: "expiration", Usage: "discard after `TIME` in a queue"},
			&cli.UintFlag{Name: "priority", Usage: "`N` from 0 to 255"},
			&cli.BoolFlag{Name: "persistent", Value: true, Usage: "keep messages on disk (--persistent=false: need not)"},
			&cli.BoolFlag{Name: "mandatory", Value: true, Usage: "fail if no queue takes a message (--mandatory=false: drop it)"},
			&cli.BoolFlag{Name: "confirm", Value: true, Usage: "wait for the broker's confirms (--confirm=false: fire and forget)"},
			&cli.IntFlag{Name: "window", Value: 200, Usage: "at most `N` messages unconfirmed at a time, 4000 at most"},
			&cli.DurationFlag{Name: "timeout", Value: 30 * time.Second, Usage: "give up after `TIME` without a confirm; 0 waits forever"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no progress, no summary"},
		),
		Action: publish,
	}
}

func publish(c *cli.Context) error {
	p, args, err := newPublisher(c)
	if err != nil {
		return err
	}
	bodies, total, err := newBodies(c, args)
	if err != nil {
		return err
	}
	defer bodies.close()
	return withClient(c, client.Publishing, func(connected *client.Client) error {
		if c.Bool("declare") {
			if p.exchange != "" {
				return usage("--declare declares a queue; it makes no sense with --exchange")
			}
			if err := connected.Declare(c.Context, client.Queue{Name: p.key}); err != nil {
				return err
			}
		}
		bar := startProgress(c.App.ErrWriter, !c.Bool("quiet"), total, &p.sent, &p.settled)
		started := time.Now()
		err := p.run(c.Context, connected, bodies)
		bar.stop()
		if !c.Bool("quiet") {
			p.summarize(c.App.ErrWriter, time.Since(started))
		}
		return err
	})
}

// newPublisher reads the flags that say what a message is and where it goes,
// and returns the arguments that are left for the body.
func newPublisher(c *cli.Context) (*publisher, []string, error) {
	args := c.Args().Slice()
	p := &publisher{
		exchange: c.String("exchange"), key: c.String("routing-key"),
		confirm: c.Bool("confirm"), window: c.Int("window"), rate: c.Float64("rate"), timeout: c.Duration("timeout"),
	}
	if !c.IsSet("exchange") && !c.IsSet("routing-key") {
		if len(args) == 0 {
			return nil, nil, usage("publish where? name a queue, or --exchange and --routing-key")
		}
		p.key, args = args[0], args[1:]
	}
	if p.window < 1 {
		return nil, nil, usage("--window %d: at least 1", p.window)
	}
	if p.rate < 0 {
		return nil, nil, usage("--rate %v: not below 0", p.rate)
	}
	if priority := c.Uint("priority"); priority > 255 {
		return nil, nil, usage("--priority %d: from 0 to 255", priority)
	}
	headers, err := parseTable("header", c.StringSlice("header"))
	if err != nil {
		return nil, nil, err
	}
	p.template = client.Message{
		Headers: headers, ContentType: c.String("content-type"), ContentEncoding: c.String("content-encoding"),
		CorrelationID: c.String("correlation-id"), ReplyTo: c.String("reply-to"), MessageID: c.String("message-id"),
		Type: c.String("type"), AppID: c.String("app-id"), Priority: uint8(c.Uint("priority")),
		TTL: c.Duration("expiration"), Transient: !c.Bool("persistent"), DropUnroutable: !c.Bool("mandatory"),
	}
	return p, args, nil
}
