package launch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain plays a broker when it is started as one: this test's own program
// stands in for the brokers'.
func TestMain(m *testing.M) {
	if how := os.Getenv("LAUNCH_TEST_BROKER"); how != "" {
		os.Exit(playBroker(how, os.Getenv("LAUNCH_TEST_ADDRESS")))
	}
	goleak.VerifyTestMain(m)
}

// playBroker is ready at address until SIGTERM; "ends" ends by itself with a
// word, "stubborn" ignores SIGTERM.
func playBroker(how, address string) int {
	if how == "ends" {
		fmt.Println("no disk today")
		return 3
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	server := &http.Server{Addr: address, Handler: http.NotFoundHandler()}
	if how != "never" {
		http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
		server.Handler = nil
	}
	go func() { _ = server.ListenAndServe() }()
	for range terminated {
		if how != "stubborn" {
			return 0
		}
	}
	return 0
}

type fake struct {
	how     string
	cleaned *atomic.Int32
}

func (f fake) Name() string          { return "fake" }
func (f fake) find() (string, error) { return os.Executable() }
func (f fake) command(c Config) (*exec.Cmd, error) {
	path, err := f.find()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "LAUNCH_TEST_BROKER="+f.how, fmt.Sprintf("LAUNCH_TEST_ADDRESS=127.0.0.1:%d", c.HTTPPort))
	return cmd, nil
}

func (f fake) ready(ctx context.Context, c Config) error { return MirrorMQ{}.ready(ctx, c) }
func (f fake) formed(context.Context, []Config) error    { return nil }
func (f fake) url(c Config) string                       { return c.amqpURL() }
func (f fake) version(context.Context) string            { return "1" }
func (f fake) cleanup(Config) {
	if f.cleaned != nil {
		f.cleaned.Add(1)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestABrokerServesUntilItIsStoppedAndStartsAgainAtTheSamePorts(t *testing.T) {
	var cleaned atomic.Int32
	config := Config{Dir: t.TempDir()}
	for range 2 {
		b, err := Start(within(t, 30*time.Second), fake{"serves", &cleaned}, config)
		if err != nil {
			t.Fatal(err)
		}
		if err := getOK(t.Context(), b.HTTPURL()+"/readyz"); err != nil {
			t.Error(err)
		}
		if err := b.Stop(within(t, 30*time.Second)); err != nil {
			t.Error(err)
		}
		select {
		case <-b.Done():
		default:
			t.Error("stopped, and still running")
		}
		if config.HTTPPort != 0 && b.Config.HTTPPort != config.HTTPPort {
			t.Errorf("restarted at port %d, want %d", b.Config.HTTPPort, config.HTTPPort)
		}
		config = b.Config
	}
	if cleaned.Load() != 2 {
		t.Errorf("cleaned up %d times", cleaned.Load())
	}
}

func TestABrokerThatEndsByItselfIsAnErrorWithItsLastWords(t *testing.T) {
	_, err := Start(within(t, 30*time.Second), fake{"ends", nil}, Config{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no disk today") {
		t.Errorf("%v", err)
	}
}

func TestABrokerThatNeverServesIsKilled(t *testing.T) {
	_, err := Start(within(t, 300*time.Millisecond), fake{"never", nil}, Config{Dir: t.TempDir()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestABrokerThatDoesNotStopIsKilled(t *testing.T) {
	b, err := Start(within(t, 30*time.Second), fake{"stubborn", nil}, Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestAMissingProgramIsNamedAsSuch(t *testing.T) {
	_, err := Start(t.Context(), MirrorMQ{Binary: "./no-such-program"}, Config{Dir: t.TempDir()})
	if !errors.Is(err, ErrAbsent) {
		t.Errorf("%v", err)
	}
}
