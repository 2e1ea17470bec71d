package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// A broker that dies is started again after restartMin, each time later when
	// it did not live longer than that, up to restartMax.
	restartMin = time.Second
	restartMax = 30 * time.Second
	// outputDelay is how long the output of a broker that has ended is waited for.
	outputDelay = time.Second
)

// localBroker is one broker of a local cluster, a process of its own.
type localBroker struct {
	name, program string
	args          []string
	amqp, http    string // URLs
	out           *prefixed
	pid           atomic.Int64  // 0 while it does not run
	ended         chan struct{} // closed when it is not started any more
	// stopError is how it ended when it was asked to; read after ended.
	stopError error
}

type eventKind uint8

const (
	brokerStarted eventKind = iota + 1
	brokerDied
	// brokerGaveUp: it is not started any more. The last event of a broker.
	brokerGaveUp
)

// event is what becomes of a broker.
type event struct {
	broker *localBroker
	kind   eventKind
	err    error         // of brokerDied
	again  time.Duration // of brokerDied: until it is started again
}

// supervise runs the broker until ctx ends, or until it dies and is not to be
// started again. It ends with brokerGaveUp.
func (b *localBroker) supervise(ctx context.Context, l *localCluster, events chan<- event) {
	defer func() {
		close(b.ended)
		events <- event{broker: b, kind: brokerGaveUp}
	}()
	wait := restartMin
	for {
		began := time.Now()
		err := b.run(ctx, l.kill, func() { events <- event{broker: b, kind: brokerStarted} })
		if ctx.Err() != nil {
			b.stopError = unlessAsked(err)
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(began) > restartMax {
			wait = restartMin
		}
		events <- event{broker: b, kind: brokerDied, err: err, again: wait}
		if !l.restart {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, restartMax)
	}
}

// run runs the broker's process once: until it ends, or ctx does and it stops,
// or kill is closed after that.
func (b *localBroker) run(ctx context.Context, kill <-chan struct{}, started func()) error {
	if ctx.Err() != nil {
		return nil
	}
	// The kernel ends a child with the thread that started it: this one stays
	// until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(b.program, b.args...)
	cmd.Stdout, cmd.Stderr = b.out, b.out
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		return err
	}
	b.pid.Store(int64(cmd.Process.Pid))
	defer b.pid.Store(0)
	started()
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-ctx.Done():
			askToStop(cmd.Process)
		case <-ended:
			return
		}
		select {
		case <-kill:
			_ = cmd.Process.Kill() // Fails if it has ended.
		case <-ended:
		}
	})
	err := cmd.Wait()
	close(ended)
	watching.Wait()
	b.out.flush()
	return err
}

// unlessAsked is err unless it only says that the process ended because we asked
// it to, before it could do so in its own way.
func unlessAsked(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if exit.ExitCode() == exitInterrupted || ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	return err
}

// commandLine is what a person types to start the broker.
func (b *localBroker) commandLine() string {
	words := []string{programName()}
	for _, arg := range b.args {
		words = append(words, quoted(arg))
	}
	return strings.Join(words, " ")
}

// programName is how this program was called, if that is shorter than its path.
func programName() string {
	if strings.HasPrefix(os.Args[0], "./") {
		return os.Args[0]
	}
	return "mirrormq"
}

// quoted is an argument as a shell wants it.
func quoted(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=@%+", r)
	}
	if arg != "" && strings.IndexFunc(arg, func(r rune) bool { return !plain(r) }) < 0 {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
