package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/broker"
)

// envName is the variable of a flag of serve.
func envName(flag string) []string {
	return []string{"MIRRORMQ_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

// serveFlags are the flags of serve. Sizes and shares are text: serveConfig
// reads them, so that a flag, a variable and the file get the same errors.
func serveFlags() []cli.Flag {
	text := func(name, value, use string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: envName(name), Value: value, Usage: use}
	}
	number := func(name string, value int, use string) cli.Flag {
		return &cli.IntFlag{Name: name, EnvVars: envName(name), Value: value, Usage: use}
	}
	duration := func(name string, value time.Duration, use string) cli.Flag {
		return &cli.DurationFlag{Name: name, EnvVars: envName(name), Value: value, Usage: use}
	}
	flags := []cli.Flag{
		&cli.StringFlag{Name: "config", EnvVars: envName("config"), Usage: "read flags from the YAML file `PATH`; the command line and variables come first"},
		&cli.StringFlag{Name: "name", EnvVars: envName("name"), Usage: "`NAME` of the broker", DefaultText: "the host's name"},
		text("data", "mirrormq-data", "`DIR` of the write-ahead log; made if missing"),
		text("amqp", "127.0.0.1:5672", "`ADDRESS` for AMQP; - for none"),
		text("amqps", "", "`ADDRESS` for AMQP over TLS"),
		text("tls-cert", "", "certificate for --amqps: PEM file at `PATH`"),
		text("tls-key", "", "key for --amqps: PEM file at `PATH`"),
		text("tls-client-ca", "", "clients must show a certificate that this CA signed: PEM file at `PATH`"),
		text("http", "127.0.0.1:15672", "`ADDRESS` for the management API, metrics and health; - for none"),
		text("fsync", "always", "`WHEN` a write counts as durable: always; interval (a power loss may lose --fsync-interval); never (it may lose more)"),
		duration("fsync-interval", 100*time.Millisecond, "`TIME` between fsyncs with --fsync interval"),
		text("ack-quorum", "majority", "confirm publishes at `QUORUM` copies: leader, a number, majority or all"),
		&cli.IntFlag{Name: "groups", EnvVars: envName("groups"), Usage: "queue groups: `N` replicated logs that queues are spread over", DefaultText: "3 in a cluster, 1 alone, or as many as the data has"},
		&cli.IntFlag{Name: "copies", EnvVars: envName("copies"), Usage: "keep each queue on `N` brokers of the cluster", DefaultText: "3, or all if they are fewer, or as the data has"},
		text("max-message-size", "16MiB", "largest body: `SIZE` up to 512MiB"),
		text("memory-high-watermark", "0.4", "block publishers from this `SHARE` of the machine's memory, or from a size (2GiB)"),
		text("disk-free-limit", "512MiB", "block publishers when less than `SIZE` is free"),
		duration("heartbeat", time.Minute, "`TIME` between heartbeats that clients are offered"),
		text("frame-max", "131072", "largest frame that clients are offered: `SIZE` from 4096"),
		number("channel-max", 2047, "channels that clients are offered for a connection: `N`"),
		text("log-level", "info", "`LEVEL`: debug, info, warn or error"),
		text("log-format", "text", "`FORMAT`: text or json"),
		text("pprof", "", "`ADDRESS` for Go's profiler, which has no password; none if not given"),
		duration("stop-timeout", 30*time.Second, "`TIME` that a clean stop may take"),
		text("cluster", "", "all brokers of the cluster, the same list for each: `b1=HOST:PORT,b2=…` (backbone addresses)"),
		text("backbone", "", "`ADDRESS` for the other brokers, if not this one's in --cluster"),
		text("cluster-secret", "", "`SECRET` shared by the brokers; required unless all listen on loopback"),
		text("nats", "", "use the external NATS cluster at `URL` as the backbone"),
		duration("publish-timeout", 30*time.Second, "nack a publish that no leader took for this `TIME`"),
	}
	for _, name := range clusterFlags {
		flags = append(flags, &cli.StringFlag{Name: name, EnvVars: envName(name), Hidden: true})
	}
	return flags
}

// clusterFlags are known, so that they can be refused with an explanation
// rather than ignored or called unknown.
var clusterFlags = []string{"join"}

// serveConfig reads the flags into the broker's configuration.
func serveConfig(c *cli.Context) (broker.Config, error) {
	none := broker.Config{}
	if c.NArg() > 0 {
		return none, usage("serve takes flags only; unexpected argument %q", c.Args().First())
	}
	if path := c.String("config"); path != "" {
		if err := readConfig(c, path); err != nil {
			return none, err
		}
	}
	for _, name := range clusterFlags {
		if c.IsSet(name) {
			return none, fail(exitUsage, "leave it out, and give all brokers the same --cluster", "--%s: members can't be changed yet", name)
		}
	}
	config := broker.Config{
		Name: c.String("name"), Data: c.String("data"),
		AMQP: c.String("amqp"), AMQPS: c.String("amqps"), HTTP: c.String("http"),
		TLSCert: c.String("tls-cert"), TLSKey: c.String("tls-key"), TLSClientCA: c.String("tls-client-ca"),
		Fsync: c.String("fsync"), FsyncInterval: c.Duration("fsync-interval"), AckQuorum: c.String("ack-quorum"),
		Groups: c.Int("groups"), Copies: c.Int("copies"), Heartbeat: c.Duration("heartbeat"), ChannelMax: c.Int("channel-max"),
	}
	var err error
	if config.Logger, err = newLogger(c); err != nil {
		return none, err
	}
	if config.MemoryLimit, err = parseWatermark(c.String("memory-high-watermark"), totalMemory()); err != nil {
		return none, err
	}
	var frameMax int64
	for _, size := range []struct {
		flag     string
		to       *int64
		min, max int64
	}{
		{"max-message-size", &config.MaxMessageSize, 1, broker.MaxMessageSizeLimit},
		{"disk-free-limit", &config.DiskFreeLimit, 0, 1 << 60},
		{"frame-max", &frameMax, 4096, 1 << 30},
	} {
		n, err := parseSize(c.String(size.flag))
		if err != nil {
			return none, usage("--%s: %w", size.flag, err)
		}
		if n < size.min || n > size.max {
			return none, usage("--%s %s: from %s to %s", size.flag, c.String(size.flag), formatSize(size.min), formatSize(size.max))
		}
		*size.to = n
	}
	if config.Cluster, err = parseCluster(c.String("cluster")); err != nil {
		return none, err
	}
	config.Backbone, config.ClusterSecret, config.NATS = c.String("backbone"), c.String("cluster-secret"), c.String("nats")
	config.PublishTimeout = c.Duration("publish-timeout")
	config.FrameMax = int(frameMax)
	config.DiskFreeLimit = max(config.DiskFreeLimit, 1) // 0 would be the broker's default.
	if err := checkServe(c, &config); err != nil {
		return none, err
	}
	if err := config.Validate(); err != nil {
		return none, usage("%w", err)
	}
	return config, nil
}

// parseCluster reads a list of names and addresses; nil when it is empty.
func parseCluster(list string) (map[string]string, error) {
	if list == "" {
		return nil, nil
	}
	brokers := make(map[string]string)
	for _, item := range strings.Split(list, ",") {
		name, address, ok := strings.Cut(strings.TrimSpace(item), "=")
		if _, _, err := net.SplitHostPort(address); !ok || name == "" || err != nil {
			return nil, usage("--cluster: %q is not NAME=HOST:PORT", item)
		}
		if _, twice := brokers[name]; twice {
			return nil, usage("--cluster: %q is in it twice", name)
		}
		brokers[name] = address
	}
	return brokers, nil
}

// checkServe refuses what the broker would take for "not given", and words.
// The broker checks the rest itself.
func checkServe(c *cli.Context, config *broker.Config) error {
	if err := oneOf("fsync", config.Fsync, "always", "interval", "never"); err != nil {
		return err
	}
	if n, err := strconv.Atoi(config.AckQuorum); err != nil || n < 1 {
		if err := oneOf("ack-quorum", config.AckQuorum, "leader", "majority", "all", "1"); err != nil {
			return err
		}
	}
	for _, flag := range []string{"heartbeat", "fsync-interval", "stop-timeout"} {
		if c.Duration(flag) <= 0 {
			return usage("--%s %v: must be above 0", flag, c.Duration(flag))
		}
	}
	for _, flag := range []string{"groups", "copies", "channel-max"} {
		if c.IsSet(flag) && c.Int(flag) < 1 {
			return usage("--%s %d: at least 1", flag, c.Int(flag))
		}
	}
	for _, flag := range []string{"data", "amqp", "http"} {
		if c.String(flag) == "" {
			hint := ""
			if flag != "data" {
				hint = "for no such listener write --" + flag + " -"
			}
			return fail(exitUsage, hint, "--%s is empty", flag)
		}
	}
	return nil
}

// minWatermark is less than any broker can do with.
const minWatermark = 1 << 20

// parseWatermark reads a share of memory (0.4, 40%) or a size, into bytes.
func parseWatermark(s string, total int64) (int64, error) {
	text, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	if share, err := strconv.ParseFloat(text, 64); err == nil && (percent || share <= 1) {
		if percent {
			share /= 100
		}
		if !(share > 0 && share <= 1) {
			return 0, usage("--memory-high-watermark %s: a share is above 0 and at most 1", s)
		}
		if total == 0 {
			return 0, fail(exitUsage, "give a size: --memory-high-watermark 2GiB", "cannot find out how much memory this machine has")
		}
		return int64(share * float64(total)), nil
	}
	// A share of 4 instead of 0.4 must not become 4 bytes.
	n, err := parseSize(s)
	if err != nil || n < minWatermark {
		return 0, usage("--memory-high-watermark %q: write a share such as 0.4, or a size such as 2GiB", s)
	}
	return n, nil
}

// totalMemory is the memory that this process may use at most: the machine's,
// or its control group's if that is less. 0 if unknown.
func totalMemory() int64 {
	total := int64(0)
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kib); err == nil {
			total = kib << 10
		}
	}
	if limit, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil && (total == 0 || n < total) {
			total = n
		}
	}
	return total
}

func newLogger(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := oneOf("log-level", c.String("log-level"), "debug", "info", "warn", "error"); err != nil {
		return nil, err
	}
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, err
	}
	if err := oneOf("log-format", c.String("log-format"), "text", "json"); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	if c.String("log-format") == "json" {
		return slog.New(slog.NewJSONHandler(c.App.ErrWriter, options)), nil
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, options)), nil
}
