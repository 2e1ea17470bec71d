package queue

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// Every field that the builders write is read back.
func TestBatchIsReadAsItWasBuilt(t *testing.T) {
	ranges := []entry.Range{{First: 7, Last: 9}, {First: 1, Last: 1 << 40}}
	ops := AppendEnqueue(nil, []entry.QueueID{3, 1 << 63}, 5)
	ops = append(ops, "hello"...)
	ops = AppendSettle(ops, 4, ranges)
	ops = AppendReturn(ops, 5, nil)
	ops = AppendCreate(ops, 6, Settings{Vhost: "/", Name: "orders", AckQuorum: "majority", Expires: true, MessageTTL: 3 * time.Second})
	ops = AppendDelete(ops, 7, true)
	ops = AppendPurge(ops, 8, 300, ranges)
	ops = AppendMark(ops, 9, 1<<33)
	ops = AppendEndSession(ops, 10)
	ops = append(AppendEnqueueExpiring(ops, 1500*time.Microsecond, []entry.QueueID{3}, 1), '!')
	ops = AppendEnqueueExpiring(ops, -time.Second, nil, 0)
	ops = AppendEnqueueExpiring(ops, 1<<63-1, nil, 0)
	ops = append(AppendEnqueue(AppendOnce(ops, "/", []byte("p-1"), 300), []entry.QueueID{3, 4}, 1), '?')
	ops = AppendEnqueueExpiring(AppendOnce(ops, "", []byte("p"), MaxSequence), time.Second, nil, 0)
	payload := AppendSubmission(AppendBatch(nil, -5), 11, 1000, ops)
	payload = AppendSubmission(payload, 12, 0, nil)

	var b Batch
	var op Op
	var got []string
	must(b.Open(payload))
	for b.NextSubmission() {
		got = append(got, fmt.Sprintf("at %d session %d seq %d", b.Now, b.Session, b.Seq))
		for b.NextOp(&op) {
			if op.Sequence > 0 {
				vhost, producer := op.Producer()
				got = append(got, fmt.Sprintf("%d of %s in %q", op.Sequence, producer, vhost))
			}
			switch op.Kind {
			case Enqueue:
				got = append(got, fmt.Sprint(op.Kind, op.Queues(), op.QueueAt(0), op.QueueAt(1), string(payload[op.Offset:op.Offset+op.Size])))
			case EnqueueExpiring:
				got = append(got, fmt.Sprint(op.Kind, op.Lifetime, op.Queues(), string(payload[op.Offset:op.Offset+op.Size])))
			case Create:
				s, err := op.Settings()
				got = append(got, fmt.Sprint(op.Kind, op.Queue, s, err))
			case EndSession:
				got = append(got, fmt.Sprint(op.Kind, op.Session))
			default:
				got = append(got, fmt.Sprint(op.Kind, op.Queue))
				if slices.Contains([]Kind{Settle, Return, Purge}, op.Kind) {
					got = append(got, fmt.Sprint(op.Ranges))
				}
			}
		}
	}
	want := []string{
		"at -5 session 11 seq 1000", "enqueue 2 3 9223372036854775808hello",
		"settle 4", "[{7 9} {1 1099511627776}]", "return 5", "[]",
		"create 6 {/ orders majority true 3s []} <nil>", "delete 7", "purge 8", "[{7 9} {1 1099511627776}]",
		"mark 9", "end-session10", "enqueue-expiring 1ms 1!", "enqueue-expiring 0s 0", "enqueue-expiring " + MaxTTL.String() + " 0",
		`300 of p-1 in "/"`, "enqueue 2 3 4?", `9223372036854775807 of p in ""`, "enqueue-expiring 1s 0", "at -5 session 12 seq 0",
	}
	normal := func(ss []string) string { return strings.ReplaceAll(strings.Join(ss, "\n"), " ", "") }
	if normal(got) != normal(want) || b.Err() != nil {
		t.Errorf("read\n%s\nwant\n%s\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"), b.Err())
	}
	if err := CheckOps(ops); err != nil {
		t.Error(err)
	}
}

func TestMalformedBatchesSayWhatIsWrong(t *testing.T) {
	sub := func(ops ...byte) []byte { return AppendSubmission(AppendBatch(nil, 1), 1, 1, ops) }
	q := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	op := func(kind Kind, rest ...byte) []byte { return sub(append(append([]byte{byte(kind)}, q...), rest...)...) }
	for _, c := range []struct {
		name    string
		payload []byte
		want    string
	}{
		{"version", []byte{2, 0}, "batch version"},
		{"short head", []byte{1, 0}, "batch head"},
		{"cut submission", sub(1, 2, 3)[:15], "integer"},
		{"submission longer than the batch", sub(1, 2, 3)[:20], "submission"},
		{"unknown kind", op(99), "kind of op"},
		{"no queue", sub(byte(Settle), 1), "integer"},
		{"more queues than bytes", sub(byte(Enqueue), 200, 200, 200, 1), "queues of an enqueue"},
		{"content longer than its ops", append(sub(byte(Enqueue), 0, 5, 'a'), "bcdef"...), "content of an enqueue"},
		{"more ranges than bytes", op(Settle, 9, 1, 1), "number of ranges"},
		{"range beyond the last id", op(Settle, 1, 9, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1), "range"},
		{"settings cut", op(Create, 9), "length"},
		{"settings with tags out of order", op(Create, 4, 2, 0, 1, 0), "settings: tag"},
		{"settings with a field cut", op(Create, 2, 2, 4), "settings: size of field 2"},
		{"delete cut", op(Delete), "delete"},
		{"mark cut", op(Mark, 0x80), "varint"},
		{"no producer", sub(byte(Once), 1, '/', 0, 1, byte(Enqueue), 0, 0), "producer"},
		{"producer cut", sub(byte(Once), 1, '/', 3, 'p'), "length"},
		{"producer of too long a name", sub(append(append([]byte{byte(Once), 0, 0x80, 2}, make([]byte, 256)...), 1, byte(Enqueue), 0, 0)...), "producer"},
		{"no sequence", sub(byte(Once), 1, '/', 1, 'p', 0, byte(Enqueue), 0, 0), "sequence of a producer"},
		{"sequence too high", sub(byte(Once), 0, 1, 'p', 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, byte(Enqueue), 0, 0), "sequence of a producer"},
		{"nothing once", sub(byte(Once), 1, '/', 1, 'p', 7), "no enqueue"},
		{"what is no enqueue once", sub(byte(Once), 1, '/', 1, 'p', 7, byte(Once), 0, 1, 'p', 7), "no enqueue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := NewMachine().Apply(1, c.payload, &Effects{})
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want one that has %q", err, c.want)
			}
		})
	}
}

// A checkpoint that was cut anywhere, or has something behind it, is refused.
func TestRestoreRefusesWhatIsCut(t *testing.T) {
	var b bytes.Buffer
	must(sampleMachine().Checkpoint(&b))
	for n := range b.Len() {
		if _, err := Restore(bytes.NewReader(b.Bytes()[:n])); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d of %d: %v", n, b.Len(), err)
		}
	}
	b.WriteByte(0)
	if _, err := Restore(&b); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too much: %v", err)
	}
}

// A field of settings that this version doesn't know is passed on.
func TestUnknownSettingsAreKept(t *testing.T) {
	m := restored(t, sampleMachine())
	info, ok := m.Queue(1)
	if !ok || info.Settings.Name != "a" || !bytes.Equal(info.Settings.Extra, []byte{9, 1, 'x'}) {
		t.Errorf("%+v", info)
	}
}

// A hundred plain publishes make one result without op results.
func TestConfirmsOfPlainPublishesAreOneResult(t *testing.T) {
	m := NewMachine()
	var fx Effects
	fill(m, 1, 1, 1)
	var ops []byte
	for range 100 {
		ops = AppendEnqueue(ops, []entry.QueueID{1}, 0)
	}
	payload := AppendSubmission(AppendBatch(nil, 1), 4, 9, ops)
	must(m.Apply(m.Applied()+1, payload, &fx))
	if len(fx.Results) != 1 || fx.Results[0].Session != 4 || fx.Results[0].Seq != 9 || fx.Results[0].Ops != nil {
		t.Errorf("%+v", fx.Results)
	}
}

// An entry without ops (raft's own) is applied, and nothing holds it.
func TestEmptyEntriesAreReleasedAtOnce(t *testing.T) {
	m := NewMachine()
	var fx Effects
	must(m.Apply(5, nil, &fx))
	if m.Applied() != 5 || !slices.Equal(fx.Released, []uint64{5}) || len(fx.Results) != 0 {
		t.Errorf("applied %d, %+v", m.Applied(), fx)
	}
}

// A snapshot is written on another goroutine while the machine goes on; run
// with -race this also shows that they share nothing that changes.
func TestSnapshotStaysWhileTheMachineGoesOn(t *testing.T) {
	m := NewMachine()
	fill(m, 3, 20_000, 7)
	var want, got bytes.Buffer
	must(m.Checkpoint(&want))
	done := make(chan error)
	s := m.Snapshot()
	go func() { done <- s.Checkpoint(&got) }()
	var fx Effects
	for q := entry.QueueID(1); q <= 3; q++ {
		ops := AppendReturn(nil, q, []entry.Range{{First: 100, Last: 3000}})
		ops = AppendSettle(ops, q, []entry.Range{{First: 50, Last: 700}, {First: 702, Last: 6000}})
		must(m.Apply(m.Applied()+1, AppendSubmission(AppendBatch(nil, 1), 0, 0, ops), &fx))
	}
	fill(m, 3, 20_000, 7)
	must(<-done)
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("the snapshot changed")
	}
	if s.Applied() == m.Applied() {
		t.Error("the machine stood still")
	}
}

// A broker of a version before wrote checkpoints without producers, and one of
// the first without times.
func TestCheckpointsOfEarlierVersionsAreRead(t *testing.T) {
	m := NewMachine()
	fill(m, 1, 3, 2)
	var b bytes.Buffer
	must(m.Checkpoint(&b))
	for version, without := range map[byte]int{1: 3, 2: 1} {
		old := b.Bytes()
		end := len(old) - len(checkpointEnd)
		if !bytes.Equal(old[end-3:], []byte("\x00\x00\x00"+checkpointEnd)) {
			t.Fatalf("a checkpoint without times and producers ends in %q", old[end-3:])
		}
		old = append(old[:end-without:end-without], checkpointEnd...)
		old[len(checkpointMagic)] = version
		again, err := Restore(bytes.NewReader(old))
		if err != nil {
			t.Fatal(version, err)
		}
		if info, _ := again.Queue(1); info.Messages != 3 || again.Producers() != 0 {
			t.Errorf("version %d: %+v", version, info)
		}
	}
}
