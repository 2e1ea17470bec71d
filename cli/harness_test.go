package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

// command runs a command line as main would.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, append([]string{"mirrormq"}, args...), strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// want fails the test if the exit code differs, or a text is missing from
// standard error.
func (r result) want(t *testing.T, code int, texts ...string) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Fatalf("standard error lacks %q:\n%s", text, r.stderr)
		}
	}
	return r
}

// wantOut fails the test if standard output differs.
func (r result) wantOut(t *testing.T, stdout string) {
	t.Helper()
	if r.stdout != stdout {
		t.Fatalf("standard output %q, want %q", r.stdout, stdout)
	}
}

// watched is an io.Writer whose text other goroutines can wait for.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	more *sync.Cond
}

func newWatched() *watched {
	w := &watched{}
	w.more = sync.NewCond(&w.mu)
	return w
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	w.more.Broadcast()
	return len(b), nil
}

// waitFor returns all the text once it holds the part.
func (w *watched) waitFor(t *testing.T, part string) string {
	t.Helper()
	return w.waitForCount(t, part, min(len(part), 1))
}

// waitForCount returns all the text once it holds the part that many times.
func (w *watched) waitForCount(t *testing.T, part string, count int) string {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() { w.more.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(29 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	for strings.Count(w.text.String(), part) < count {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come; so far: %s", part, w.text.String())
		}
		w.more.Wait()
	}
	return w.text.String()
}

// asCommand is the variable that makes the test binary run as mirrormq.
const asCommand = "MIRRORMQ_TEST_AS_COMMAND"

// process is a mirrormq of its own, for what lasts and what signals end.
type process struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr *watched
	ended          chan struct{} // closed when it has
}

// start starts a command line. It is killed when the test ends, if need be.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(self, args...), stdout: newWatched(), stderr: newWatched(), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asCommand+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // The exit code is in ProcessState.
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // Fails if it has ended, as it should.
		<-p.ended
	})
	return p
}

// signal sends a signal and returns the exit code.
func (p *process) signal(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// uniqueName is a name for a queue or an exchange of this test.
func uniqueName(t *testing.T) string {
	return fmt.Sprintf("cli-test-%d-%d-%s", os.Getpid(), time.Now().UnixNano(), strings.ReplaceAll(t.Name(), "/", "-"))
}
