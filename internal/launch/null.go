package launch

import (
	"context"
	"fmt"
	"os/exec"
)

// Null runs the load generator's null broker, which keeps nothing. It forms no
// clusters.
type Null struct {
	// Binary is the path of the mirrormq program.
	Binary string
}

// Name implements Program.
func (n Null) Name() string { return "null" }

func (n Null) find() (string, error) { return MirrorMQ(n).find() }

func (n Null) command(c Config) (*exec.Cmd, error) {
	path, err := n.find()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, "bench", "peer", "null", "--amqp", fmt.Sprintf("127.0.0.1:%d", c.AMQPPort)), nil
}

func (n Null) ready(ctx context.Context, c Config) error { return greeted(ctx, c.AMQPPort) }

func (n Null) formed(context.Context, []Config) error { return nil }

func (n Null) url(c Config) string { return c.amqpURL() }

func (n Null) version(context.Context) string { return "" }

func (n Null) cleanup(Config) {}
