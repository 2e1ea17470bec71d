package main

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"
)

func argFlag(of string) cli.Flag {
	return &cli.StringSliceFlag{Name: "arg", Usage: of + " argument `NAME=TEXT` or NAME:=JSON, repeatable"}
}

func declareCommand() *cli.Command {
	return &cli.Command{
		Name:  "declare",
		Usage: "create a queue or an exchange",
		Subcommands: []*cli.Command{{
			Name: "queue", Usage: "create a queue, or check that it has these properties", ArgsUsage: "NAME",
			Description: `Examples:
   mirrormq declare queue orders
   mirrormq declare queue orders --type quorum --ack-quorum all
   mirrormq declare queue recent --arg x-max-length:=1000
   mirrormq declare queue orders --passive        (only check that it exists)`,
			Flags: amqpFlags(
				&cli.StringFlag{Name: "type", Usage: "`TYPE`: classic or quorum; here both are mirrored"},
				&cli.StringFlag{Name: "ack-quorum", Usage: "confirm publishes at `QUORUM`: leader, a number, majority or all"},
				&cli.BoolFlag{Name: "transient", Usage: "not durable: gone with the broker"},
				&cli.BoolFlag{Name: "auto-delete", Usage: "delete with the last consumer"},
				&cli.BoolFlag{Name: "passive", Usage: "don't create it; exit code 4 if it is missing"},
				argFlag("queue"),
			),
			Action: declareQueue,
		}, {
			Name: "exchange", Usage: "create an exchange, or check that it has these properties", ArgsUsage: "NAME",
			Description: `Examples:
   mirrormq declare exchange logs --type topic
   mirrormq declare exchange orders --type direct --arg alternate-exchange=unrouted`,
			Flags: amqpFlags(
				&cli.StringFlag{Name: "type", Value: "direct", Usage: "`TYPE`: direct, fanout, topic, headers"},
				&cli.BoolFlag{Name: "transient", Usage: "not durable: gone with the broker"},
				&cli.BoolFlag{Name: "auto-delete", Usage: "delete with the last binding"},
				&cli.BoolFlag{Name: "internal", Usage: "reached through bindings only, not by publishers"},
				&cli.BoolFlag{Name: "passive", Usage: "don't create it; exit code 4 if it is missing"},
				argFlag("exchange"),
			),
			Action: declareExchange,
		}},
	}
}

// say tells a person what was done.
func say(c *cli.Context, format string, args ...any) {
	_, _ = fmt.Fprintf(c.App.ErrWriter, format+"\n", args...)
}

func declareQueue(c *cli.Context) error {
	args, err := positional(c, "a queue's name")
	if err != nil {
		return err
	}
	table, err := parseTable("arg", c.StringSlice("arg"))
	if err != nil {
		return err
	}
	for flag, argument := range map[string]string{"type": "x-queue-type", "ack-quorum": "x-ack-quorum"} {
		if c.IsSet(flag) {
			if table == nil {
				table = amqp.Table{}
			}
			table[argument] = c.String(flag)
		}
	}
	return withSession(c, func(s *session) error {
		declare := s.QueueDeclare
		if c.Bool("passive") {
			declare = s.QueueDeclarePassive
		}
		q, err := declare(args[0], !c.Bool("transient"), c.Bool("auto-delete"), false, false, table)
		if err != nil {
			return err
		}
		if args[0] == "" { // The broker made a name up: that is the result.
			_, err := fmt.Fprintln(c.App.Writer, q.Name)
			return err
		}
		say(c, "queue %q: %s, %s", q.Name, plural(int64(q.Messages), "message"), plural(int64(q.Consumers), "consumer"))
		return nil
	})
}

func declareExchange(c *cli.Context) error {
	args, err := positional(c, "an exchange's name")
	if err != nil {
		return err
	}
	table, err := parseTable("arg", c.StringSlice("arg"))
	if err != nil {
		return err
	}
	return withSession(c, func(s *session) error {
		declare := s.ExchangeDeclare
		if c.Bool("passive") {
			declare = s.ExchangeDeclarePassive
		}
		kind := c.String("type")
		if err := declare(args[0], kind, !c.Bool("transient"), c.Bool("auto-delete"), c.Bool("internal"), false, table); err != nil {
			return err
		}
		say(c, "exchange %q (%s)", args[0], kind)
		return nil
	})
}

func bindFlags() []cli.Flag {
	return amqpFlags(
		&cli.StringFlag{Name: "routing-key", Aliases: []string{"k"}, Usage: "`KEY` or pattern"},
		&cli.BoolFlag{Name: "to-exchange", Usage: "the destination is an exchange"},
		argFlag("binding"),
	)
}

func bindCommand() *cli.Command {
	return &cli.Command{
		Name: "bind", Usage: "route messages from an exchange to a queue or another exchange", ArgsUsage: "EXCHANGE DESTINATION",
		Description: `Examples:
   mirrormq bind logs errors --routing-key '*.error'
   mirrormq bind amq.headers big --arg x-match=all --arg size:=5
   mirrormq bind logs archive --to-exchange --routing-key '#'`,
		Flags: bindFlags(),
		Action: func(c *cli.Context) error {
			return bind(c, "bound to", (*amqp.Channel).ExchangeBind,
				func(ch *amqp.Channel, queue, key, exchange string, noWait bool, t amqp.Table) error {
					return ch.QueueBind(queue, key, exchange, noWait, t)
				})
		},
	}
}

func unbindCommand() *cli.Command {
	return &cli.Command{
		Name: "unbind", Usage: "remove a binding", ArgsUsage: "EXCHANGE DESTINATION",
		Description: `The routing key and arguments must be those of the binding. A binding that is
not there is no error.

Examples:
   mirrormq unbind logs errors --routing-key '*.error'`,
		Flags: bindFlags(),
		Action: func(c *cli.Context) error {
			return bind(c, "unbound from", (*amqp.Channel).ExchangeUnbind,
				func(ch *amqp.Channel, queue, key, exchange string, _ bool, t amqp.Table) error {
					return ch.QueueUnbind(queue, key, exchange, t)
				})
		},
	}
}

type bindFunc func(ch *amqp.Channel, destination, key, source string, noWait bool, t amqp.Table) error

func bind(c *cli.Context, verb string, exchange, queue bindFunc) error {
	args, err := positional(c, "an exchange", "a queue (or, with --to-exchange, an exchange)")
	if err != nil {
		return err
	}
	table, err := parseTable("arg", c.StringSlice("arg"))
	if err != nil {
		return err
	}
	call, kind := queue, "queue"
	if c.Bool("to-exchange") {
		call, kind = exchange, "exchange"
	}
	return withSession(c, func(s *session) error {
		if err := call(s.Channel, args[1], c.String("routing-key"), args[0], false, table); err != nil {
			return err
		}
		say(c, "%s %q %s exchange %q, routing key %q", kind, args[1], verb, args[0], c.String("routing-key"))
		return nil
	})
}

func purgeCommand() *cli.Command {
	return &cli.Command{
		Name: "purge", Usage: "drop all messages that wait in a queue", ArgsUsage: "QUEUE",
		Description: `Messages that were delivered and not yet acknowledged stay.

Examples:
   mirrormq purge orders`,
		Flags: amqpFlags(),
		Action: func(c *cli.Context) error {
			args, err := positional(c, "a queue")
			if err != nil {
				return err
			}
			return withSession(c, func(s *session) error {
				n, err := s.QueuePurge(args[0], false)
				if err != nil {
					return err
				}
				say(c, "%s dropped from queue %q", plural(int64(n), "message"), args[0])
				return nil
			})
		},
	}
}

func deleteCommand() *cli.Command {
	unused := &cli.BoolFlag{Name: "if-unused", Usage: "only if nothing uses it"}
	ifExists := &cli.BoolFlag{Name: "if-exists", Usage: "a missing one is no error"}
	return &cli.Command{
		Name: "delete", Usage: "delete a queue or an exchange",
		Subcommands: []*cli.Command{{
			Name: "queue", Usage: "delete a queue and its messages", ArgsUsage: "NAME",
			Description: `Examples:
   mirrormq delete queue orders --if-empty --if-unused`,
			Flags:  amqpFlags(unused, ifExists, &cli.BoolFlag{Name: "if-empty", Usage: "only if no message waits in it"}),
			Action: deleteQueue,
		}, {
			Name: "exchange", Usage: "delete an exchange and its bindings", ArgsUsage: "NAME",
			Description: `Examples:
   mirrormq delete exchange logs`,
			Flags:  amqpFlags(unused, ifExists),
			Action: deleteExchange,
		}},
	}
}

// exists runs a passive declare on a channel of its own, which an error
// closes. AMQP's delete is silent about what was not there; a person who
// mistyped a name should know.
func exists(s *session, passive func(*amqp.Channel) error) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return err
	}
	if err := passive(ch); err != nil {
		return err
	}
	return ch.Close()
}

func deleteQueue(c *cli.Context) error {
	args, err := positional(c, "a queue's name")
	if err != nil {
		return err
	}
	return withSession(c, func(s *session) error {
		err := exists(s, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclarePassive(args[0], false, false, false, false, nil)
			return err
		})
		if gone, err := missing(c, err); gone || err != nil {
			return err
		}
		n, err := s.QueueDelete(args[0], c.Bool("if-unused"), c.Bool("if-empty"), false)
		if err != nil {
			return err
		}
		say(c, "queue %q deleted, with %s", args[0], plural(int64(n), "message"))
		return nil
	})
}

func deleteExchange(c *cli.Context) error {
	args, err := positional(c, "an exchange's name")
	if err != nil {
		return err
	}
	return withSession(c, func(s *session) error {
		err := exists(s, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(args[0], "direct", false, false, false, false, nil)
		})
		if gone, err := missing(c, err); gone || err != nil {
			return err
		}
		if err := s.ExchangeDelete(args[0], c.Bool("if-unused"), false); err != nil {
			return err
		}
		say(c, "exchange %q deleted", args[0])
		return nil
	})
}

// missing says whether err is that of a thing that isn't there and need not be.
func missing(c *cli.Context, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	f := classify(err)
	if f.code != exitNotFound {
		return false, err
	}
	f.hint = "" // To declare it in order to delete it is no advice.
	if c.Bool("if-exists") {
		say(c, "nothing to delete: %v", f)
		return true, nil
	}
	return false, f
}

// shellWord is a word as a shell would take it.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/:@%+,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
