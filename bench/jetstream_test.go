package bench

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
	"github.com/mirrormq/mirrormq/bench/peer"
	"github.com/mirrormq/mirrormq/internal/freeport"
)

// startJetStream serves in this process until the test ends.
func startJetStream(t *testing.T) (url string) {
	t.Helper()
	addresses, err := freeport.Addresses(2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- peer.JetStream(ctx, peer.JetStreamConfig{
			Name: "b1", Data: t.TempDir(), Listen: addresses[0], HTTP: addresses[1],
			Logger: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	ready := time.NewTicker(10 * time.Millisecond)
	defer ready.Stop()
	for {
		if _, err := get(t.Context(), "http://"+addresses[1]+"/healthz"); err == nil {
			return "nats://" + addresses[0]
		}
		select {
		case <-ready.C:
		case err := <-served:
			served <- nil
			t.Fatalf("ended: %v", err)
		}
	}
}

func TestJetStreamCarriesARunThrough(t *testing.T) {
	url := startJetStream(t)
	cases := map[string]func(*Scenario){
		"one queue":            func(*Scenario) {},
		"acks of several":      func(s *Scenario) { s.AckEvery = 10 },
		"two queues":           func(s *Scenario) { s.Queues = 2 },
		"every message to all": func(s *Scenario) { s.FanOut, s.Queues, s.Consumers = true, 3, 3 },
		"a backlog first":      func(s *Scenario) { s.Backlog = true },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			s := counted(1000)
			s.Driver = driver.JetStream{Replicas: 1}
			change(&s)
			result, err := Run(t.Context(), Target{URLs: []string{url}}, s)
			if err != nil || result.Total != 1000 || result.Consumed != uint64(1000*max(result.Copies, 1)) {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}
