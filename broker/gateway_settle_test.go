package broker

import (
	"log/slog"
	"testing"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

// A leader of messages in memory, driven by hand, and a gateway on another broker
// whose messages arrive when the test says so.
type settleTest struct {
	t       *testing.T
	group   *group
	gateway *gateway
	sent    []*wireMessage
	got     []queue.Delivery
}

func newSettleTest(t *testing.T) *settleTest {
	const id = entry.Volatile
	logger := slog.New(slog.DiscardHandler)
	s := &settleTest{t: t}
	order := newVolatile()
	s.group = newGroup(id, newLoop("test", logger, func(err error) { t.Error(err) }), queue.NewMachine(), &counters{}, func() []string { return nil })
	s.group.order, s.group.bodies = order, memoryBodies{order}
	s.group.leads = func(string, uint64) {}
	s.group.orphaned = func(_ entry.QueueID, then func()) { then() }
	s.gateway = newGateway(id, 1, 1, logger)
	s.gateway.port = func(string) func(*wireMessage) bool {
		return func(m *wireMessage) bool {
			if m.submission != nil {
				m.submission = nil // It goes to another broker.
			}
			parsed, err := parseWire(m.append(nil))
			if err != nil {
				t.Fatal(err)
			}
			s.sent = append(s.sent, parsed)
			return true
		}
	}
	s.play()
	s.gateway.leads("b1", 1)
	s.arrive(len(s.sent))
	return s
}

// play lets the leader do all that it has to.
func (s *settleTest) play() {
	for s.group.round() {
	}
}

// arrive has the next n of the gateway's messages come to the leader.
func (s *settleTest) arrive(n int) {
	for _, m := range s.sent[:n] {
		s.group.receive("b2", func(m *wireMessage) bool {
			s.gateway.receive("b1", m)
			return true
		}, m)
		s.play()
	}
	s.sent = s.sent[n:]
}

// A client acked, and its broker died between the two messages that told so: the
// message stayed unacked for as long as the leader led.
func TestWhatADyingBrokerAckedIsSettledOrGivenOutAgain(t *testing.T) {
	const q, holder = entry.QueueID(1), queue.HolderID(1)
	for arrived := 0; ; arrived++ {
		s := newSettleTest(t)
		s.gateway.submit(&submission{ops: queue.AppendCreate(takeOps(), q, queue.Settings{})})
		ops := queue.AppendEnqueue(takeOps(), []entry.QueueID{q}, 1)
		s.gateway.submit(&submission{ops: append(ops, 'x')})
		to := &receiver{deliver: func(list []queue.Delivery, _ uint32) { s.got = append(s.got, list...) }}
		s.gateway.attach(queue.Consumer{ID: 1, Holder: holder, Queue: q, Link: 10}, to, func(error) {})
		s.arrive(len(s.sent))
		if len(s.got) != 1 {
			t.Fatalf("%d deliveries", len(s.got))
		}
		one := []entry.Range{{First: s.got[0].Message, Last: s.got[0].Message}}
		s.gateway.submit(&submission{ops: queue.AppendSettle(takeOps(), q, one), settled: []settledNote{{holder, q, one}}})
		if arrived > len(s.sent) {
			return
		}
		s.arrive(arrived)
		s.group.lost("b2")
		s.play()
		if info, _ := s.group.state.Queue(q); s.group.dispatcher.Ready(q) != info.Messages {
			t.Errorf("%d of %d messages arrived: %d in the queue, %d ready", arrived, len(s.sent)+arrived, info.Messages, s.group.dispatcher.Ready(q))
		}
	}
}
