package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// exitDamaged is the exit status of a broker whose log is damaged.
const exitDamaged = 9

// What was synced and is no longer what was written keeps a broker from
// starting. The others go on.
func TestAByteOfTheTailFlips(t *testing.T) {
	onlyLong(t)
	r := start(t, 3, quorum("majority"))
	at := &spot{}
	r.play(Fault{
		"started with a damaged log",
		func(ctx context.Context, c *Cluster, b *Broker) error {
			c.Kill(b)
			segments, err := b.segments()
			if err != nil {
				return err
			}
			at.file = segments[len(segments)-1]
			info, err := os.Stat(at.file)
			if err != nil {
				return err
			}
			at.offset = info.Size() / 2
			if err := at.flip(); err != nil {
				return err
			}
			if err := b.Launch(); err != nil {
				return err
			}
			return b.endsDamaged(ctx, at)
		},
		at.mend,
	}, r.leader(), time.Second)
	r.judge()
}

// Damage of a segment that is not read at the start is found when the message is
// to be delivered. It never is, from there: the broker ends, and the others
// deliver it.
func TestAByteOfAWaitingMessageFlips(t *testing.T) {
	const count, size = 600, 16 << 10 // more than a segment of the log holds
	r := start(t, 3, quorum("majority"))
	b := r.mirror()
	other := r.cluster.Mirrors(b)[0]
	publisher := r.session(other)
	queue, err := publisher.QueueDeclare("beside", true, false, false, false, quorum("majority"))
	r.must(err)
	bodies, got := numbered(count, size), make([]bool, count)
	r.publish(publisher, queue.Name, bodies...)
	at := &spot{}
	r.play(Fault{
		"serving with a damaged log",
		func(ctx context.Context, c *Cluster, b *Broker) error {
			err := c.Stop(ctx, b)
			if err == nil {
				*at, err = b.find(fmt.Appendf(nil, "<body of message %d>", count/10))
			}
			if err == nil {
				err = at.flip()
			}
			if err == nil {
				err = c.Restart(ctx, b)
			}
			if err != nil {
				return err
			}
			c.fault("serving with a damaged log", b)
			b.expectEnd()
			r.take(r.session(b), queue.Name, bodies, got)
			if !slices.Contains(got, false) {
				return errors.New("it has delivered all that waited")
			}
			return b.endsDamaged(ctx, at)
		},
		at.mend,
	}, b, time.Second)
	r.take(r.session(other), queue.Name, bodies, got)
	if slices.Contains(got, false) {
		r.fail(fmt.Errorf("message %d is lost", slices.Index(got, false)))
	}
	r.judge()
}

// numbered is bodies that say which they are, of about size bytes.
func numbered(count, size int) [][]byte {
	bodies := make([][]byte, count)
	for i := range bodies {
		bodies[i] = bytes.Repeat(fmt.Appendf(nil, "<body of message %d>", i), size/24)
	}
	return bodies
}

// take consumes a queue until it has all of got or the connection ends, and
// marks what it acked. What comes has to be as it was published.
func (r *run) take(s *session, queue string, bodies [][]byte, got []bool) {
	r.t.Helper()
	r.must(s.Qos(10, 0, false))
	deliveries, err := s.Consume(queue, "", false, false, false, false, nil)
	r.must(err)
	for slices.Contains(got, false) {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return
			}
			var i int
			if _, err := fmt.Sscanf(string(d.Body), "<body of message %d>", &i); err != nil || i >= len(got) || !bytes.Equal(d.Body, bodies[i]) {
				r.fail(fmt.Errorf("a damaged message: %.50q (%v)", d.Body, err))
			}
			// An ack that is lost with the connection is no ack.
			if d.Ack(false) == nil {
				got[i] = true
			}
		case <-time.After(drainTime):
			return
		}
	}
}

// spot is a byte of a file.
type spot struct {
	file   string
	offset int64
}

// flip turns a bit over; a second time it mends it.
func (s *spot) flip() error {
	f, err := os.OpenFile(s.file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], s.offset)
	if err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b[:], s.offset)
	}
	return errors.Join(err, f.Close())
}

func (s *spot) mend(ctx context.Context, c *Cluster, b *Broker) error {
	return errors.Join(s.flip(), c.Restart(ctx, b))
}

// endsDamaged waits until the process has ended because of its log.
func (b *Broker) endsDamaged(ctx context.Context, at *spot) error {
	b.mu.Lock()
	p := b.mu.process
	b.mu.Unlock()
	p.expect()
	ctx, cancel := context.WithTimeout(ctx, drainTime) // Compaction finds it too, later.
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("%s goes on with a damaged log", b.Name)
	}
	if code := p.command.ProcessState.ExitCode(); code != exitDamaged {
		return fmt.Errorf("%s ended with exit status %d", b.Name, code)
	}
	if said := b.Tail(8192); !strings.Contains(said, "log: damaged: "+at.file) {
		return fmt.Errorf("%s did not say that %s is damaged:\n%s", b.Name, at.file, said)
	}
	b.timeline.Note("%s has ended", b.Name)
	return nil
}

// segments are the files of a broker's log, oldest first.
func (b *Broker) segments() ([]string, error) {
	segments, err := filepath.Glob(filepath.Join(b.Data, "log", "wal", "*"))
	if err == nil && len(segments) == 0 {
		err = fmt.Errorf("%s has no log", b.Name)
	}
	slices.Sort(segments)
	return segments, err
}

// find returns where a text lies in a segment that is not the newest.
func (b *Broker) find(text []byte) (spot, error) {
	segments, err := b.segments()
	if err != nil {
		return spot{}, err
	}
	for _, file := range segments[:len(segments)-1] {
		content, err := os.ReadFile(file)
		if err != nil {
			return spot{}, err
		}
		if at := bytes.Index(content, text); at >= 0 {
			return spot{file, int64(at)}, nil
		}
	}
	return spot{}, fmt.Errorf("%q is in none of the %d sealed segments of %s", text, len(segments)-1, b.Name)
}
