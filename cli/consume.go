package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"
)

const (
	// idleTime is how long no message must come until the queue is asked
	// whether it is empty.
	idleTime    = 50 * time.Millisecond
	consumerTag = "mirrormq-consume"
	// ackDelay is how long acknowledgements wait for more of them.
	ackDelay = 5 * time.Millisecond
)

// settleFlags choose what becomes of a message that was printed.
func settleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "ack", Usage: "acknowledge what was printed: it leaves the queue (the default)"},
		&cli.BoolFlag{Name: "requeue", Usage: "put everything back at the end: just look"},
		&cli.BoolFlag{Name: "no-ack", Usage: "let the broker forget messages as it sends them; faster, unsafe"},
	}
}

func settleMode(c *cli.Context) (requeue, noAck bool, err error) {
	requeue, noAck = c.Bool("requeue"), c.Bool("no-ack")
	if requeue && noAck || c.Bool("ack") && (requeue || noAck) {
		return false, false, usage("choose one of --ack, --requeue and --no-ack")
	}
	return requeue, noAck, nil
}

func consumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "consume",
		Usage:     "print a queue's messages and acknowledge them",
		ArgsUsage: "QUEUE",
		Description: `Ends when the queue is empty; with --count after so many messages, waiting for
them; with --follow when interrupted. A message is acknowledged once it has
been written to standard output: what the command did not get to print goes
back to the queue.

Examples:
   mirrormq consume orders
   mirrormq consume orders --follow | while read -r order; do …; done
   mirrormq consume orders --count 10 --timeout 5s --output json
   mirrormq consume orders --requeue          (look, and leave all in place)
   mirrormq consume blobs --count 1 --output raw > blob.bin`,
		Flags: amqpFlags(append(settleFlags(),
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "end after `N` messages"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for more until interrupted"},
			&cli.IntFlag{Name: "prefetch", Aliases: []string{"p"}, Value: 200, Usage: "at most `N` messages on their way; 0 is no bound"},
			&cli.BoolFlag{Name: "exclusive", Usage: "be the queue's only consumer"},
			&cli.DurationFlag{Name: "timeout", Usage: "give up after `TIME` without a message"},
			&cli.StringSliceFlag{Name: "arg", Usage: "consumer argument `NAME=TEXT` or NAME:=JSON, repeatable"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no summary"},
			outputFlag(),
		)...),
		Action: consume,
	}
}

// consumer prints deliveries and settles them.
type consumer struct {
	session  *session
	printer  *printer
	queue    string
	count    int64 // 0 is no bound
	follow   bool
	requeue  bool
	noAck    bool
	batch    int64 // acknowledge at the latest after so many
	timeout  time.Duration
	received int64
	unacked  int64
	last     uint64 // delivery tag of the last message printed
	started  time.Time
	lastAt   time.Time // when the last message came
}

func consume(c *cli.Context) error {
	args, err := positional(c, "a queue")
	if err != nil {
		return err
	}
	k := &consumer{queue: args[0], count: int64(c.Int("count")), follow: c.Bool("follow"), timeout: c.Duration("timeout")}
	if c.IsSet("count") && k.count < 1 {
		return usage("--count %d: at least 1", k.count)
	}
	prefetch := c.Int("prefetch")
	if prefetch < 0 || prefetch > 65535 {
		return usage("--prefetch %d: from 0 to 65535", prefetch)
	}
	if k.requeue, k.noAck, err = settleMode(c); err != nil {
		return err
	}
	if k.printer, err = newPrinter(c); err != nil {
		return err
	}
	arguments, err := parseTable("arg", c.StringSlice("arg"))
	if err != nil {
		return err
	}
	if k.requeue {
		prefetch = 0 // All are held until the end.
	}
	if k.count > 0 && (prefetch == 0 || k.count < int64(prefetch)) {
		prefetch = int(min(k.count, 65535))
		if k.requeue && k.count > 65535 {
			prefetch = 0
		}
	}
	k.batch = max(1, int64(prefetch)/2)
	return withSession(c, func(s *session) error {
		k.session = s
		k.started = time.Now()
		err := k.run(c.Context, prefetch, c.Bool("exclusive"), arguments)
		if !c.Bool("quiet") && (err == nil || k.received > 0) {
			_, _ = fmt.Fprintln(c.App.ErrWriter, k.summary())
		}
		return err
	})
}

func (k *consumer) run(ctx context.Context, prefetch int, exclusive bool, arguments amqp.Table) error {
	closed := k.session.NotifyClose(make(chan *amqp.Error, 1))
	if err := k.session.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := k.session.Consume(k.queue, consumerTag, k.noAck, exclusive, false, false, arguments)
	if err != nil {
		return err
	}
	err = k.loop(ctx, deliveries)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil // Whoever read has had enough (| head); the rest goes back.
	}
	if err != nil {
		return reason(closed, err)
	}
	if err := k.settle(k.requeue); err != nil {
		return reason(closed, err)
	}
	// Closing the channel is answered after all that came before: the acks have
	// arrived, and what was fetched but not printed is back in the queue.
	return k.session.Channel.Close()
}

// loop prints messages until there is a reason to end: nil after Ctrl-C, after
// count messages, or when the queue is empty.
func (k *consumer) loop(ctx context.Context, deliveries <-chan amqp.Delivery) error {
	idle, late, ack := newTimer(idleTime), newTimer(k.timeout), newTimer(0)
	defer idle.stop()
	defer late.stop()
	defer ack.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d, ok := <-deliveries:
			if !ok {
				return fail(exitNotFound, "it was deleted, or its broker stopped", "the broker cancelled the consumer of queue %q", k.queue)
			}
			if err := k.take(&d); err != nil {
				return err
			}
			if k.count > 0 && k.received >= k.count {
				return nil
			}
			idle.reset(idleTime)
			late.reset(k.timeout)
			ack.reset(ackDelay)
		case <-ack.expired():
			if err := k.settle(false); err != nil {
				return err
			}
		case <-idle.expired():
			if k.follow || k.count > 0 {
				continue
			}
			q, err := k.session.QueueDeclarePassive(k.queue, false, false, false, false, nil)
			if err != nil {
				return err
			}
			if q.Messages == 0 {
				return k.drain(deliveries)
			}
			idle.reset(idleTime)
		case <-late.expired():
			if k.follow {
				return nil
			}
			return fail(exitTimeout, "", "no message for %v; %s received", k.timeout, plural(k.received, "message"))
		}
	}
}

// drain ends the consumer and prints what was on its way: the answer to a
// cancel comes behind the last delivery, and then the library closes the
// channel. A large message may well take longer than idleTime to arrive.
func (k *consumer) drain(deliveries <-chan amqp.Delivery) error {
	if err := k.session.Cancel(consumerTag, false); err != nil {
		return err
	}
	for d := range deliveries {
		if err := k.take(&d); err != nil {
			return err
		}
	}
	return nil
}

// take prints a message, and acknowledges when enough wait for it.
func (k *consumer) take(d *amqp.Delivery) error {
	if err := k.printer.print(d, nil); err != nil {
		return err
	}
	k.received++
	k.unacked++
	k.last = d.DeliveryTag
	k.lastAt = time.Now()
	if k.unacked >= k.batch {
		return k.settle(false)
	}
	return nil
}

// settle hands what was printed to its reader and then acknowledges it, or puts
// it back. In requeue mode nothing is settled before the end.
func (k *consumer) settle(requeue bool) error {
	if err := k.printer.flush(); err != nil {
		return err
	}
	if k.noAck || k.unacked == 0 || k.requeue && !requeue {
		return nil
	}
	k.unacked = 0
	if requeue {
		return k.session.Nack(k.last, true, true)
	}
	return k.session.Ack(k.last, true)
}

// summary leaves out the time that was spent waiting after the last message.
func (k *consumer) summary() string {
	took := k.lastAt.Sub(k.started)
	verb := "acknowledged"
	switch {
	case k.requeue:
		verb = "put back"
	case k.noAck:
		verb = "received"
	}
	text := fmt.Sprintf("%s %s", plural(k.received, "message"), verb)
	if k.received > 1 {
		text += fmt.Sprintf(" in %v (%s)", took.Round(time.Millisecond), perSecond(k.received, took))
	}
	return text
}
