package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/bench/procstat"
	benchreport "github.com/mirrormq/mirrormq/bench/report"
)

// PinnedReport is what Pinned measured.
type PinnedReport struct {
	// Run is the traffic that went past the held message.
	Run benchreport.Report
	// Bytes is the sum of its bodies.
	Bytes int64
	// Peak is the largest size of the data directory during the traffic, End
	// the size right after it, Settled the size a while later.
	Peak, End, Settled int64
}

// Write prints the report for a person.
func (r PinnedReport) Write(w io.Writer) error {
	if err := r.Run.Write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "  disk         %s went past one unacked message; data directory: peak %s, at the end %s, settled %s\n",
		procstat.MiB(r.Bytes), procstat.MiB(r.Peak), procstat.MiB(r.End), procstat.MiB(r.Settled))
	return err
}

// Pinned holds one old unacked message while the scenario's traffic, of at
// least the given bytes, is published and consumed past it through the same
// queue, and looks at the size of the broker's data directory. In the end the
// held message must still be there. settle is the time that the broker gets
// to clean up before the last look.
func Pinned(ctx context.Context, target Target, dataDir string, bytes int64, scenario Scenario, settle time.Duration) (PinnedReport, error) {
	scenario.Name, scenario.Queues = "pinned", 1
	scenario.WarmUp, scenario.Duration = 0, 0
	size := scenario.Sizes.Largest()
	scenario.Count = int((bytes + int64(size) - 1) / int64(max(size, 1)))
	r, err := newRun(scenario)
	if err != nil {
		return PinnedReport{}, err
	}
	report := PinnedReport{Bytes: int64(r.Count) * int64(size)}
	err = r.withQueues(target, func() error {
		holder, err := openHolder(target.URLs[0])
		if err != nil {
			return err
		}
		defer holder.close()
		held, err := holder.hold(r.queueName(0))
		if err != nil {
			return err
		}
		if err := r.pastPinned(ctx, target, dataDir, &report); err != nil {
			return err
		}
		if err := settled(ctx, dataDir, settle, &report); err != nil {
			return err
		}
		return holder.stillHeld(r.queueName(0), held)
	})
	return report, errors.Join(err, fault(report.Run))
}

// pastPinned plays the run while it samples the directory.
func (r *run) pastPinned(ctx context.Context, target Target, dataDir string, report *PinnedReport) error {
	type result struct {
		report benchreport.Report
		err    error
	}
	played := make(chan result, 1)
	go func() {
		run, err := r.play(ctx, target)
		played <- result{run, err}
	}()
	sample := time.NewTicker(200 * time.Millisecond)
	defer sample.Stop()
	for {
		select {
		case <-sample.C:
			// An unreadable directory shows at the end.
			if size, err := directorySize(dataDir); err == nil {
				report.Peak = max(report.Peak, size)
			}
		case done := <-played:
			report.Run = done.report
			if done.err != nil {
				return done.err
			}
			var err error
			report.End, err = directorySize(dataDir)
			report.Peak = max(report.Peak, report.End)
			return err
		}
	}
}

func settled(ctx context.Context, dataDir string, settle time.Duration, report *PinnedReport) error {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	report.Settled, err = directorySize(dataDir)
	return err
}

// pinnedBody is what the held message says.
const pinnedBody = "the old message that a consumer holds"

// holder is a connection that holds a message.
type holder struct {
	conn *amqp.Connection
	ch   *amqp.Channel
}

func openHolder(url string) (*holder, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("bench: connect: %w", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: open channel: %w", err), conn.Close())
	}
	return &holder{conn: conn, ch: ch}, nil
}

// close says goodbye; by then nothing depends on how that goes.
func (h *holder) close() { _ = h.conn.Close() }

// hold publishes a message and takes it without acking.
func (h *holder) hold(queue string) (amqp.Delivery, error) {
	if err := h.ch.Confirm(false); err != nil {
		return amqp.Delivery{}, fmt.Errorf("bench: confirm.select: %w", err)
	}
	confirm, err := h.ch.PublishWithDeferredConfirm("", queue, false, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(pinnedBody)})
	if err != nil {
		return amqp.Delivery{}, fmt.Errorf("bench: publish: %w", err)
	}
	if !confirm.Wait() {
		return amqp.Delivery{}, errors.New("bench: the message to hold was nacked")
	}
	held, ok, err := h.ch.Get(queue, false)
	if err != nil || !ok {
		return held, fmt.Errorf("bench: get the message to hold (found: %t): %w", ok, err)
	}
	return held, nil
}

// stillHeld gives the held message back and takes it again.
func (h *holder) stillHeld(queue string, held amqp.Delivery) error {
	if err := held.Nack(false, true); err != nil {
		return fmt.Errorf("bench: requeue the held message: %w", err)
	}
	again, ok, err := h.ch.Get(queue, true)
	if err != nil {
		return fmt.Errorf("bench: get the held message: %w", err)
	}
	if !ok || string(again.Body) != pinnedBody || !again.Redelivered {
		return fmt.Errorf("%w: the held message did not come back (found %t, redelivered %t)", ErrVerification, ok, again.Redelivered)
	}
	return nil
}
