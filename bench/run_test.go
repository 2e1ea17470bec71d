package bench

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mirrormq/mirrormq/bench/report"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		_ = os.RemoveAll(built.dir) // "" when no test needed it
		os.Exit(status)
	}))
}

func TestACountedRunSendsEachMessageOnceAndVerifiesIt(t *testing.T) {
	report := playInMemory(t, &memoryBroker{}, counted(10_001))
	if report.Total != 10_001 || report.Confirmed != 10_001 || report.Consumed != 10_001 {
		t.Errorf("total %d, confirmed %d, consumed %d", report.Total, report.Confirmed, report.Consumed)
	}
	if len(report.Problems) > 0 || fault(report) != nil {
		t.Errorf("problems: %v", report.Problems)
	}
	if report.Confirm.Count == 0 || report.EndToEnd.Count == 0 || report.Rate() <= 0 {
		t.Errorf("nothing measured: %+v", report)
	}
}

func TestATimedRunLeavesTheWarmUpOutOfTheMeasurement(t *testing.T) {
	s := Throughput()
	s.WarmUp, s.Duration, s.Rate = 50*time.Millisecond, 100*time.Millisecond, 5000
	report := playInMemory(t, &memoryBroker{}, s)
	if report.Confirmed == 0 || report.Confirmed >= report.Total {
		t.Errorf("measured %d of %d", report.Confirmed, report.Total)
	}
	if report.Measured < s.Duration {
		t.Errorf("measured for %s", report.Measured)
	}
}

// A broker that stalls once holds up the messages that were due meanwhile, and
// each counts.
func TestAnOpenLoopCountsLatencyFromWhenMessagesWereDue(t *testing.T) {
	stall := func(n int, body []byte) [][]byte {
		if n == 500 {
			<-time.After(100 * time.Millisecond)
		}
		return [][]byte{body}
	}
	s := counted(1000)
	s.Publishers, s.Consumers, s.Rate = 1, 1, 1000
	result := playInMemory(t, &memoryBroker{misbehave: stall}, s)
	if p75 := result.Confirm.Curve[slices.Index(report.Percentiles, 75)]; p75 > time.Millisecond {
		t.Errorf("p75 %s: messages after the stall were held up", p75)
	}
	if p95 := result.Confirm.Curve[slices.Index(report.Percentiles, 95)]; p95 < 40*time.Millisecond {
		t.Errorf("p95 %s: messages that were due in the stall don't show it", p95)
	}
	if result.Measured < 990*time.Millisecond || result.Measured > 1100*time.Millisecond {
		t.Errorf("1000 messages at 1000 a second took %s", result.Measured)
	}
}

func TestConsumersAckAsOftenAsTheyAreTold(t *testing.T) {
	for every, calls := range map[int]int{1: 1000, 10: 100, 500: 2} {
		broker := &memoryBroker{}
		s := counted(1000)
		s.Consumers, s.AckEvery = 1, every
		playInMemory(t, broker, s)
		if got := broker.consumers[0].ackCalls; got != calls {
			t.Errorf("acking every %d: %d acks, want %d", every, got, calls)
		}
	}
}

func TestMisbehaviourIsFound(t *testing.T) {
	var kept [][]byte
	cases := []struct {
		name      string
		misbehave func(n int, body []byte) [][]byte
		want      string
	}{
		{"a loss", func(n int, body []byte) [][]byte {
			if n == 500 {
				return nil
			}
			return [][]byte{body}
		}, "1 messages lost"},
		{"a repetition", func(n int, body []byte) [][]byte {
			if n == 500 {
				return [][]byte{body, body}
			}
			return [][]byte{body}
		}, "1 messages delivered more than once"},
		{"a flipped bit", func(n int, body []byte) [][]byte {
			if n == 500 {
				body[100] ^= 4
			}
			return [][]byte{body}
		}, "1 messages damaged"},
		{"two in the wrong order", func(n int, body []byte) [][]byte {
			if n == 500 {
				kept = [][]byte{body}
				return nil
			}
			if n == 501 {
				return append([][]byte{body}, kept...)
			}
			return [][]byte{body}
		}, "1 messages out of their publisher's order"},
		{"another run's message", func(n int, body []byte) [][]byte {
			if n == 500 {
				old := slices.Clone(body)
				stamp{sequence: 1, run: 7}.put(old)
				return [][]byte{body, old}
			}
			return [][]byte{body}
		}, "1 messages of another run"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := counted(1000)
			s.Publishers, s.Consumers = 1, 1
			report := playInMemory(t, &memoryBroker{misbehave: c.misbehave}, s)
			if problems := strings.Join(report.Problems, "; "); !strings.Contains(problems, c.want) {
				t.Errorf("problems %q, want %q", problems, c.want)
			}
			if err := fault(report); !errors.Is(err, ErrVerification) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestARepetitionAtAnotherConsumerIsFound(t *testing.T) {
	repeat := func(n int, body []byte) [][]byte {
		if n == 500 {
			return [][]byte{body, body}
		}
		return [][]byte{body}
	}
	report := playInMemory(t, &memoryBroker{misbehave: repeat}, counted(1000))
	if want := []string{"1 messages delivered more than once"}; !slices.Equal(report.Problems, want) {
		t.Errorf("problems %q, want %q", report.Problems, want)
	}
}

func TestNacksAreAProblem(t *testing.T) {
	broker := &memoryBroker{nack: func(n int) bool { return n == 3 }}
	s := counted(10)
	s.Publishers = 1
	report := playInMemory(t, broker, s)
	if report.Nacked != 1 || !strings.Contains(report.Problems[0], "1 messages nacked") {
		t.Errorf("%d nacked, problems %q", report.Nacked, report.Problems)
	}
}

func TestScenariosThatMakeNoSenseAreRefused(t *testing.T) {
	change := map[string]func(*Scenario){
		"no publishers":            func(s *Scenario) { s.Publishers = 0 },
		"a body without a stamp":   func(s *Scenario) { s.Sizes = Fixed(MinimumSize - 1) },
		"acks that never come":     func(s *Scenario) { s.AckEvery = s.Prefetch + 1 },
		"a prefetch beyond AMQP's": func(s *Scenario) { s.Prefetch = 65536 },
		"a queue without consumer": func(s *Scenario) { s.Queues, s.Publishers = 3, 3 },
		"no end":                   func(s *Scenario) { s.Duration = 0 },
	}
	for name, change := range change {
		s := Throughput()
		change(&s)
		if _, err := newRun(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
