package launch

import (
	"context"
	"fmt"
	"os/exec"
	"runtime/debug"
	"strings"
)

// JetStream runs a NATS server with JetStream: that of the module
// nats-io/nats-server, which the mirrormq program contains.
type JetStream struct {
	// Binary is the path of the mirrormq program.
	Binary string
	// SyncAlways has it sync each write before the answer. Its default is to
	// sync every two minutes.
	SyncAlways bool
}

// Name implements Program.
func (j JetStream) Name() string {
	if j.SyncAlways {
		return "jetstream-sync"
	}
	return "jetstream"
}

func (j JetStream) find() (string, error) { return MirrorMQ{Binary: j.Binary}.find() }

func (j JetStream) command(c Config) (*exec.Cmd, error) {
	path, err := j.find()
	if err != nil {
		return nil, err
	}
	args := []string{
		"bench", "peer", "jetstream", "--name", "b1", "--data", c.DataDir(),
		"--listen", fmt.Sprintf("127.0.0.1:%d", c.AMQPPort), "--http", fmt.Sprintf("127.0.0.1:%d", c.HTTPPort),
	}
	if len(c.members) > 0 {
		args[4] = c.name
		args = append(args, "--cluster", fmt.Sprintf("127.0.0.1:%d", c.peerPort))
	}
	for _, m := range c.members {
		args = append(args, "--route", fmt.Sprintf("127.0.0.1:%d", m.peerPort))
	}
	if j.SyncAlways {
		args = append(args, "--sync-always")
	}
	return exec.Command(path, append(args, c.Args...)...), nil
}

// ready asks the server's monitoring port whether JetStream works: in a
// cluster that includes its having a leader.
func (j JetStream) ready(ctx context.Context, c Config) error {
	return getOK(ctx, fmt.Sprintf("http://127.0.0.1:%d/healthz", c.HTTPPort))
}

func (j JetStream) formed(context.Context, []Config) error { return nil }

func (j JetStream) url(c Config) string { return fmt.Sprintf("nats://127.0.0.1:%d", c.AMQPPort) }

func (j JetStream) version(context.Context) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range info.Deps {
		if strings.HasPrefix(module.Path, "github.com/nats-io/nats-server/") {
			return "nats-server " + module.Version
		}
	}
	return ""
}

func (j JetStream) cleanup(Config) {}
