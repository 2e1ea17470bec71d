package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
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
	return commandContext(t, context.Background(), stdin, args...)
}

func commandContext(t *testing.T, ctx context.Context, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
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
	late := time.AfterFunc(30*time.Second, func() { w.more.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(29 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	for !strings.Contains(w.text.String(), part) {
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come; so far: %s", part, w.text.String())
		}
		w.more.Wait()
	}
	return w.text.String()
}

// uniqueName is a name for a queue or an exchange of this test.
func uniqueName(t *testing.T) string {
	return fmt.Sprintf("cli-test-%d-%d-%s", os.Getpid(), time.Now().UnixNano(), strings.ReplaceAll(t.Name(), "/", "-"))
}
