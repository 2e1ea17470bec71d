// Package launch starts brokers as processes of their own, alone or as a
// cluster, MirrorMQ's binary or Debian's RabbitMQ and others beside it, waits
// until they serve, and stops them. The load generator, the conformance run,
// the client smoke tests and the crash loops use it; it knows the brokers only
// by their command lines and ports.
package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/mirrormq/mirrormq/internal/freeport"
)

// ErrAbsent is wrapped by what Start returns when the broker's program is not
// on this machine, so that a caller can skip instead of failing.
var ErrAbsent = errors.New("launch: broker program not found")

// Program is a broker that Start knows how to run.
type Program interface {
	// Name is the broker's name in reports: "mirrormq", "rabbitmq", …
	Name() string
	// find is the path of its executable, or ErrAbsent.
	find() (string, error)
	// command prepares the directory and builds the command to run.
	command(Config) (*exec.Cmd, error)
	// ready answers nil once the broker at c's ports serves clients.
	ready(ctx context.Context, c Config) error
	// formed answers nil once the brokers, which are all ready, are one cluster.
	formed(ctx context.Context, all []Config) error
	// url is where the broker's clients connect to.
	url(Config) string
	// version is the program's version as it tells it itself.
	version(ctx context.Context) string
	// cleanup ends what the program left running after its own end.
	cleanup(Config)
}

// Installed is nil when the program is on this machine, else it wraps
// ErrAbsent and says what to do.
func Installed(program Program) error {
	_, err := program.find()
	return err
}

// Version is the program's in its own words, "" when it doesn't tell.
func Version(ctx context.Context, program Program) string { return program.version(ctx) }

// Config says where a broker keeps its files and listens. The zero value of
// each port means a free one, chosen by Start.
type Config struct {
	// Dir holds everything the broker writes: data, log output, home. It must
	// exist. Starting again with the same Config finds the same data.
	Dir string
	// AMQPPort and HTTPPort are on 127.0.0.1.
	AMQPPort, HTTPPort int
	// peerPort is where members of a cluster hear one another, epmdPort that of
	// Erlang's port mapper; kept so that a restart finds the same node.
	peerPort, epmdPort int
	// HTTP asks for the HTTP API where it costs something: RabbitMQ's
	// management plugin. MirrorMQ always serves it.
	HTTP bool
	// Args are added to the broker's command line.
	Args []string
	// name is the broker's among the members of its cluster, itself included;
	// there are none for a broker alone. secret is what they share.
	name    string
	members []member
	secret  string
}

// member is what brokers of a cluster must know of each other.
type member struct {
	name               string
	amqpPort, peerPort int
}

// Broker is a running broker process.
type Broker struct {
	// Program and Config are what it was started with, ports filled in: pass
	// them to Start again for a restart on the same data.
	Program Program
	Config  Config

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been reaped

	mu      sync.Mutex
	exitErr error // why it ended; set before done is closed
}

// Start runs program and returns once it serves AMQP, or the context ends, or
// the process does. The error then holds the end of the broker's output.
func Start(ctx context.Context, program Program, c Config) (*Broker, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	b, err := start(program, c)
	if err != nil {
		return nil, err
	}
	if err := b.serve(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// start starts the process and does not wait until it serves.
// REQUIRES: c.fill() was called.
func start(program Program, c Config) (*Broker, error) {
	cmd, err := program.command(c)
	if err != nil {
		return nil, err
	}
	output, err := os.OpenFile(c.outputFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the process has its own descriptor
	cmd.Stdout = output
	cmd.Stderr = output
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("launch: start %s: %w", program.Name(), err)
	}
	b := &Broker{Program: program, Config: c, cmd: cmd, done: make(chan struct{})}
	go b.reap()
	return b, nil
}

// serve waits until the broker serves. If that fails it is killed.
func (b *Broker) serve(ctx context.Context) error {
	if err := b.awaitReady(ctx); err != nil {
		b.Kill()
		return fmt.Errorf("launch: %s did not serve: %w\n%s", b.Program.Name(), err, b.Tail(4096))
	}
	return nil
}

// fill chooses the ports and the secret that are not set.
func (c *Config) fill() error {
	if c.secret == "" {
		c.secret = rand.Text()
	}
	for _, port := range []*int{&c.AMQPPort, &c.HTTPPort, &c.peerPort, &c.epmdPort} {
		if *port != 0 {
			continue
		}
		free, err := FreePort()
		if err != nil {
			return err
		}
		*port = free
	}
	return nil
}

func (c Config) outputFile() string { return filepath.Join(c.Dir, "output.log") }

// DataDir is where the broker's data lie, for measuring its size.
func (c Config) DataDir() string { return filepath.Join(c.Dir, "data") }

// FreePort is a TCP port of 127.0.0.1 that was free a moment ago. Another
// process may take it before the caller does.
func FreePort() (int, error) {
	addresses, err := freeport.Addresses(1)
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addresses[0])
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

func (b *Broker) reap() {
	err := b.cmd.Wait()
	b.mu.Lock()
	b.exitErr = err
	b.mu.Unlock()
	close(b.done)
}

func (b *Broker) awaitReady(ctx context.Context) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		err := b.Program.ready(ctx, b.Config)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-b.done:
			return fmt.Errorf("it ended: %w", b.exit())
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %w)", ctx.Err(), err)
		}
	}
}

func (b *Broker) exit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.exitErr == nil {
		return errors.New("exit status 0")
	}
	return b.exitErr
}

// URL is where clients connect to: for AMQP the broker's default vhost, as the
// user guest.
func (b *Broker) URL() string { return b.Program.url(b.Config) }

func (c Config) amqpURL() string { return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", c.AMQPPort) }

// HTTPURL is the root of the broker's HTTP API, without a trailing slash.
func (b *Broker) HTTPURL() string { return fmt.Sprintf("http://127.0.0.1:%d", b.Config.HTTPPort) }

// PID is the process that was started. RabbitMQ's virtual machine is a child
// of it.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Done is closed when the process has ended.
func (b *Broker) Done() <-chan struct{} { return b.done }

// Stop asks the broker to stop (SIGTERM) and waits for its end; when ctx ends
// before that, it kills the broker and returns ctx's error. Calling it for a
// broker that has ended does nothing.
func (b *Broker) Stop(ctx context.Context) error {
	defer b.Program.cleanup(b.Config)
	if b.ended() {
		return nil
	}
	terminateGroup(b.cmd.Process)
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		killGroup(b.cmd.Process)
		<-b.done
		return fmt.Errorf("launch: %s did not stop: %w", b.Program.Name(), ctx.Err())
	}
}

// ended guards against signalling a process id that is someone else's by now.
func (b *Broker) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// Kill ends the broker at once (SIGKILL) and waits until it is gone.
func (b *Broker) Kill() {
	if !b.ended() {
		killGroup(b.cmd.Process)
		<-b.done
	}
	b.Program.cleanup(b.Config)
}

// Tail is the last n bytes of what the broker printed, for a failure message.
func (b *Broker) Tail(n int64) string {
	f, err := os.Open(b.Config.outputFile())
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(text)
}
