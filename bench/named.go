package bench

import "time"

// Named is a scenario with a name, for comparing brokers.
type Named struct {
	Scenario
	// Brokers is how many form the cluster.
	Brokers int
	// What says in words what it does.
	What string
}

// Scenarios are the named ones, each as it is without further flags.
func Scenarios() []Named {
	base := Throughput()
	base.Duration = 15 * time.Second
	change := func(name, what string, brokers int, change func(*Scenario)) Named {
		s := base
		s.Name = name
		change(&s)
		return Named{Scenario: s, Brokers: brokers, What: what}
	}
	return []Named{
		change("one-broker", "one broker, one queue, 2 publishers with 500 unconfirmed, 2 consumers", 1, func(*Scenario) {}),
		change("cluster", "three brokers, one mirrored queue, 2 publishers with 500 unconfirmed, 2 consumers", 3, func(*Scenario) {}),
		change("latency", "three brokers, one publisher that waits for each confirm", 3, func(s *Scenario) {
			s.Publishers, s.Consumers, s.Window = 1, 1, 1
		}),
		change("steady", "three brokers at a fixed 2,000 messages a second, latencies from each message's due time", 3, func(s *Scenario) {
			s.Rate = 2000
		}),
		change("fan-out", "three brokers, every message to 5 queues through a fanout exchange", 3, func(s *Scenario) {
			s.FanOut, s.Queues, s.Consumers = true, 5, 5
		}),
		change("backlog", "one broker, 500,000 messages published before the first is consumed", 1, func(s *Scenario) {
			s.Backlog, s.Count, s.WarmUp, s.Duration = true, 500_000, 0, 0
		}),
		change("failover", "three brokers, the queue's leader killed (SIGKILL) while 3 publishers send 1,500 messages a second over the others", 3, func(s *Scenario) {
			s.Publishers, s.Consumers, s.Window, s.Prefetch, s.Rate = 3, 3, 100, 100, 1500
			s.WarmUp, s.Duration, s.KillAfter = 2*time.Second, 20*time.Second, 5*time.Second
		}),
		change("many-queues", "three brokers, 1,000 queues, each with a publisher at 10 messages a second and a consumer on connections of their own", 3, func(s *Scenario) {
			s.Queues, s.Publishers, s.Consumers = 1000, 1000, 1000
			s.Window, s.Prefetch, s.Rate = 100, 100, 10_000
		}),
		change("large-messages", "three brokers, 1 MiB a message, 2 publishers with 16 unconfirmed, 2 consumers", 3, func(s *Scenario) {
			s.Sizes, s.Window, s.Prefetch = Fixed(1<<20), 16, 16
		}),
	}
}
