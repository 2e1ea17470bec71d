package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
)

func TestBothDriversCarryARunThrough(t *testing.T) {
	for name, client := range drivers {
		for _, size := range []int{MinimumSize, 1024, 5000} {
			t.Run(name, func(t *testing.T) {
				s := startServer(t)
				scenario := counted(2000)
				scenario.Driver, scenario.Sizes, scenario.Drain = client, Fixed(size), 10*time.Second
				report, err := Run(t.Context(), Target{URLs: []string{s.url()}}, scenario)
				if err != nil || report.Consumed != 2000 || report.Total != 2000 {
					t.Errorf("size %d: %+v, %v", size, report, err)
				}
			})
		}
	}
}

func TestALostBrokerEndsTheRunWithAnError(t *testing.T) {
	for name, client := range drivers {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			scenario := Throughput()
			scenario.Driver, scenario.WarmUp, scenario.Duration = client, 0, time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			drop := time.AfterFunc(200*time.Millisecond, s.dropAll)
			defer drop.Stop()
			_, err := Run(ctx, Target{URLs: []string{s.url()}}, scenario)
			if err == nil || errors.Is(err, ErrVerification) || ctx.Err() != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestADeadPortIsAnError(t *testing.T) {
	s := startServer(t)
	url := s.url()
	_ = s.listener.Close()
	for name, client := range drivers {
		if _, err := client.OpenPublisher(url, driver.Route{}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
