package main

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"
)

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "take one message (or --count) from a queue without waiting",
		ArgsUsage: "QUEUE",
		Description: `Exit code 7 says that the queue holds no message.

Examples:
   mirrormq get orders
   mirrormq get orders --requeue --output json     (look at the first one)
   while order=$(mirrormq get orders -q); do …; done`,
		Flags: amqpFlags(append(settleFlags(),
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Value: 1, Usage: "at most `N` messages"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "don't tell how many are left"},
			outputFlag(),
		)...),
		Action: get,
	}
}

func get(c *cli.Context) error {
	args, err := positional(c, "a queue")
	if err != nil {
		return err
	}
	queue, count := args[0], c.Int("count")
	if count < 1 {
		return usage("--count %d: at least 1", count)
	}
	requeue, noAck, err := settleMode(c)
	if err != nil {
		return err
	}
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	return withSession(c, func(s *session) error {
		var last amqp.Delivery
		n := 0
		for ; n < count; n++ {
			d, ok, err := s.Get(queue, noAck)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := p.print(&d, &d.MessageCount); err != nil {
				return err
			}
			last = d
		}
		if n == 0 {
			return fail(exitEmpty, "", "queue %q holds no message", queue)
		}
		if err := p.flush(); err != nil {
			return err
		}
		if err := settleAll(s, last.DeliveryTag, requeue, noAck); err != nil {
			return err
		}
		if !c.Bool("quiet") {
			_, _ = fmt.Fprintf(c.App.ErrWriter, "%s, %d left in the queue\n", plural(int64(n), "message"), last.MessageCount)
		}
		return nil
	})
}

// settleAll settles everything up to a tag. Closing the channel waits until
// the broker has done so.
func settleAll(s *session, tag uint64, requeue, noAck bool) error {
	var err error
	switch {
	case noAck:
	case requeue:
		err = s.Nack(tag, true, true)
	default:
		err = s.Ack(tag, true)
	}
	if err != nil {
		return err
	}
	return s.Channel.Close()
}
