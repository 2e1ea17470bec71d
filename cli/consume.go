package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/client"
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
back to the queue. When its broker is lost it goes on with another one of --url;
what was printed and not yet acknowledged then is printed again.

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
	client   *client.Client
	printer  *printer
	queue    string
	count    int64 // 0 is no bound
	follow   bool
	requeue  bool
	noAck    bool
	timeout  time.Duration
	received int64
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
	return withClient(c, client.Consuming, func(connected *client.Client) error {
		k.client = connected
		k.started = time.Now()
		err := k.run(c.Context, prefetch, c.Bool("exclusive"), arguments)
		if !c.Bool("quiet") && (err == nil || k.received > 0) {
			_, _ = fmt.Fprintln(c.App.ErrWriter, k.summary())
		}
		return err
	})
}

// errLate says that no message came for as long as --timeout allows.
var errLate = errors.New("no message in time")

// run prints messages until there is a reason to end: nil after Ctrl-C, after
// count messages, or when the queue is empty.
func (k *consumer) run(ctx context.Context, prefetch int, exclusive bool, arguments client.Headers) error {
	config := client.ConsumerConfig{
		Name: "mirrormq-consume", Prefetch: prefetch, Exclusive: exclusive, NoAck: k.noAck, Arguments: arguments,
		UntilEmpty: !k.follow && k.count == 0,
	}
	if prefetch == 0 {
		config.Prefetch = -1
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if k.timeout > 0 {
		late := time.AfterFunc(k.timeout, func() { cancel(errLate) })
		defer late.Stop()
		err := k.loop(ctx, config, func() { late.Reset(k.timeout) })
		if err == nil && context.Cause(ctx) == errLate && !k.follow {
			return fail(exitTimeout, "", "no message for %v; %s received", k.timeout, plural(k.received, "message"))
		}
		return err
	}
	return k.loop(ctx, config, func() {})
}

// loop prints messages and acknowledges each once it is printed. What it does
// not acknowledge goes back to the queue when it ends; so --requeue does nothing.
func (k *consumer) loop(ctx context.Context, config client.ConsumerConfig, came func()) error {
	for d, err := range k.client.Deliveries(ctx, k.queue, config) {
		if err != nil {
			return err
		}
		came()
		if err := k.take(d); errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
			return nil // Whoever read has had enough (| head); the rest goes back.
		} else if err != nil {
			return err
		}
		if k.count > 0 && k.received >= k.count {
			return nil
		}
	}
	return nil
}

// take prints a message and then acknowledges it.
func (k *consumer) take(d *client.Delivery) error {
	if err := k.printer.delivery(d); err != nil {
		return err
	}
	if err := k.printer.flush(); err != nil {
		return err
	}
	k.received++
	k.lastAt = time.Now()
	if k.requeue {
		return nil
	}
	if err := d.Ack(); err != nil && !errors.Is(err, client.ErrStale) {
		return err // A stale one comes again.
	}
	return nil
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
