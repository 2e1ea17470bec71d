package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mirrormq/mirrormq/bench/report"
	"github.com/mirrormq/mirrormq/internal/launch"
)

// inDirectory calls do with a new directory below dir ("" for the system's
// temporary one) and removes it.
func inDirectory(dir string, do func(own string) error) error {
	own, err := os.MkdirTemp(dir, "mirrormq-bench-")
	if err != nil {
		return err
	}
	return errors.Join(do(own), os.RemoveAll(own))
}

// startTries is how often brokers are started before that counts as failed: a
// port that was free may be someone else's a moment later.
const startTries = 3

// WithCluster starts so many brokers of the program in a directory of their
// own below dir, calls do, stops them and removes the directory, whatever
// happens.
func WithCluster(ctx context.Context, program launch.Program, dir string, brokers int, do func(*launch.Cluster) error) error {
	for try := 1; ; try++ {
		started := false
		err := inDirectory(dir, func(own string) error {
			startCtx, cancel := context.WithTimeout(ctx, 3*time.Minute)
			defer cancel()
			cluster, err := launch.StartCluster(startCtx, program, launch.Config{Dir: own}, brokers)
			if err != nil {
				return err
			}
			started = true
			return useAndEnd(ctx, cluster, do)
		})
		if started || err == nil || ctx.Err() != nil || errors.Is(err, launch.ErrAbsent) || try == startTries {
			return err
		}
	}
}

// useAndEnd stops the cluster after do, or kills it when do fails.
func useAndEnd(ctx context.Context, cluster *launch.Cluster, do func(*launch.Cluster) error) error {
	if err := do(cluster); err != nil {
		tail := cluster.Tail(2048)
		cluster.Kill()
		if errors.Is(err, ErrVerification) || ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w\nthe end of the output of %s:\n%s", err, cluster.Brokers[0].Program.Name(), tail)
	}
	return stop(ctx, cluster)
}

// Compare plays the scenario on each peer in turn, rounds times over
// (A B A B …), each time on fresh brokers with nothing else running, and
// writes each report to w as it comes. The alternation spreads whatever the
// machine does meanwhile over all of them. A peer's broken promise is part of
// its report; the first one's, which is to be judged, is also an error once all
// have run, except in a failover.
func Compare(ctx context.Context, peers []Peer, dir string, scenario Named, rounds int, w io.Writer) (report.Comparison, error) {
	if err := FilesFor(scenario.Publishers + scenario.Consumers); err != nil {
		return report.Comparison{}, err
	}
	comparison := report.Comparison{Scenario: scenario.Name, What: scenario.What, Reports: make([][]report.Report, len(peers))}
	var broken error
	for range rounds {
		for i, peer := range peers {
			if peer.alone && (scenario.Backlog || scenario.KillAfter > 0) {
				continue // it has no place in the scenario
			}
			brokers := scenario.Brokers
			if peer.alone {
				brokers = 1
			}
			err := WithCluster(ctx, peer.Program, dir, brokers, func(cluster *launch.Cluster) error {
				result, err := Run(ctx, peer.target(cluster), scenario.Scenario)
				if errors.Is(err, ErrVerification) {
					if i == 0 && scenario.KillAfter == 0 {
						broken = errors.Join(broken, fmt.Errorf("%s, %s: %w", peer.Program.Name(), scenario.Name, err))
					}
				} else if err != nil {
					return err
				}
				comparison.Reports[i] = append(comparison.Reports[i], result)
				return result.Write(w)
			})
			if err != nil {
				return comparison, fmt.Errorf("%s, %s: %w", peer.Program.Name(), scenario.Name, err)
			}
		}
	}
	return comparison, broken
}
