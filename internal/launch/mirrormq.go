package launch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// MirrorMQ runs our own binary.
type MirrorMQ struct {
	// Binary is the path of the mirrormq program.
	Binary string
}

// Name implements Program.
func (m MirrorMQ) Name() string { return "mirrormq" }

func (m MirrorMQ) find() (string, error) {
	path, err := exec.LookPath(m.Binary)
	if err != nil {
		return "", fmt.Errorf("%w: %w (build it with `make build`)", ErrAbsent, err)
	}
	return path, nil
}

func (m MirrorMQ) command(c Config) (*exec.Cmd, error) {
	path, err := m.find()
	if err != nil {
		return nil, err
	}
	name := c.name
	if name == "" {
		name = "b1"
	}
	args := []string{
		"serve", "--name", name, "--data", c.DataDir(),
		"--amqp", fmt.Sprintf("127.0.0.1:%d", c.AMQPPort),
		"--http", fmt.Sprintf("127.0.0.1:%d", c.HTTPPort),
	}
	if len(c.members) > 0 {
		args = append(args, "--backbone", fmt.Sprintf("127.0.0.1:%d", c.peerPort), "--cluster", memberList(c.members))
	}
	return exec.Command(path, append(args, c.Args...)...), nil
}

// ready asks /readyz, which answers 200 once clients are served.
func (m MirrorMQ) ready(ctx context.Context, c Config) error {
	return getOK(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", c.HTTPPort))
}

// memberList is the --cluster argument.
func memberList(members []member) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = fmt.Sprintf("%s=127.0.0.1:%d", m.name, m.peerPort)
	}
	return strings.Join(list, ",")
}

// formed has nothing to ask: a member is ready only with a majority.
func (m MirrorMQ) formed(context.Context, []Config) error { return nil }

func (m MirrorMQ) url(c Config) string { return c.amqpURL() }

func (m MirrorMQ) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, m.Binary, "--version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func (m MirrorMQ) cleanup(Config) {}

// getOK is nil when a GET of url answers with status 200 within a second.
func getOK(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true // a poll must not leave a connection behind
	request.SetBasicAuth("guest", "guest")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}
