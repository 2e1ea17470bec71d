package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/bench/driver"
	"github.com/mirrormq/mirrormq/internal/launch"
)

// Peer is a broker program to compare, and what the load generator must know
// of it.
type Peer struct {
	Program launch.Program
	// driver is the one it needs with so many brokers, nil for any of AMQP.
	driver func(brokers int) driver.Driver
	// alone says that it forms no clusters: one stands for any number. It keeps
	// nothing, either.
	alone bool
	// leader is which broker leads a queue that was declared at the first.
	leader func(ctx context.Context, c *launch.Cluster, queue string) (int, error)
	// fsyncs is nil where it can't be seen.
	fsyncs func(context.Context, *launch.Cluster) (int64, error)
}

// PeerNames are what PeerOf knows.
var PeerNames = []string{"mirrormq", "rabbitmq", "jetstream", "jetstream-sync", "null"}

// PeerOf is the peer with that name. binary is the path of the mirrormq
// program, which all but RabbitMQ are part of.
func PeerOf(name, binary string) (Peer, error) {
	switch name {
	case "mirrormq":
		return Peer{Program: launch.MirrorMQ{Binary: binary}, leader: mirrorLeader, fsyncs: mirrorFsyncs}, nil
	case "rabbitmq":
		// A quorum queue's leader starts where it is declared.
		first := func(context.Context, *launch.Cluster, string) (int, error) { return 0, nil }
		return Peer{Program: launch.RabbitMQ{}, leader: first}, nil
	case "jetstream", "jetstream-sync":
		return Peer{
			Program: launch.JetStream{Binary: binary, SyncAlways: name == "jetstream-sync"},
			driver:  func(brokers int) driver.Driver { return driver.JetStream{Replicas: min(brokers, 3)} },
			leader:  jetStreamLeader,
		}, nil
	case "null":
		return Peer{Program: launch.Null{Binary: binary}, alone: true}, nil
	default:
		return Peer{}, fmt.Errorf("bench: unknown broker %q: say %s", name, strings.Join(PeerNames, ", "))
	}
}

// target is the peer's running cluster.
func (p Peer) target(cluster *launch.Cluster) Target {
	t := Target{Name: p.Program.Name(), URLs: cluster.URLs(), PIDs: cluster.PIDs()}
	t.Kill = func(broker int) { cluster.Brokers[broker].Kill() }
	if p.driver != nil {
		t.Driver = p.driver(len(cluster.Brokers))
	}
	if p.leader != nil {
		t.Leader = func(ctx context.Context, queue string) (int, error) { return p.leader(ctx, cluster, queue) }
	}
	if p.fsyncs != nil {
		t.Fsyncs = func(ctx context.Context) (int64, error) { return p.fsyncs(ctx, cluster) }
	}
	return t
}

// mirrorLeader asks the management API.
func mirrorLeader(ctx context.Context, c *launch.Cluster, queue string) (int, error) {
	var answer struct{ Leader, Node string }
	body, err := get(ctx, c.Brokers[0].HTTPURL()+"/api/queues/%2F/"+url.PathEscape(queue))
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	return indexOf(answer.Leader, len(c.Brokers))
}

// indexOf is the index of the broker b1, b2, ….
func indexOf(name string, brokers int) (int, error) {
	number, err := strconv.Atoi(strings.TrimPrefix(name, "b"))
	if err != nil || number < 1 || number > brokers {
		return 0, fmt.Errorf("bench: the queue's leader is %q, not one of %d brokers", name, brokers)
	}
	return number - 1, nil
}

// jetStreamLeader asks the server's monitoring.
func jetStreamLeader(ctx context.Context, c *launch.Cluster, queue string) (int, error) {
	body, err := get(ctx, c.Brokers[0].HTTPURL()+"/jsz?streams=true")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Accounts []struct {
			Streams []struct {
				Name    string
				Cluster struct{ Leader string }
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	for _, account := range answer.Accounts {
		for _, stream := range account.Streams {
			if stream.Name == queue {
				return indexOf(stream.Cluster.Leader, len(c.Brokers))
			}
		}
	}
	return 0, fmt.Errorf("bench: no stream %q", queue)
}

// mirrorFsyncs adds up what the brokers' metrics say.
func mirrorFsyncs(ctx context.Context, c *launch.Cluster) (int64, error) {
	var total int64
	for _, b := range c.Brokers {
		body, err := get(ctx, b.HTTPURL()+"/metrics")
		if err != nil {
			return 0, err
		}
		n, err := metric(string(body), "mirrormq_log_fsync_duration_seconds_count")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// metric finds a counter without labels in Prometheus' text format.
func metric(text, name string) (int64, error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == name {
			value, err := strconv.ParseFloat(fields[1], 64)
			return int64(value), err
		}
	}
	return 0, fmt.Errorf("bench: no metric %s", name)
}

// get is the body of a page that the user guest may see.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true // what follows is measured: no idle connection
	request.SetBasicAuth("guest", "guest")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("bench: GET %s: %s", url, response.Status)
	}
	return body, nil
}

// peersOf are ours and then the ones named. Those that aren't on this machine
// are left out, and missing says why.
func peersOf(names []string, binary string) (peers []Peer, missing []error, err error) {
	ours, err := PeerOf("mirrormq", binary)
	if err != nil {
		return nil, nil, err
	}
	peers = []Peer{ours}
	for _, name := range names {
		peer, err := PeerOf(name, binary)
		if err != nil {
			return nil, nil, err
		}
		if err := launch.Installed(peer.Program); err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", name, err))
		} else if name != "mirrormq" {
			peers = append(peers, peer)
		}
	}
	return peers, missing, nil
}
