package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// rabbitBin is where Debian's package rabbitmq-server puts scripts that run
// as the calling user; those in /usr/sbin switch to the user rabbitmq.
const rabbitBin = "/usr/lib/rabbitmq/bin"

// RabbitMQ runs a node of Debian's RabbitMQ with the settings that it has out
// of the box, apart from where it listens, keeps its files and finds the other
// nodes of its cluster.
type RabbitMQ struct{}

// Name implements Program.
func (RabbitMQ) Name() string { return "rabbitmq" }

func (RabbitMQ) find() (string, error) {
	server := filepath.Join(rabbitBin, "rabbitmq-server")
	if _, err := os.Stat(server); err != nil {
		return "", fmt.Errorf("%w: %w (Debian: apt-get install rabbitmq-server)", ErrAbsent, err)
	}
	return server, nil
}

func (RabbitMQ) command(c Config) (*exec.Cmd, error) {
	server, err := RabbitMQ{}.find()
	if err != nil {
		return nil, err
	}
	plugins, settings := "[].", "# RabbitMQ's defaults\n"
	if c.HTTP {
		plugins = "[rabbitmq_management]."
		settings += fmt.Sprintf("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n", c.HTTPPort)
	}
	if len(c.members) > 0 {
		settings += "cluster_formation.peer_discovery_backend = classic_config\n"
	}
	for i, m := range c.members {
		settings += fmt.Sprintf("cluster_formation.classic_config.nodes.%d = %s\n", i+1, rabbitNode(m.amqpPort))
	}
	files := map[string]string{"enabled_plugins": plugins, "rabbitmq.conf": settings}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	home := filepath.Join(c.Dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	cookie := filepath.Join(home, ".erlang.cookie")
	if _, err := os.Stat(cookie); errors.Is(err, os.ErrNotExist) {
		// Erlang refuses a cookie that others may read.
		if err := os.WriteFile(cookie, []byte(c.secret), 0o400); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(server, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), rabbitEnvironment(c)...)
	return cmd, nil
}

// rabbitNode is the Erlang name of the node that serves clients at the port.
func rabbitNode(amqpPort int) string { return fmt.Sprintf("bench%d@localhost", amqpPort) }

// rabbitEnvironment keeps a node apart from every other one on the machine:
// its own name, ports, Erlang port mapper and home.
func rabbitEnvironment(c Config) []string {
	return []string{
		"HOME=" + filepath.Join(c.Dir, "home"),
		"RABBITMQ_NODENAME=" + rabbitNode(c.AMQPPort),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + strconv.Itoa(c.AMQPPort),
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(c.peerPort),
		"RABBITMQ_MNESIA_BASE=" + c.DataDir(),
		"RABBITMQ_LOG_BASE=" + filepath.Join(c.Dir, "log"),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(c.Dir, "rabbitmq"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(c.Dir, "enabled_plugins"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_EPMD_PORT=" + strconv.Itoa(c.epmdPort),
	}
}

// ready asks for the AMQP greeting: RabbitMQ opens its listeners last. With
// the management plugin it also asks the HTTP API.
func (RabbitMQ) ready(ctx context.Context, c Config) error {
	if err := greeted(ctx, c.AMQPPort); err != nil {
		return err
	}
	if c.HTTP {
		return getOK(ctx, fmt.Sprintf("http://127.0.0.1:%d/api/overview", c.HTTPPort))
	}
	return nil
}

// greeted is nil when the port answers a protocol header with a method frame
// (connection.start) within a second.
func greeted(ctx context.Context, port int) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return err
	}
	if first[0] != 1 { // FRAME-METHOD, AMQP 0-9-1 section 4.2.3
		return fmt.Errorf("port %d speaks something else", port)
	}
	return nil
}

// formed asks the first node who runs. The others join it when they start for
// the first time: they find it by then (StartCluster).
func (RabbitMQ) formed(ctx context.Context, all []Config) error {
	cmd := exec.CommandContext(ctx, filepath.Join(rabbitBin, "rabbitmqctl"), "-q", "await_online_nodes", strconv.Itoa(len(all)))
	cmd.Env = append(os.Environ(), rabbitEnvironment(all[0])...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl await_online_nodes: %w: %s", err, out)
	}
	return nil
}

func (RabbitMQ) url(c Config) string { return c.amqpURL() }

func (RabbitMQ) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server").Output()
	if err != nil {
		return ""
	}
	return "RabbitMQ " + strings.TrimSpace(string(out))
}

// mapperPatience bounds how long the port mapper may take a node for running
// that has ended.
const mapperPatience = 5 * time.Second

// cleanup ends the Erlang port mapper that the node left behind. It listens
// on a port that only this node and those of its cluster were told of, and it
// refuses to end while it takes one of them for running. After the last one's
// end, which is when c has no members, that is asked again for a while.
func (RabbitMQ) cleanup(c Config) {
	deadline := time.Now().Add(mapperPatience)
	for {
		cmd := exec.Command("epmd", "-port", strconv.Itoa(c.epmdPort), "-kill")
		cmd.Env = append(os.Environ(), "ERL_EPMD_ADDRESS=127.0.0.1")
		// An error is that there is no mapper: all is well.
		out, _ := cmd.CombinedOutput()
		if !bytes.Contains(out, []byte("not allowed")) || len(c.members) > 0 || time.Now().After(deadline) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
