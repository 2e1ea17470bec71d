package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// poll is how often a state that nobody announces is looked at.
const poll = 5 * time.Millisecond

// Broker is one broker of a cluster: its place and, while it runs, its process.
type Broker struct {
	Name string
	// AMQP, HTTP and Backbone are its addresses, the same over all restarts.
	AMQP, HTTP, Backbone string
	// Data is its data directory; Output the file with all that it printed.
	Data, Output string

	index    int
	binary   string
	args     []string
	timeline *Timeline
	// unexpected is told of an end that nobody asked for.
	unexpected func(*Broker, error)

	mu struct {
		sync.Mutex
		process *process
	}
}

// process is one life of a broker.
type process struct {
	command  *exec.Cmd
	done     chan struct{} // closed when it has been reaped
	expected chan struct{} // closed before it is ended by us
	once     sync.Once
	paused   bool // Guarded by the broker's mu.
}

func (p *process) expect() { p.once.Do(func() { close(p.expected) }) }

// URL is where clients connect to.
func (b *Broker) URL() string { return "amqp://guest:guest@" + b.AMQP + "/" }

// Launch starts the process and does not wait until it serves.
func (b *Broker) Launch() error {
	output, err := os.OpenFile(b.Output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close() // The process has a descriptor of its own.
	fmt.Fprintf(output, "--- %9.3f start\n", b.timeline.now().Seconds())
	p := &process{command: exec.Command(b.binary, b.args...), done: make(chan struct{}), expected: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = output, output
	p.command.SysProcAttr = attributes()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alive() != nil {
		return fmt.Errorf("testcluster: %s runs already", b.Name)
	}
	if err := p.command.Start(); err != nil {
		return err
	}
	b.timeline.Note("%s starts, pid %d", b.Name, p.command.Process.Pid)
	b.mu.process = p
	go b.reap(p)
	return nil
}

func (b *Broker) reap(p *process) {
	err := p.command.Wait()
	select {
	case <-p.expected:
	default:
		b.timeline.Note("%s ended by itself: %v", b.Name, err)
		b.unexpected(b, err)
	}
	close(p.done)
}

// alive returns the process while it runs, else nil. REQUIRES: mu held.
func (b *Broker) alive() *process {
	if p := b.mu.process; p != nil {
		select {
		case <-p.done:
		default:
			return p
		}
	}
	return nil
}

// answers reports whether the process runs and is not paused.
func (b *Broker) answers() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.alive()
	return p != nil && !p.paused
}

// AwaitReady returns when the broker serves clients.
func (b *Broker) AwaitReady(ctx context.Context) error {
	for {
		if err := b.get(ctx, "/readyz", nil); err == nil {
			b.timeline.Note("%s is ready", b.Name)
			return nil
		}
		if !b.answers() {
			return fmt.Errorf("testcluster: %s does not run:\n%s", b.Name, b.Tail(4096))
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("testcluster: %s is not ready: %w\n%s", b.Name, err, b.Tail(4096))
		}
	}
}

// expectEnd says that the process may end by itself, and returns what is closed
// when it has.
func (b *Broker) expectEnd() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.alive()
	if p == nil {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	p.expect()
	return p.done
}

// kill ends the process with SIGKILL and waits until it is gone.
func (b *Broker) kill() {
	b.mu.Lock()
	p := b.alive()
	b.mu.Unlock()
	if p == nil {
		return
	}
	p.expect()
	_ = p.command.Process.Kill() // Fails only when it has ended by now.
	<-p.done
}

// terminate asks the process to stop (SIGTERM) and waits for its end; after
// ctx it is killed.
func (b *Broker) terminate(ctx context.Context) error {
	b.mu.Lock()
	p := b.alive()
	b.mu.Unlock()
	if p == nil {
		return nil
	}
	p.expect()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		if code := p.command.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("testcluster: %s stopped with exit status %d:\n%s", b.Name, code, b.Tail(4096))
		}
		return nil
	case <-ctx.Done():
		b.kill()
		return fmt.Errorf("testcluster: %s did not stop: %w\n%s", b.Name, ctx.Err(), b.Tail(4096))
	}
}

// pause stops the process from running (SIGSTOP), or lets it go on (SIGCONT).
func (b *Broker) pause(paused bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.alive()
	if p == nil {
		return fmt.Errorf("testcluster: %s does not run", b.Name)
	}
	p.paused = paused
	if paused {
		return p.command.Process.Signal(syscall.SIGSTOP)
	}
	return p.command.Process.Signal(syscall.SIGCONT)
}

// get asks the broker's HTTP side, and decodes the answer if into is not nil.
func (b *Broker) get(ctx context.Context, path string, into func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return b.ask(ctx, http.MethodGet, path, nil, into)
}

// ask makes a request of the broker's HTTP side.
func (b *Broker) ask(ctx context.Context, method, path string, body io.Reader, into func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+b.HTTP+path, body)
	if err != nil {
		return err
	}
	request.Close = true // A poll must not leave a connection behind.
	request.SetBasicAuth("guest", "guest")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s of %s: %s", method, path, b.Name, response.Status)
	}
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return into(response.Body)
}

// Tail is the last n bytes of what the broker printed.
func (b *Broker) Tail(n int64) string {
	f, err := os.Open(b.Output)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, _ := io.ReadAll(f) // It is for a failure's message: what there is.
	return string(text)
}

// pause waits, or returns the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Build makes the broker's binary in a directory, with the race detector if
// the caller has it. root is the repository.
func Build(ctx context.Context, root, dir string) (string, error) {
	binary := filepath.Join(dir, "mirrormq")
	args := []string{"build", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	command := exec.CommandContext(ctx, "go", append(args, "./cli")...)
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return binary, nil
}
