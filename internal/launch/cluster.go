package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Cluster is brokers that were started together. A broker alone is one of one.
type Cluster struct {
	Brokers []*Broker
}

// StartCluster starts n brokers of the program as one cluster, each in a
// directory of its own (b1, b2, …) below c.Dir, and returns once all of them
// serve. c's ports must be zero. With n 1 it is Start.
func StartCluster(ctx context.Context, program Program, c Config, n int) (*Cluster, error) {
	if n == 1 {
		b, err := Start(ctx, program, c)
		if err != nil {
			return nil, err
		}
		return &Cluster{Brokers: []*Broker{b}}, nil
	}
	configs, err := plan(c, n)
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{}
	for i, config := range configs {
		b, err := start(program, config)
		if err != nil {
			cluster.Kill()
			return nil, err
		}
		cluster.Brokers = append(cluster.Brokers, b)
		if _, first := program.(RabbitMQ); first && i == 0 {
			// Two that start at the same time might each take themselves for
			// the first of a cluster.
			if err := b.serve(ctx); err != nil {
				return nil, err
			}
		}
	}
	for _, b := range cluster.Brokers {
		if err := b.serve(ctx); err != nil {
			cluster.Kill()
			return nil, err
		}
	}
	if err := program.formed(ctx, configs); err != nil {
		cluster.Kill()
		return nil, fmt.Errorf("launch: %s: no cluster: %w", program.Name(), err)
	}
	return cluster, nil
}

// plan makes the members' configurations and directories.
func plan(c Config, n int) ([]Config, error) {
	configs := make([]Config, n)
	members := make([]member, n)
	for i := range configs {
		own := c
		own.name = fmt.Sprintf("b%d", i+1)
		own.Dir = filepath.Join(c.Dir, own.name)
		if err := own.fill(); err != nil {
			return nil, err
		}
		c.epmdPort, c.secret = own.epmdPort, own.secret // the first one's, for all
		if err := os.MkdirAll(own.Dir, 0o700); err != nil {
			return nil, err
		}
		configs[i], members[i] = own, member{own.name, own.AMQPPort, own.peerPort}
	}
	for i := range configs {
		configs[i].members = members
	}
	return configs, nil
}

// URLs are where the brokers' clients connect to.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		urls[i] = b.URL()
	}
	return urls
}

// PIDs are the processes that were started.
func (c *Cluster) PIDs() []int {
	pids := make([]int, len(c.Brokers))
	for i, b := range c.Brokers {
		pids[i] = b.PID()
	}
	return pids
}

// Stop stops all brokers at the same time, as Broker.Stop does.
func (c *Cluster) Stop(ctx context.Context) error {
	errs := make([]error, len(c.Brokers))
	var stopping sync.WaitGroup
	for i, b := range c.Brokers {
		stopping.Go(func() { errs[i] = b.Stop(ctx) })
	}
	stopping.Wait()
	c.cleanup()
	return errors.Join(errs...)
}

// cleanup ends what none of the brokers may end while others run.
func (c *Cluster) cleanup() {
	if len(c.Brokers) > 1 {
		config := c.Brokers[0].Config
		config.members = nil
		c.Brokers[0].Program.cleanup(config)
	}
}

// Kill ends all brokers at once and waits until they are gone.
func (c *Cluster) Kill() {
	var killing sync.WaitGroup
	for _, b := range c.Brokers {
		killing.Go(b.Kill)
	}
	killing.Wait()
	c.cleanup()
}

// Tail is the last n bytes of what each broker printed.
func (c *Cluster) Tail(n int64) string {
	text := ""
	for i, b := range c.Brokers {
		if len(c.Brokers) > 1 {
			text += fmt.Sprintf("--- b%d\n", i+1)
		}
		text += b.Tail(n)
	}
	return text
}
