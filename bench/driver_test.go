package bench

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
	"github.com/mirrormq/mirrormq/bench/peer"
)

// startNull serves the null broker in this process until stop is called or the
// test ends.
func startNull(t *testing.T) (target Target, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- peer.Null(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return Target{Name: "null", URLs: []string{"amqp://guest:guest@" + listener.Addr().String() + "/"}}, cancel
}

func TestBothDriversCarryARunThrough(t *testing.T) {
	cases := map[string]func(*Scenario){
		"the smallest":           func(s *Scenario) { s.Sizes = Fixed(MinimumSize) },
		"as users do":            func(*Scenario) {},
		"of several frames":      func(s *Scenario) { s.Sizes, s.Count = Fixed(300_000), 100 },
		"of any size":            func(s *Scenario) { s.Sizes = Sizes{{MinimumSize, 2000, 1}, {131_000, 132_000, 0.05}} },
		"one at a time":          func(s *Scenario) { s.Window, s.Prefetch, s.Count = 1, 1, 200 },
		"acked together":         func(s *Scenario) { s.AckEvery = 50 },
		"on queues of their own": func(s *Scenario) { s.Queues = 2 },
		"to all queues":          func(s *Scenario) { s.FanOut, s.Queues, s.Consumers = true, 3, 6 },
	}
	for name, client := range drivers {
		for what, change := range cases {
			t.Run(name+" "+what, func(t *testing.T) {
				target, _ := startNull(t)
				s := counted(2000)
				s.Driver = client
				change(&s)
				result, err := Run(t.Context(), target, s)
				if err != nil || result.Total != uint64(s.Count) || result.Consumed != uint64(s.Count*max(result.Copies, 1)) {
					t.Errorf("%+v, %v", result, err)
				}
			})
		}
	}
}

func TestALostBrokerEndsTheRunWithAnError(t *testing.T) {
	for name, client := range drivers {
		t.Run(name, func(t *testing.T) {
			target, stop := startNull(t)
			scenario := Throughput()
			scenario.Driver, scenario.WarmUp, scenario.Duration = client, 0, time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			drop := time.AfterFunc(200*time.Millisecond, stop)
			defer drop.Stop()
			_, err := Run(ctx, target, scenario)
			if err == nil || errors.Is(err, ErrVerification) || ctx.Err() != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestADeadPortIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "amqp://guest:guest@" + listener.Addr().String() + "/"
	_ = listener.Close()
	for name, client := range drivers {
		if _, err := client.OpenPublisher(url, driver.Route{}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
